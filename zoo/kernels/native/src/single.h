// A batch of one row, forward and backward.
//
// Every weight is used once a step, so copying the kernels into another order would cost as much as several steps. They
// are read as they are, whole rows of columns at a time, which needs units that fill whole vectors. And the steps stand
// in for the rows of a tile where the inputs are projected, so that W is read once for several.
#pragma once

#include "plan.h"

namespace zoo {
namespace ZOO_ISA {

template <class T>
bool single(const Plan<T>& plan) {
  return plan.p.batch == 1 && plan.width == plan.p.units && plan.p.units % 4 == 0 && !plan.in.dropout;
}

// x W + bias for R steps from the step s on, into (R, 4 * units).
template <class T, int R>
void project(const Plan<T>& plan, int64_t s, T* projected) {
  constexpr int W = kWidth<T>;
  const int64_t columns = kGates * plan.p.units, channels = plan.p.channels;
  const T* x = plan.in.x + plan.step(s) * channels;
  for (int64_t j = 0; j < columns; j += kGates * W) {
    Vec<T> sum[R][kGates];
    for (int r = 0; r < R; ++r) {
      for (int n = 0; n < kGates; ++n) sum[r][n] = plan.in.bias ? load(plan.in.bias + j + n * W) : Vec<T>{};
    }
    accumulate<T>(sum, x, plan.p.go_backwards ? -channels : channels, channels, plan.in.kernel + j, columns);
    for (int r = 0; r < R; ++r) {
      for (int n = 0; n < kGates; ++n) store(projected + r * columns + j + n * W, sum[r][n]);
    }
  }
}

// z (4 * units) += h U, N vectors at a time.
template <class T, int N>
int64_t add_recurrence(const Plan<T>& plan, const T* hidden, T* z, int64_t j) {
  constexpr int W = kWidth<T>;
  const int64_t columns = kGates * plan.p.units;
  for (; j + N * W <= columns; j += N * W) {
    Vec<T> sum[1][N];
    for (int n = 0; n < N; ++n) sum[0][n] = load(z + j + n * W);
    accumulate<T>(sum, hidden, 0, plan.p.units, plan.in.recurrent_kernel + j, columns);
    for (int n = 0; n < N; ++n) store(z + j + n * W, sum[0][n]);
  }
  return j;
}

template <class T>
void add_recurrence(const Plan<T>& plan, const T* hidden, T* z) {
  const int64_t rest = add_recurrence<T, 2 * kRows>(plan, hidden, z, 0);
  add_recurrence<T, 1>(plan, hidden, z, add_recurrence<T, kGates>(plan, hidden, z, rest));
}

// dh (units) = U dz, the rows of U four at a time.
template <class T>
void single_product(const Plan<T>& plan, const T* dz, T* hidden) {
  constexpr int W = kWidth<T>;
  const int64_t columns = kGates * plan.p.units;
  for (int64_t j = 0; j < plan.p.units; j += 4) {
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

template <class T>
struct Project {
  template <int R>
  struct Of {
    template <class... A>
    static void call(A&&... arguments) {
      project<T, R>(arguments...);
    }
  };
};

}  // namespace ZOO_ISA
}  // namespace zoo
