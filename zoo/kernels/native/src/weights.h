// The gradient of both kernels, the last part of the backward pass.
//
// A task has a share of the tiles of columns, kColumns vectors of one gate each. It goes through all rows and steps in
// slabs of kSlab, which its tiles read from the second-level cache one after the other, and through a slab in panels of
// kPanel, of which each tile keeps its columns of dz in the first-level cache.
#pragma once

#include "plan.h"

namespace zoo {
namespace ZOO_ISA {

constexpr int64_t kPanel = 96, kSlab = 4 * kPanel;

// sum (R, N vectors), its rows `ld` apart, += a^T b with a (depth, R) in rows `stride` apart and b (depth, N vectors).
template <class T, int R, int N>
void weight_tile(const T* a, int64_t stride, const T* b, int64_t depth, T* sum, int64_t ld) {
  constexpr int W = kWidth<T>;
  Vec<T> s[R][N];
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) s[r][n] = load(sum + r * ld + n * W);
  }
  for (int64_t k = 0; k < depth; ++k, a += stride, b += N * W) {
    Vec<T> v[N];
    for (int n = 0; n < N; ++n) v[n] = load(b + n * W);
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = broadcast(a[r]);
      for (int n = 0; n < N; ++n) s[r][n] += x * v[n];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) store(sum + r * ld + n * W, s[r][n]);
  }
}

template <class T, int N>
struct WeightTile {
  template <int R>
  struct Of {
    template <class... A>
    static void call(A&&... arguments) {
      weight_tile<T, R, N>(arguments...);
    }
  };
};

// Rows [begin, begin + depth) of `inputs`, times the dropout factors of a gate where there are any.
template <class T>
const T* dropped_inputs(const Plan<T>& plan, const T* inputs, int gate, int64_t begin, int64_t depth, T* scratch) {
  const T* from = inputs + begin * plan.depth;
  if (!plan.in.dropout) return from;
  for (int64_t k = 0; k < depth; ++k) {
    const T* factors = plan.in.dropout + (gate * plan.p.batch + (begin + k) / plan.p.steps) * plan.depth;
    for (int64_t m = 0; m < plan.depth; ++m) scratch[k * plan.depth + m] = from[k * plan.depth + m] * factors[m];
  }
  return scratch;
}

// Add rows [begin, end) to the sums (depth, N vectors) of the columns of `gate` from `column` on.
template <class T, int N>
void add_slab(const Plan<T>& plan, const Backward<T>& out, int gate, int64_t column, int64_t begin, int64_t end, T* sum,
              T* panel, T* scaled) {
  constexpr int W = kWidth<T>;
  const int64_t units = plan.p.units, depth = plan.depth, filled = smaller(N * W, units - column);
  for (int64_t k = begin; k < end; k += kPanel) {
    const int64_t rows = smaller(kPanel, end - k);
    for (int64_t r = 0; r < rows; ++r) {
      const T* dz = out.d_gates + ((k + r) * kGates + gate) * units + column;
      for (int n = 0; n < N; ++n) store(panel + (r * N + n) * W, load(dz + n * W, static_cast<int>(filled) - n * W));
    }
    const T* a = dropped_inputs(plan, out.inputs, gate, k, rows, scaled);
    for (int64_t m = 0; m < depth; m += kRows) {
      with_rows<WeightTile<T, N>::template Of, kRows>(smaller(kRows, depth - m), a + m, depth, panel, rows,
                                                      sum + m * N * W, N * W);
    }
  }
}

// Tiles [first, last) of all gates; a gate has `of_gate` of them.
template <class T>
void weights_task(const Plan<T>& plan, const Backward<T>& out, int64_t first, int64_t last, int64_t of_gate) {
  constexpr int W = kWidth<T>;
  constexpr int64_t kTile = kColumns * W;
  const int64_t total = plan.p.batch * plan.p.steps, depth = plan.depth, units = plan.p.units;
  Buffer<T> sums((last - first) * depth * kTile), panel(kPanel * kTile), scaled(plan.in.dropout ? kPanel * depth : 0);
  for (int64_t begin = 0; begin < total; begin += kSlab) {
    const int64_t end = smaller(begin + kSlab, total);
    for (int64_t tile = first; tile < last; ++tile) {
      const int gate = static_cast<int>(tile / of_gate);
      const int64_t column = tile % of_gate * kTile, vectors = smaller(kTile, plan.width - column) / W;
      T* sum = sums + (tile - first) * depth * kTile;
      if (vectors == 4) add_slab<T, 4>(plan, out, gate, column, begin, end, sum, panel.get(), scaled.get());
      if (vectors == 3) add_slab<T, 3>(plan, out, gate, column, begin, end, sum, panel.get(), scaled.get());
      if (vectors == 2) add_slab<T, 2>(plan, out, gate, column, begin, end, sum, panel.get(), scaled.get());
      if (vectors == 1) add_slab<T, 1>(plan, out, gate, column, begin, end, sum, panel.get(), scaled.get());
    }
  }
  for (int64_t tile = first; tile < last; ++tile) {
    const int64_t gate = tile / of_gate, column = tile % of_gate * kTile;
    const int64_t width = smaller(kTile, plan.width - column), filled = smaller(kTile, units - column);
    for (int64_t m = 0; m < depth; ++m) {
      std::memcpy(out.d_kernels + (m * kGates + gate) * units + column,
                  sums + (tile - first) * depth * kTile + m * width, static_cast<std::size_t>(filled) * sizeof(T));
    }
  }
}

template <class T>
void weights(const Plan<T>& plan, const Backward<T>& out) {
  constexpr int64_t kTile = kColumns * kWidth<T>;
  struct Call {
    const Plan<T>& plan;
    const Backward<T>& out;
    int64_t of_gate, tasks;
  } call{plan, out, (plan.width + kTile - 1) / kTile, 0};
  const int64_t all = 2 * plan.p.batch * plan.p.steps * kGates * plan.p.units * plan.depth;
  call.tasks = smaller(worth(plan.p, all), kGates * call.of_gate);
  parallel(call.tasks, plan.p.threads, [](void* context, int64_t task) {
    const Call& c = *static_cast<Call*>(context);
    const int64_t tiles = kGates * c.of_gate;
    weights_task(c.plan, c.out, tiles * task / c.tasks, tiles * (task + 1) / c.tasks, c.of_gate);
  }, &call);
}

}  // namespace ZOO_ISA
}  // namespace zoo
