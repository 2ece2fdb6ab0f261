// Shared by both kernels: which numbers a thread owns, and what it keeps in registers for the whole sequence.
#pragma once

#include "activations.h"
#include "warp.h"

namespace zoo {
namespace {

using namespace ZOO_ISA;

constexpr int kUnits = ZOO_UNITS, kWarps = kUnits / 16, kThreads = kWarps * 32, kRows = 8;
constexpr int kTiles = kUnits / 16;          // tiles of 16 along the units
constexpr int kStride = kUnits + 8;          // of a row of h; the 8 more put rows in different banks
constexpr int kWideStride = 4 * kUnits + 8;  // of a row of d_z
constexpr int kStages = ZOO_STAGES, kAhead = kStages - 1;
static_assert(kUnits % 32 == 0 && kUnits <= 128, "units are padded to a multiple of 32");

typedef ZOO_INPUT_GATE<float> InputGate;
typedef ZOO_FORGET_GATE<float> ForgetGate;
typedef ZOO_CANDIDATE<float> Candidate;
typedef ZOO_OUTPUT_GATE<float> OutputGate;
typedef ZOO_HIDDEN<float> Hidden;

// The place of a thread, and the four elements e of (unit, row) that it owns: rows row0 + e % 2, units unit0 +
// 8 * (e / 2). The last block may have fewer rows than it has room for: a missing row counts as 0 and is not written.
struct Place {
  int warp, lane, row0, unit0, rows;
  ZOO_INLINE explicit Place(int batch)
      : warp(threadIdx.x >> 5), lane(threadIdx.x & 31), row0(blockIdx.x * kRows + 2 * (lane & 3)),
        unit0(warp * 16 + (lane >> 2)), rows(batch) {}
  ZOO_INLINE bool there(int j) const { return row0 + j < rows; }
  ZOO_INLINE int first() const { return row0 * kUnits + unit0; }         // of element 0 in (b, n)
  ZOO_INLINE int column() const { return warp * 64 + (lane >> 2) * 8; }  // in the order of z; 4 more for half 1
};

// The derivative with respect to the parameter, 0 for activations without one. The last argument is always 0, an int:
// overload resolution then takes the first function wherever the activation has `by_parameter`.
template <class Row>
ZOO_INLINE auto learned_slope(float z, float p, int) -> decltype(Row::by_parameter(z, p)) {
  return Row::by_parameter(z, p);
}
template <class Row>
ZOO_INLINE float learned_slope(float, float, long) {
  return 0.0f;
}

// The value of a gate and its slope, from what was kept of it.
template <class Row>
ZOO_INLINE void value_and_slope(float kept, float p, float& value, float& slope) {
  slope = Row::slope(kept, p);
  value = Row::kSaves == kInput ? Row::value(kept, p) : kept;
}

// Offset of element e in (b, n), relative to element 0.
ZOO_INLINE constexpr int offset(int e) { return (e & 1) * kUnits + 8 * (e >> 1); }

template <class Row>
ZOO_INLINE float kept_of(float z, float value) {
  return Row::kSaves == kInput ? z : value;
}

// The first operands of the tensor cores: this warp's 16 rows of each gate's matrix.
struct Fragments {
  Word a[4][kTiles][4];
  ZOO_INLINE void load(const uint4* packed, const Place& place) {
#pragma unroll
    for (int gate = 0; gate < 4; ++gate)
#pragma unroll
      for (int k = 0; k < kTiles; ++k) {
        const uint4 word = packed[((place.warp * 4 + gate) * kTiles + k) * 32 + place.lane];
        a[gate][k][0] = word.x, a[gate][k][1] = word.y, a[gate][k][2] = word.z, a[gate][k][3] = word.w;
      }
  }
};

// The parameters of this thread's units for one activation.
struct Parameters {
  float p[5][2];
  ZOO_INLINE void load(const float* parameters, const Place& place) {
#pragma unroll
    for (int k = 0; k < 5; ++k)
#pragma unroll
      for (int half = 0; half < 2; ++half) p[k][half] = parameters[k * kUnits + place.unit0 + 8 * half];
  }
};

ZOO_INLINE float4 to_float4(const float* x) { return make_float4(x[0], x[1], x[2], x[3]); }

ZOO_INLINE void from_float4(float* x, float4 v) { x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w; }

ZOO_INLINE int next(int stage) { return stage + 1 == kStages ? 0 : stage + 1; }

// The exponent field of the power of two that brings `largest` (a float >= 0, as bits) to between 8 and 16.
ZOO_INLINE int scale_field(Word largest) {
  const int field = 257 - static_cast<int>(largest >> 23);
  return field < 1 ? 1 : field > 253 ? 253 : field;
}

}  // namespace
}  // namespace zoo

using namespace zoo;
