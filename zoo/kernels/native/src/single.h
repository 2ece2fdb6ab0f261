// A batch of one row, forward and backward.
//
// Every weight is used once a step, so copying the kernels into another order would cost as much as several steps. They
// are read in their own order, in whole rows, which requires units that fill whole vectors. For the projection of the
// inputs, steps take the place of the rows of a tile, so that W is read once for several of them.
//
// There is no second row for a second thread: the units are split into parts instead, and all parts of a step must be
// done before the next one begins.
#pragma once

#include <atomic>
#include <thread>

#include "plan.h"

namespace zoo {
namespace ZOO_ISA {

template <class T>
bool single(const Plan<T>& plan) {
  return plan.p.batch == 1 && plan.width == plan.p.units && plan.p.units % 4 == 0 && !plan.in.dropout;
}

// Threads that go through the steps together. Each takes free parts of a step, its own part first, so no thread waits
// for one that sleeps, only for one in the middle of a part.
class Team {
 public:
  static constexpr int kMost = 16;
  Team(int64_t steps, int parts) : steps_(steps), parts_(parts) {}

  // Call `work(step, part)` for the parts of every step that this thread, number `self`, takes.
  template <class Work>
  void walk(int self, Work&& work) {
    for (int64_t step = 0; step < steps_; ++step) {
      if (parts_ == 1) {
        work(step, 0);
        continue;
      }
      for (int i = 0; i < parts_; ++i) {
        const int part = (self + i) % parts_;
        int64_t expected = step;
        if (taken_[part].load(std::memory_order_relaxed) != step) continue;
        if (!taken_[part].compare_exchange_strong(expected, step + 1, std::memory_order_relaxed)) continue;
        work(step, part);
        done_.fetch_add(1, std::memory_order_acq_rel);
      }
      for (int spins = 0; done_.load(std::memory_order_acquire) < (step + 1) * parts_; ++spins) {
        if (spins > kPatience) std::this_thread::yield();
      }
    }
  }

 private:
  static constexpr int kPatience = 4000;
  const int64_t steps_;
  const int parts_;
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<int64_t> taken_[kMost] = {};
};

// `work` on as many threads as there are parts.
template <class Work>
void walk_together(int64_t steps, int64_t parts, int threads, const Work& work) {
  Team team(steps, static_cast<int>(parts));
  parallel(parts, threads, [&](int64_t self) { team.walk(static_cast<int>(self), work); });
}

// The units of each thread on a row: whole vectors.
template <class T>
struct Parts {
  int64_t vectors, parts;
  Parts(const Plan<T>& plan, int threads) : vectors(plan.width / kWidth<T>) {
    constexpr int64_t kLeast = 64;  // units: with fewer, meeting at every step costs more than a thread saves
    parts = smaller(smaller(threads, Team::kMost), larger(plan.width / kLeast, 1));
    parts = smaller(parts, vectors);
  }
  int64_t begin(int64_t part) const { return vectors * part / parts * kWidth<T>; }
};

// x W + bias for R steps from the step s on and the units [begin, end) of every gate, into (R, 4 * units).
template <class T, int R>
void project(const Plan<T>& plan, int64_t s, int64_t begin, int64_t end, T* projected) {
  constexpr int W = kWidth<T>;
  const int64_t units = plan.p.units, columns = kGates * units, channels = plan.p.channels;
  const T* x = plan.in.x + plan.step(s) * channels;
  const int64_t stride = plan.p.go_backwards ? -channels : channels;
  for (int64_t u = begin; u < end; u += W) {
    Vec<T> sum[R][kGates];
    for (int r = 0; r < R; ++r) {
      for (int g = 0; g < kGates; ++g) sum[r][g] = plan.in.bias ? load(plan.in.bias + g * units + u) : Vec<T>{};
    }
    const T* weights = plan.in.kernel + u;
    for (int64_t k = 0; k < channels; ++k, weights += columns) {
      Vec<T> w[kGates];
      for (int g = 0; g < kGates; ++g) w[g] = load(weights + g * units);
      for (int r = 0; r < R; ++r) {
        const Vec<T> value = broadcast(x[r * stride + k]);
        for (int g = 0; g < kGates; ++g) sum[r][g] += value * w[g];
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int g = 0; g < kGates; ++g) store(projected + r * columns + g * units + u, sum[r][g]);
    }
  }
}

// z += h U, for N vectors of each gate from u on.
template <class T, int N>
void add_recurrence(const Plan<T>& plan, const T* hidden, int64_t u, T* z) {
  constexpr int W = kWidth<T>;
  const int64_t units = plan.p.units;
  Vec<T> sum[kGates][N];
  for (int g = 0; g < kGates; ++g) {
    for (int n = 0; n < N; ++n) sum[g][n] = load(z + g * units + u + n * W);
  }
  const T* weights = plan.in.recurrent_kernel + u;
  for (int64_t k = 0; k < units; ++k, weights += kGates * units) {
    const Vec<T> h = broadcast(hidden[k]);
    for (int g = 0; g < kGates; ++g) {
      for (int n = 0; n < N; ++n) sum[g][n] += h * load(weights + g * units + n * W);
    }
  }
  for (int g = 0; g < kGates; ++g) {
    for (int n = 0; n < N; ++n) store(z + g * units + u + n * W, sum[g][n]);
  }
}

// The same for the units [begin, end).
template <class T>
void add_recurrence(const Plan<T>& plan, const T* hidden, int64_t begin, int64_t end, T* z) {
  constexpr int W = kWidth<T>, kWide = kRows > 4 ? 4 : 2;  // vectors of a gate: what the registers hold
  int64_t u = begin;
  for (; u + kWide * W <= end; u += kWide * W) add_recurrence<T, kWide>(plan, hidden, u, z);
  for (; u + 2 * W <= end; u += 2 * W) add_recurrence<T, 2>(plan, hidden, u, z);
  for (; u < end; u += W) add_recurrence<T, 1>(plan, hidden, u, z);
}

// dh = U dz for the units [begin, end), the rows of U four at a time.
template <class T>
void single_product(const Plan<T>& plan, const T* dz, int64_t begin, int64_t end, T* hidden) {
  constexpr int W = kWidth<T>;
  const int64_t columns = kGates * plan.p.units;
  for (int64_t j = begin; j < end; j += 4) {
    const T* u = plan.in.recurrent_kernel + j * columns;
    Vec<T> sum[4] = {}, more[4] = {};
    for (int64_t k = 0; k < columns; k += 2 * W) {
      const Vec<T> d = load(dz + k), e = load(dz + k + W);
      for (int r = 0; r < 4; ++r) {
        sum[r] += load(u + r * columns + k) * d;
        more[r] += load(u + r * columns + k + W) * e;
      }
    }
    for (int r = 0; r < 4; ++r) hidden[j + r] = sum_of_lanes<T>(sum[r] + more[r]);
  }
}

}  // namespace ZOO_ISA
}  // namespace zoo
