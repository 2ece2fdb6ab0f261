// Every elementwise activation: its value, its derivative, and what the backward pass keeps of it. Each is written
// once, for the CPU and the CUDA engine; a test compares it with zoo.activations, on every instruction set.
//
// A row has
//   kName              as in zoo.activations
//   kSaves             kOutput: the derivative follows from the value y, so y is kept; kInput: z is kept
//   value(z, p)        y, with p the parameter of each unit
//   slope(s, p)        dy/dz from what was kept: s is y or z as kSaves says
//   by_parameter(z, p) dy/dp, for rows that learn p; these keep z
// At a kink the derivative is that of the left side, as in zoo.activations. A NaN stays a NaN; at +-100 and far beyond
// every value is the limit.
#pragma once

#include "simd.h"

namespace zoo {
namespace ZOO_ISA {

enum Saves { kOutput, kInput };

#define ZOO_ROW template <class T>
#define ZOO_IS(NAME, SAVES)              \
  static constexpr char kName[] = NAME;  \
  static constexpr Saves kSaves = SAVES; \
  typedef Vec<T> V;

template <class T>
ZOO_INLINE Vec<T> select_positive(Vec<T> x, Vec<T> right, Vec<T> left) {
  return x > T(0) ? right : left;
}

template <class T>
ZOO_INLINE Vec<T> sigmoid(Vec<T> z) {
  return reciprocal<T>(T(1) + exponential<T>(-z));
}

// tanh z = (e^2z - 1) / (e^2z + 1) = m / (m + 2) with m = e^2z - 1, which is accurate near 0 too. For z < 0 by
// symmetry, so that m never comes near -2 with an error of its own. Past 20 it is 1 in either type.
template <class T>
ZOO_INLINE Vec<T> tanh(Vec<T> z) {
  const Vec<T> m = exponential_minus_one<T>(T(2) * at_most<T>(absolute<T>(z), T(20)));
  const Vec<T> y = m * reciprocal<T>(m + T(2));
  return z < T(0) ? -y : y;
}

ZOO_ROW struct Linear {
  ZOO_IS("linear", kOutput)
  static ZOO_INLINE V value(V z, V) { return z; }
  static ZOO_INLINE V slope(V, V) { return broadcast<T>(1); }
};

ZOO_ROW struct Sigmoid {
  ZOO_IS("sigmoid", kOutput)
  static ZOO_INLINE V value(V z, V) { return sigmoid<T>(z); }
  static ZOO_INLINE V slope(V y, V) { return y * (T(1) - y); }
};

// clip(z / 6 + 1/2, 0, 1). Keeps z: near +-3 the value rounds to its limit before the slope ends.
ZOO_ROW struct HardSigmoid {
  ZOO_IS("hard_sigmoid", kInput)
  static ZOO_INLINE V value(V z, V) { return at_least<T>(at_most<T>(z * T(1.0 / 6) + T(0.5), T(1)), T(0)); }
  static ZOO_INLINE V slope(V z, V) {
    const V in = broadcast<T>(T(1.0 / 6)), out = {};
    return absolute<T>(z) < T(3) ? in : out;
  }
};

ZOO_ROW struct Tanh {
  ZOO_IS("tanh", kOutput)
  static ZOO_INLINE V value(V z, V) { return tanh<T>(z); }
  static ZOO_INLINE V slope(V y, V) { return T(1) - y * y; }
};

ZOO_ROW struct HardTanh {
  ZOO_IS("hard_tanh", kOutput)
  static ZOO_INLINE V value(V z, V) { return at_least<T>(at_most<T>(z, T(1)), T(-1)); }
  static ZOO_INLINE V slope(V y, V) {
    const V in = broadcast<T>(1), out = {};
    return absolute<T>(y) < T(1) ? in : out;
  }
};

// y = z / (1 + |z|), with slope 1 / (1 + |z|)^2. Bounding z first gives the limit at infinity, where the quotient would
// be a NaN.
ZOO_ROW struct Softsign {
  ZOO_IS("softsign", kInput)
  static ZOO_INLINE V held(V z) { return at_least<T>(at_most<T>(z, T(1e30)), T(-1e30)); }
  static ZOO_INLINE V value(V z, V) {
    z = held(z);
    return z * reciprocal<T>(T(1) + absolute<T>(z));
  }
  static ZOO_INLINE V slope(V z, V) {
    const V r = reciprocal<T>(T(1) + absolute<T>(held(z)));
    return r * r;
  }
};

ZOO_ROW struct Relu {
  ZOO_IS("relu", kOutput)
  static ZOO_INLINE V value(V z, V) { return at_least<T>(z, T(0)); }
  static ZOO_INLINE V slope(V y, V) {
    const V on = broadcast<T>(1), off = {};
    return select_positive<T>(y, on, off);
  }
};

ZOO_ROW struct Relu6 {
  ZOO_IS("relu6", kOutput)
  static ZOO_INLINE V value(V z, V) { return at_least<T>(at_most<T>(z, T(6)), T(0)); }
  static ZOO_INLINE V slope(V y, V) {
    const V on = broadcast<T>(1), off = {};
    return select_positive<T>(y, y < T(6) ? on : off, off);
  }
};

// Keeps z: with a slope below 0 the sign of y does not show the side.
ZOO_ROW struct LeakyRelu {
  ZOO_IS("leaky_relu", kInput)
  static ZOO_INLINE V value(V z, V p) { return select_positive<T>(z, z, p * z); }
  static ZOO_INLINE V slope(V z, V p) { return select_positive<T>(z, broadcast<T>(1), p); }
};

ZOO_ROW struct Prelu : LeakyRelu<T> {
  ZOO_IS("prelu", kInput)
  static ZOO_INLINE V by_parameter(V z, V) { return at_most<T>(z, T(0)); }
};

// alpha (e^z - 1) left of 0, where the slope is alpha e^z = y + alpha.
ZOO_ROW struct Elu {
  ZOO_IS("elu", kOutput)
  static ZOO_INLINE V value(V z, V p) {
    return select_positive<T>(z, z, p * exponential_minus_one<T>(at_most<T>(z, T(0))));
  }
  static ZOO_INLINE V slope(V y, V p) { return select_positive<T>(y, broadcast<T>(1), y + p); }
};

ZOO_ROW struct Selu {
  ZOO_IS("selu", kOutput)
  static constexpr T kScale = T(1.0507009873554805), kAlpha = T(1.6732632423543772);
  static ZOO_INLINE V value(V z, V) { return kScale * Elu<T>::value(z, broadcast<T>(kAlpha)); }
  static ZOO_INLINE V slope(V y, V) { return select_positive<T>(y, broadcast<T>(kScale), y + kScale * kAlpha); }
};

ZOO_ROW struct Celu {
  ZOO_IS("celu", kOutput)
  static ZOO_INLINE V value(V z, V p) {
    return select_positive<T>(z, z, p * exponential_minus_one<T>(at_most<T>(z, T(0)) / p));
  }
  static ZOO_INLINE V slope(V y, V p) { return select_positive<T>(y, broadcast<T>(1), y / p + T(1)); }
};

// z Phi(z), Phi(z) = erfc(-z / sqrt 2) / 2; its slope is Phi(z) + z phi(z).
ZOO_ROW struct Gelu {
  ZOO_IS("gelu", kInput)
  static ZOO_INLINE V phi(V z) {
    const V tail = T(0.5) * erfc_of_positive<T>(absolute<T>(z) * T(0.70710678118654752440));
    return select_positive<T>(z, T(1) - tail, tail);
  }
  // The square of a huge z would overflow; at 40 both tails have long been 0.
  static ZOO_INLINE V near(V z) { return at_least<T>(at_most<T>(z, T(40)), T(-40)); }
  static ZOO_INLINE V value(V z, V) {
    const V tail = phi(near(z));
    return select_positive<T>(z, z * tail, near(z) * tail);
  }
  static ZOO_INLINE V slope(V z, V) {
    z = near(z);
    return phi(z) + z * exponential<T>(T(-0.5) * z * z) * T(0.39894228040143267794);
  }
};

// Left of -kLimit the computed sigmoid no longer falls. z is bounded there too, so that the product stays near 0.
ZOO_ROW struct Silu {
  ZOO_IS("silu", kInput)
  static ZOO_INLINE V value(V z, V) { return at_least<T>(z, -Exponential<T>::kLimit) * sigmoid<T>(z); }
  static ZOO_INLINE V slope(V z, V) {
    const V s = sigmoid<T>(z);
    // z is bounded on both sides: on the right the sigmoid is exactly 1, and infinity times 0 would be a NaN.
    const V held = at_least<T>(at_most<T>(z, Exponential<T>::kLimit), -Exponential<T>::kLimit);
    return s * (T(1) + held * (T(1) - s));
  }
};

// z sigmoid(p z); by p: z^2 s (1 - s).
ZOO_ROW struct ParametricSwish {
  ZOO_IS("parametric_swish", kInput)
  static constexpr T kFar = Exponential<T>::kLimit;
  static ZOO_INLINE V held(V x) { return at_least<T>(at_most<T>(x, kFar), -kFar); }
  static ZOO_INLINE V value(V z, V p) {
    const V s = sigmoid<T>(p * z);
    return select_positive<T>(p * z, z, held(z)) * s;
  }
  static ZOO_INLINE V slope(V z, V p) {
    const V s = sigmoid<T>(p * z);
    return s * (T(1) + held(p * z) * (T(1) - s));
  }
  static ZOO_INLINE V by_parameter(V z, V p) {
    const V s = sigmoid<T>(p * z);
    return held(z) * held(z) * s * (T(1) - s);
  }
};

// tanh(log(1 + e)) = n / (n + 2) with e = e^z, n = e (e + 2); 1 past 40, where the square would overflow.
ZOO_ROW struct Mish {
  ZOO_IS("mish", kInput)
  static ZOO_INLINE V inner(V z) {
    const V e = exponential<T>(at_most<T>(z, T(40)));
    const V n = e * (e + T(2));
    return n * reciprocal<T>(n + T(2));
  }
  static ZOO_INLINE V value(V z, V) { return at_least<T>(z, -Exponential<T>::kLimit) * inner(z); }
  static ZOO_INLINE V slope(V z, V) {
    const V t = inner(z), held = at_least<T>(at_most<T>(z, Exponential<T>::kLimit), -Exponential<T>::kLimit);
    return t + held * (T(1) - t * t) * sigmoid<T>(z);
  }
};

// max(z, 0) + log(1 + e^-|z|); its slope is the sigmoid, 1 - e^-y.
ZOO_ROW struct Softplus {
  ZOO_IS("softplus", kOutput)
  static ZOO_INLINE V value(V z, V) { return at_least<T>(z, T(0)) + log_one_plus<T>(exponential<T>(-absolute<T>(z))); }
  static ZOO_INLINE V slope(V y, V) { return -exponential_minus_one<T>(-y); }
};

ZOO_ROW struct PenalizedTanh {
  ZOO_IS("penalized_tanh", kOutput)
  static ZOO_INLINE V value(V z, V) {
    const V t = tanh<T>(z);
    return select_positive<T>(z, t, T(0.25) * t);
  }
  static ZOO_INLINE V slope(V y, V) { return select_positive<T>(y, T(1) - y * y, T(0.25) - T(4) * y * y); }
};

ZOO_ROW struct Elliott {
  ZOO_IS("elliott", kInput)
  static ZOO_INLINE V value(V z, V p) { return T(0.5) * Softsign<T>::value(z, p) + T(0.5); }
  static ZOO_INLINE V slope(V z, V p) { return T(0.5) * Softsign<T>::slope(z, p); }
};

// 1 - 2 exp(-0.7 e^z), exactly 1 past 20 as in the table.
ZOO_ROW struct Cloglogm {
  ZOO_IS("cloglogm", kInput)
  static ZOO_INLINE V power(V z) { return exponential<T>(at_most<T>(z, T(20))); }
  static ZOO_INLINE V value(V z, V) { return T(1) - T(2) * exponential<T>(T(-0.7) * power(z)); }
  static ZOO_INLINE V slope(V z, V) {
    const V e = power(z);
    return T(1.4) * e * exponential<T>(T(-0.7) * e);
  }
};

// === The table ===

// The functions that the recurrence calls: a row applied to `n` vectors that share one parameter vector.
template <class T>
struct Row {
  const char* name;
  Saves saves;
  void (*value)(Vec<T>* z, int n, Vec<T> p);                              // in place
  void (*value_and_slope)(Vec<T>* s, Vec<T>* slope, int n, Vec<T> p);     // what was kept becomes the value, in place
  void (*by_parameter)(const Vec<T>* z, Vec<T>* slope, int n, Vec<T> p);  // null where nothing is learned
};

template <class T, class R>
void values(Vec<T>* z, int n, Vec<T> p) {
  for (int i = 0; i < n; ++i) z[i] = R::value(z[i], p);
}

template <class T, class R>
void values_and_slopes(Vec<T>* s, Vec<T>* slope, int n, Vec<T> p) {
  for (int i = 0; i < n; ++i) {
    slope[i] = R::slope(s[i], p);
    if (R::kSaves == kInput) s[i] = R::value(s[i], p);
  }
}

template <class T, class R>
void slopes_by_parameter(const Vec<T>* s, Vec<T>* slope, int n, Vec<T> p) {
  for (int i = 0; i < n; ++i) slope[i] = R::by_parameter(s[i], p);
}

template <class T, class R>
constexpr Row<T> row() {
  return {R::kName, R::kSaves, values<T, R>, values_and_slopes<T, R>, nullptr};
}

template <class T, class R>
constexpr Row<T> learning_row() {
  static_assert(R::kSaves == kInput, "the derivative by the parameter is taken at z");
  return {R::kName, R::kSaves, values<T, R>, values_and_slopes<T, R>, slopes_by_parameter<T, R>};
}

template <class T>
struct Table {
  static constexpr Row<T> kRows[] = {
      row<T, Linear<T>>(),
      row<T, Sigmoid<T>>(),
      row<T, HardSigmoid<T>>(),
      row<T, Tanh<T>>(),
      row<T, HardTanh<T>>(),
      row<T, Softsign<T>>(),
      row<T, Relu<T>>(),
      row<T, Relu6<T>>(),
      row<T, LeakyRelu<T>>(),
      learning_row<T, Prelu<T>>(),
      row<T, Elu<T>>(),
      row<T, Selu<T>>(),
      row<T, Celu<T>>(),
      row<T, Gelu<T>>(),
      row<T, Silu<T>>(),
      row<T, Mish<T>>(),
      learning_row<T, ParametricSwish<T>>(),
      row<T, Softplus<T>>(),
      row<T, PenalizedTanh<T>>(),
      row<T, Elliott<T>>(),
      row<T, Cloglogm<T>>(),
  };
  static constexpr int kSize = sizeof(kRows) / sizeof(kRows[0]);
};

#undef ZOO_ROW
#undef ZOO_IS

}  // namespace ZOO_ISA
}  // namespace zoo
