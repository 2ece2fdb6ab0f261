// A block of CUDA threads on one processor thread, to check the kernels where there is no GPU.
//
// Every CUDA thread is a fiber. Warps run from barrier to barrier one after the other, in an order that is drawn anew
// each time: what one warp reads and another writes without a barrier between them comes out wrong sooner or later.
// Lanes of a warp meet at every instruction that they execute together. What is not seen: the memory model, alignment
// in shared memory beyond what the C++ types say, and the approximations of a GPU's exponential.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#define ZOO_INLINE inline
#define __global__
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define ZOO_STATIC_SHARED(TYPE, NAME, COUNT) TYPE* NAME = emulator::shared<TYPE>(__LINE__, COUNT)
#define ZOO_SHARED(TYPE, NAME, COUNT) ZOO_STATIC_SHARED(TYPE, NAME, COUNT)

struct float4 {
  float x, y, z, w;
};
struct uint4 {
  unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline float __logf(float x) { return std::log(x); }
template <class To, class From>
To bits_as(From from) {
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
inline unsigned __float_as_uint(float x) { return bits_as<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return bits_as<float>(x); }

namespace emulator {

struct Index {
  int x;
};

enum State { kRunning, kAtInstruction, kAtBarrier, kDone };

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  State state = kRunning;
};

struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<std::vector<char>> memory;       // shared, by the line that declares it
  std::vector<std::array<unsigned, 8>> given;  // what each lane brings to an instruction
  ucontext_t scheduler;
  int current = 0;
};

extern Block* block;
extern Index thread_index, block_index;

template <class T>
T* shared(int line, size_t count) {
  auto& memory = block->memory;
  if (memory.size() <= static_cast<size_t>(line)) memory.resize(line + 1);
  // Filled with NaN: what is read before it was written shows.
  if (memory[line].empty()) memory[line].assign(count * sizeof(T) + 16, static_cast<char>(0xff));
  return reinterpret_cast<T*>(memory[line].data());
}

void wait(State state);  // until the others of the warp, or of the block, are there

// Bring `mine`, meet the other lanes, and read what they brought by `of`.
template <class Read>
auto together(const std::array<unsigned, 8>& mine, Read read) {
  block->given[thread_index.x] = mine;
  wait(kAtInstruction);
  const std::array<unsigned, 8>* lanes = &block->given[thread_index.x / 32 * 32];
  auto found = read(lanes);
  wait(kAtInstruction);
  return found;
}

}  // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
inline void __syncthreads() { emulator::wait(emulator::kAtBarrier); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  const int lane = threadIdx.x & 31;
  return emulator::together({bits_as<unsigned>(value)},
                            [&](auto* lanes) { return bits_as<T>(lanes[lane ^ distance][0]); });
}

namespace zoo {

typedef unsigned int Word;
typedef unsigned short Half;

// Half precision of the variant: rounded to nearest, ties to even, as the GPU does.
extern bool bfloat16;
inline Half to_half(float x) {
  if (!bfloat16) return bits_as<Half>(static_cast<_Float16>(x));
  const unsigned bits = bits_as<unsigned>(x);
  if (x != x) return 0x7fff;
  return static_cast<Half>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline float from_half(Half h) {
  return bfloat16 ? bits_as<float>(static_cast<unsigned>(h) << 16) : static_cast<float>(bits_as<_Float16>(h));
}

inline Word pack(float low, float high) { return to_half(low) | static_cast<Word>(to_half(high)) << 16; }
inline float half_of(Word word, int which) { return from_half(static_cast<Half>(word >> (16 * which))); }

inline void multiply_add(float* c, const Word* a, Word b0, Word b1) {
  const int lane = threadIdx.x & 31;
  emulator::together({a[0], a[1], a[2], a[3], b0, b1}, [&](auto* lanes) {
    for (int e = 0; e < 4; ++e) {
      const int row = lane / 4 + 8 * (e / 2), column = 2 * (lane % 4) + e % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) {
        // Register of the first operand: 1 for the lower eight rows, 2 for the upper eight columns.
        const auto& first = lanes[row % 8 * 4 + k % 8 / 2];
        const auto& second = lanes[column * 4 + k % 8 / 2];
        sum += half_of(first[row / 8 + 2 * (k / 8)], k % 2) * half_of(second[4 + k / 8], k % 2);
      }
      c[e] += sum;
    }
    return 0;
  });
}

inline void load_tiles(Word* b, const Half* row) {
  const int lane = threadIdx.x & 31;
  const auto address = bits_as<uint64_t>(row);
  emulator::together({static_cast<unsigned>(address), static_cast<unsigned>(address >> 32)}, [&](auto* lanes) {
    for (int tile = 0; tile < 4; ++tile) {
      const auto& of = lanes[tile * 8 + lane / 4];
      const Half* from = bits_as<const Half*>(static_cast<uint64_t>(of[1]) << 32 | of[0]);
      if (bits_as<uint64_t>(from) % 16 != 0) std::abort();  // the GPU would trap
      b[tile] = from[2 * (lane % 4)] | static_cast<Word>(from[2 * (lane % 4) + 1]) << 16;
    }
    return 0;
  });
}

inline void store_transposed(Half* base, int stride, const float* x, int lane) {
  for (int e = 0; e < 4; ++e) base[(2 * (lane % 4) + e % 2) * stride + lane / 4 + 8 * (e / 2)] = to_half(x[e]);
}

inline void copy16(float4* to, const float4* from, bool there) { *to = there ? *from : float4{0, 0, 0, 0}; }
inline void copy4(float* to, const float* from, bool there) { *to = there ? *from : 0; }
inline void end_of_batch() {}
template <int N>
void wait_for_batches() {}

inline Word largest_of_column(Word bits) {
  for (int distance = 4; distance <= 16; distance *= 2) bits = max(bits, __shfl_xor_sync(~0u, bits, distance));
  return bits;
}
inline void raise_to(Word* place, Word bits) { *place = max(*place, bits); }

}  // namespace zoo
