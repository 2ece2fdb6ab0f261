// Which instruction set runs, and on which threads.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#define ZOO_PROCESS getpid()
#else
#define ZOO_PROCESS 0
#endif

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "lstm.h"

namespace zoo {
namespace {

const Engine* const kEngines[] = {
#if defined(__x86_64__)
    &avx512_engine,
    &avx2_engine,
#endif
    &portable_engine,
};

std::atomic<const Engine*> in_use{nullptr};

bool runs_here(const Engine* engine) {
#if defined(__x86_64__)
  if (engine == &avx512_engine) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
  }
  if (engine == &avx2_engine) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return engine == &portable_engine;
}

// Flushes subnormal numbers to 0 during its lifetime. Gradients that vanish over many steps would otherwise become
// subnormal, where the processor is a hundred times slower. TensorFlow does the same in its own threads.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushDenormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
    __asm__ volatile("msr fpcr, %0" ::"r"(before_ | (uint64_t{1} << 24)));
  }
  ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" ::"r"(before_)); }

 private:
  uint64_t before_;
#endif
};

constexpr int kLookOut = 50;  // microseconds

// A call with tasks left. It is on the stack of its caller, which removes it from the list before returning.
struct Job {
  void (*body)(void*, int64_t);
  void* context;
  int64_t tasks;
  std::atomic<int64_t> next{0};
  int wanted;      // helpers still to come; guarded by the pool's mutex, as is the next
  int active = 0;  // helpers at work
  std::condition_variable left;
  std::atomic<bool> out_of_memory{false};

  void work() {
    const FlushDenormals flush;
    try {
      for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) body(context, task);
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
  }
};

// Threads that sleep until there is a job. All calls together use at most the largest number of threads of any of them:
// a call waits until its threads are free. So two layers that run at once do not oversubscribe the machine.
class Pool {
 public:
  void run(Job& job, int threads, int limit) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (limit > limit_) limit_ = limit;
    free_.wait(lock, [&] { return in_use_ + threads <= limit_; });
    in_use_ += threads;
    job.wanted = threads - 1;
    while (helpers_ < limit_ - 1) start_helper();
    if (job.wanted > 0) {
      jobs_.push_back(&job);
      waiting_.store(1, std::memory_order_relaxed);
      work_.notify_all();
    }
    lock.unlock();
    job.work();
    lock.lock();
    // Helpers that have not started are no longer needed; those at work finish their last task.
    for (auto at = jobs_.begin(); at != jobs_.end(); ++at) {
      if (*at == &job) {
        jobs_.erase(at);
        waiting_.store(!jobs_.empty(), std::memory_order_relaxed);
        break;
      }
    }
    job.left.wait(lock, [&] { return job.active == 0; });
    in_use_ -= threads;
    free_.notify_all();
  }

 private:
  // The backward pass of a small layer follows its forward pass within some microseconds, and waking a thread takes
  // longer than that: a helper that has just worked looks out for a little while before it sleeps.
  void look_out() const {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(kLookOut);
    while (waiting_.load(std::memory_order_relaxed) == 0 && std::chrono::steady_clock::now() < until) {
#if defined(__x86_64__)
      for (int i = 0; i < 16; ++i) _mm_pause();
#endif
    }
  }

  void start_helper() {
    ++helpers_;
    std::thread([this] { help(); }).detach();
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      if (jobs_.empty()) {
        lock.unlock();
        look_out();
        lock.lock();
      }
      work_.wait(lock, [&] { return !jobs_.empty(); });
      Job& job = *jobs_.front();
      if (--job.wanted == 0) jobs_.pop_front();
      waiting_.store(!jobs_.empty(), std::memory_order_relaxed);
      ++job.active;
      lock.unlock();
      job.work();
      lock.lock();
      if (--job.active == 0) job.left.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable work_, free_;
  std::deque<Job*> jobs_;
  std::atomic<int> waiting_{0};  // whether jobs_ has any, to be seen without the mutex
  int limit_ = 1, in_use_ = 0;
  int helpers_ = 0;
};

// Never destroyed, because its threads may outlive static destructors; made anew after a fork, which copies no threads.
Pool& pool() {
  static std::mutex mutex;
  static Pool* made = nullptr;
  static long owner = 0;
  std::lock_guard<std::mutex> lock(mutex);
  if (!made || owner != static_cast<long>(ZOO_PROCESS)) {
    made = new Pool;
    owner = static_cast<long>(ZOO_PROCESS);
  }
  return *made;
}

}  // namespace

void use(const Engine* chosen) { in_use = chosen; }

const Engine* engine(const char* name) {
  if (const Engine* chosen = in_use; chosen && !name) return chosen;
  for (const Engine* candidate : kEngines) {
    if (runs_here(candidate) && (!name || !std::strcmp(name, candidate->name))) return candidate;
  }
  return nullptr;
}

int64_t second_level_cache() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const long size = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (size > 0) return size;
#endif
  return 1 << 20;
}

void parallel(int64_t tasks, int threads, void (*body)(void*, int64_t), void* context) {
  const int limit = threads < 1 ? 1 : threads;
  Job job;
  job.body = body;
  job.context = context;
  job.tasks = tasks;
  pool().run(job, tasks < limit ? static_cast<int>(tasks) : limit, limit);
  if (job.out_of_memory) throw std::bad_alloc();
}

}  // namespace zoo
