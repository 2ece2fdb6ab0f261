// Vectors of the width that this translation unit is compiled for, and the exponential on them.
//
// Written with the vector extensions of GCC and Clang, so that one text serves every instruction set. Included once by
// each lstm_<isa>.cpp inside a namespace of its own: two instruction sets must never share an inline function, because
// the linker would keep only one of its copies, and that may not run on this processor.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define ZOO_INLINE inline __attribute__((always_inline))

namespace zoo {
namespace ZOO_ISA {

template <class T>
struct Lanes {
  static constexpr int kWidth = ZOO_VECTOR_BYTES / sizeof(T);
  typedef T Vector __attribute__((vector_size(ZOO_VECTOR_BYTES)));
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Integer;
  typedef Integer Integers __attribute__((vector_size(ZOO_VECTOR_BYTES)));
};

template <class T>
using Vec = typename Lanes<T>::Vector;
template <class T>
constexpr int kWidth = Lanes<T>::kWidth;

template <class T, std::size_t... I>
ZOO_INLINE Vec<T> broadcast_lanes(T x, std::index_sequence<I...>) {
  return Vec<T>{((void)I, x)...};
}

template <class T>
ZOO_INLINE Vec<T> broadcast(T x) {
  return broadcast_lanes<T>(x, std::make_index_sequence<kWidth<T>>{});
}

template <class T>
ZOO_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

template <class T>
ZOO_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof(v));
}

// Load the first `n` lanes; the others are 0.
template <class T>
ZOO_INLINE Vec<T> load(const T* p, int n) {
  if (n >= kWidth<T>) return load(p);
  Vec<T> v = {};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}

template <class T>
ZOO_INLINE void store(T* p, Vec<T> v, int n) {
  if (n >= kWidth<T>) return store(p, v);
  for (int i = 0; i < n; ++i) p[i] = v[i];
}

// A NaN in `x` stays a NaN: it is neither below nor above any bound. The processor's minimum and maximum return their
// second operand for a NaN, so that is `x`. They are called by name because compilers do not use them here.
template <class T>
ZOO_INLINE Vec<T> at_most(Vec<T> x, T bound) {
  const Vec<T> b = broadcast<T>(bound);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_maskz_min_ps(0xffff, (__m512)b, (__m512)x);
#endif
  return x > b ? b : x;
}

template <class T>
ZOO_INLINE Vec<T> at_least(Vec<T> x, T bound) {
  const Vec<T> b = broadcast<T>(bound);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_maskz_max_ps(0xffff, (__m512)b, (__m512)x);
#endif
  return x < b ? b : x;
}

template <class T>
ZOO_INLINE Vec<T> absolute(Vec<T> x) {
  return x < T(0) ? -x : x;
}

// 1 / x, for x in [1, 1e38] (or -x there). The division of AVX-512 is slow enough to matter in every gate, so there an
// estimate of 14 bits is refined by one step of Newton's method, which is accurate to 1 ulp.
template <class T>
ZOO_INLINE Vec<T> reciprocal(Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const Vec<T> y = (Vec<T>)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
    return y + y * (T(1) - x * y);
  }
#endif
  return T(1) / x;
}

// The sum of the lanes.
template <class T>
ZOO_INLINE T sum_of_lanes(Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_reduce_add_ps((__m512)x);
  if constexpr (sizeof(T) == 8) return _mm512_reduce_add_pd((__m512d)x);
#endif
  T sum = 0;
  for (int i = 0; i < kWidth<T>; ++i) sum += x[i];
  return sum;
}

// === The exponential ===
//
//   x = n ln 2 + r, |r| <= ln 2 / 2;   e^x = 2^n (1 + p),  p = e^r - 1 = r + r^2 q(r)
//
// q is a near-minimax polynomial (fit_coefficients.py makes it). Keeping p apart from the 1 makes
// e^x - 1 = 2^n p + (2^n - 1) as accurate near 0 as anywhere. Outside the limits x is moved to them: there e^x is
// close to the largest or smallest number of the type, and every function below has long reached its limit.

template <class T>
struct Exponential;

#include "coefficients.h"

template <class T>
struct PowerParts {
  Vec<T> p, scale;  // e^x = scale * (1 + p)
};

template <class T>
ZOO_INLINE PowerParts<T> power_parts(Vec<T> x) {
  using C = Exponential<T>;
  using Integers = typename Lanes<T>::Integers;
  x = at_least<T>(at_most<T>(x, C::kLimit), -C::kLimit);
  // Adding 1.5 * 2^(mantissa bits) rounds to an integer and leaves it in the low bits.
  const Vec<T> shifted = x * C::kLog2E + C::kShift;
  const Vec<T> n = shifted - C::kShift;
  const Vec<T> r = (x - n * C::kLn2High) - n * C::kLn2Low;
  Vec<T> q = broadcast<T>(C::kQ[C::kTerms - 1]);
#pragma GCC unroll 16
  for (int i = C::kTerms - 2; i >= 0; --i) q = q * r + C::kQ[i];
  Integers bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits - C::kShiftBits + C::kBias) << C::kMantissa;
  PowerParts<T> parts;
  std::memcpy(&parts.scale, &bits, sizeof(bits));
  parts.p = r + r * r * q;
  return parts;
}

template <class T>
ZOO_INLINE Vec<T> exponential(Vec<T> x) {
  const PowerParts<T> e = power_parts<T>(x);
  return e.scale + e.scale * e.p;
}

// e^x - 1
template <class T>
ZOO_INLINE Vec<T> exponential_minus_one(Vec<T> x) {
  const PowerParts<T> e = power_parts<T>(x);
  return e.scale * e.p + (e.scale - T(1));
}

// log(1 + u) for u in [0, 1]: 2 artanh(s), s = u / (2 + u) <= 1/3, by its series in s^2.
template <class T>
ZOO_INLINE Vec<T> log_one_plus(Vec<T> u) {
  constexpr int kTerms = sizeof(T) == 4 ? 8 : 17;
  const Vec<T> s = u * reciprocal<T>(u + T(2));
  const Vec<T> square = s * s;
  Vec<T> sum = broadcast<T>(T(1) / T(2 * kTerms + 1));
#pragma GCC unroll 20
  for (int i = kTerms - 1; i >= 0; --i) sum = sum * square + T(1) / T(2 * i + 1);
  return T(2) * s * sum;
}

// erfc(x) for x >= 0: e^(-x^2) g(t) / (1 + 2 x), t = (x - 3.75) / (x + 3.75), g a polynomial in t on [-1, 1].
// Shepherd and Laframboise (1981), https://doi.org/10.1090/S0025-5718-1981-0595058-X; coefficients fitted anew.
template <class T>
ZOO_INLINE Vec<T> erfc_of_positive(Vec<T> x) {
  using C = Exponential<T>;
  const Vec<T> t = (x - T(3.75)) * reciprocal<T>(x + T(3.75));
  Vec<T> g = broadcast<T>(C::kErfc[C::kErfcTerms - 1]);
#pragma GCC unroll 32
  for (int i = C::kErfcTerms - 2; i >= 0; --i) g = g * t + C::kErfc[i];
  return exponential<T>(-x * x) * g * reciprocal<T>(T(1) + T(2) * x);
}

}  // namespace ZOO_ISA
}  // namespace zoo
