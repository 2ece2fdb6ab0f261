// The kernels of lstm.cu on the CPU. The variant is chosen at run time, so that one library serves all of one width.
#define ZOO_EMULATED
#define ZOO_ISA gpu
#include <array>
#include <cstdio>
#include <cstdlib>

#include "simd.h"
//
#include "activations.h"

namespace zoo {

struct Variant {
  int codes[5], masked, clipped, keep, sequences, learned, bfloat16;
} variant;
bool bfloat16;

// The activation of gate `k` as the variant has it. It keeps what it received or its value, as the row says, which
// is known at run time only: hence a number where the kernel reads an enumerator.
template <int k>
struct Chosen {
  struct Kind {
    operator gpu::Saves() const { return gpu::Table<float>::kRows[variant.codes[k]].saves; }
  };
  static constexpr Kind kSaves{};
  static const gpu::Row<float>& row() { return gpu::Table<float>::kRows[variant.codes[k]]; }
  static float value(float z, float p) {
    row().value(&z, 1, p);
    return z;
  }
  static float slope(float kept, float p) {
    float slope;
    row().value_and_slope(&kept, &slope, 1, p);
    return slope;
  }
  static float by_parameter(float z, float p) {
    float slope = 0;
    if (row().by_parameter) row().by_parameter(&z, &slope, 1, p);
    return slope;
  }
};
template <class T>
using InputChoice = Chosen<0>;
template <class T>
using ForgetChoice = Chosen<1>;
template <class T>
using CandidateChoice = Chosen<2>;
template <class T>
using OutputChoice = Chosen<3>;
template <class T>
using HiddenChoice = Chosen<4>;

}  // namespace zoo

#define ZOO_INPUT_GATE zoo::InputChoice
#define ZOO_FORGET_GATE zoo::ForgetChoice
#define ZOO_CANDIDATE zoo::CandidateChoice
#define ZOO_OUTPUT_GATE zoo::OutputChoice
#define ZOO_HIDDEN zoo::HiddenChoice
#define ZOO_MASKED variant.masked
#define ZOO_CLIPPED variant.clipped
#define ZOO_KEEP variant.keep
#define ZOO_SEQUENCES variant.sequences
#define ZOO_LEARNED variant.learned
#include "lstm.cu"

namespace emulator {

Block* block;
Index thread_index, block_index;
static std::mt19937 random_order;

void wait(State state) {
  Fiber& self = *block->fibers[block->current];
  self.state = state;
  swapcontext(&self.context, &block->scheduler);
}

static const std::function<void()>* body;

static void start() {
  (*body)();
  block->fibers[block->current]->state = kDone;
  swapcontext(&block->fibers[block->current]->context, &block->scheduler);
}

// Run lane after lane, each up to where it waits; true where all of the warp are at a barrier or at their end.
static bool run_warp(int warp) {
  bool at_barrier = true;
  for (int lane = 0; lane < 32; ++lane) {
    block->current = thread_index.x = warp * 32 + lane;
    Fiber& fiber = *block->fibers[block->current];
    if (fiber.state == kRunning) swapcontext(&block->scheduler, &fiber.context);
    at_barrier &= fiber.state != kAtInstruction;
  }
  if (!at_barrier)
    for (int lane = 0; lane < 32; ++lane) {
      Fiber& fiber = *block->fibers[warp * 32 + lane];
      if (fiber.state != kAtInstruction) return std::abort(), false;  // lanes of a warp went different ways
      fiber.state = kRunning;
    }
  return at_barrier;
}

static void run_block(int index, int threads, const std::function<void()>& kernel) {
  Block here;
  block = &here;
  block_index.x = index;
  body = &kernel;
  here.given.resize(threads);
  for (int thread = 0; thread < threads; ++thread) {
    here.fibers.push_back(std::make_unique<Fiber>());
    Fiber& fiber = *here.fibers.back();
    fiber.stack.resize(64 << 10);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.context, start, 0);
  }
  std::vector<int> warps;
  for (int warp = 0; warp < threads / 32; ++warp) warps.push_back(warp);
  for (bool done = false; !done;) {
    std::shuffle(warps.begin(), warps.end(), random_order);
    for (int warp : warps)
      while (!run_warp(warp)) {
      }
    done = true;
    for (auto& fiber : here.fibers)
      if (fiber->state == kAtBarrier) fiber->state = kRunning, done = false;
  }
}

}  // namespace emulator

// `name`: "forward" or "backward", the five codes of the activations, then masked, clipped, keep, sequences, learned
// (a bit for each activation), bfloat16.
extern "C" int zoo_emulate(const char* name, int grid, int threads, void** p, int steps, int batch, float clip) {
  char kernel[16];
  zoo::Variant& v = zoo::variant;
  if (std::sscanf(name, "%15s %d %d %d %d %d %d %d %d %d %d %d", kernel, &v.codes[0], &v.codes[1], &v.codes[2],
                  &v.codes[3], &v.codes[4], &v.masked, &v.clipped, &v.keep, &v.sequences, &v.learned,
                  &v.bfloat16) != 12)
    return 1;
  if (threads != zoo::kThreads) return 2;
  zoo::bfloat16 = v.bfloat16;
  auto f = [&](int k) { return static_cast<float*>(p[k]); };
  std::function<void()> run;
  if (!std::strcmp(kernel, "forward"))
    run = [&] {
      forward(f(0), static_cast<uint4*>(p[1]), f(2), f(3), f(4), static_cast<unsigned char*>(p[5]), f(6), f(7), f(8),
              static_cast<float4*>(p[9]), static_cast<float4*>(p[10]), steps, batch, clip);
    };
  else if (!std::strcmp(kernel, "backward"))
    run = [&] {
      backward(static_cast<float4*>(p[0]), static_cast<float4*>(p[1]), static_cast<uint4*>(p[2]), f(3),
               static_cast<unsigned char*>(p[4]), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), steps, batch,
               clip);
    };
  else
    return 3;
  for (int index = 0; index < grid; ++index) emulator::run_block(index, threads, run);
  return 0;
}

extern "C" const char* zoo_activation_name(int code) {
  typedef zoo::gpu::Table<float> Table;
  return code < Table::kSize ? Table::kRows[code].name : nullptr;
}
