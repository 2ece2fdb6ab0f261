// The operations that activations.h uses, on one number a thread in place of the CPU engine's vectors, so that both
// engines share the text of every activation.
//
// The exponential and the reciprocal are the GPU's own, good to about 2^-22 relative; the operands of the recurrent
// product are good to 2^-11 at best, so more accuracy would not show.
#pragma once

#ifdef ZOO_EMULATED
#include "emulator.h"
#else
#define ZOO_INLINE __device__ __forceinline__
#endif

namespace zoo {
namespace ZOO_ISA {

template <class T>
using Vec = T;

template <class T>
struct Exponential {
  static constexpr T kLimit = T(87);
};

template <class T>
ZOO_INLINE T broadcast(T x) {
  return x;
}

// Comparisons, not fminf and fmaxf, which drop a NaN.
template <class T>
ZOO_INLINE T at_most(T x, T bound) {
  return x > bound ? bound : x;
}

template <class T>
ZOO_INLINE T at_least(T x, T bound) {
  return x < bound ? bound : x;
}

template <class T>
ZOO_INLINE T absolute(T x) {
  return fabsf(x);
}

template <class T>
ZOO_INLINE T reciprocal(T x) {
#ifdef ZOO_EMULATED
  return 1.0f / x;
#else
  T y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// 0 and infinity beyond what the type holds. Numbers below the smallest normal one count as 0.
template <class T>
ZOO_INLINE T exponential(T x) {
#ifdef ZOO_EMULATED
  return std::exp(x);
#else
  T y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * T(1.4426950408889634)));
  return y;
#endif
}

// The error is about 2^-22 in absolute terms, not relative to a result near 0; see above for why that is enough.
template <class T>
ZOO_INLINE T exponential_minus_one(T x) {
  return exponential<T>(x) - T(1);
}

// log(1 + u) for u in [0, 1]
template <class T>
ZOO_INLINE T log_one_plus(T u) {
  return __logf(T(1) + u);
}

template <class T>
ZOO_INLINE T erfc_of_positive(T x) {
  return erfcf(x);
}

}  // namespace ZOO_ISA
}  // namespace zoo
