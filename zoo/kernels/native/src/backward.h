// The backward pass.
//
// With dy the gradient of a step's output, dh and dc those of the states after it, all from the steps after:
//
//   dh += dy;  dz_o = dh hidden(c) o';  dc += dh o hidden'(c)  (0 where the clip cut)
//   dz_i = dc g i';  dz_f = dc c_before f';  dz_g = dc i g';  dc_before = dc f;  dh_before = dz U^T
//
// After the last step the gradients of both kernels are one large product, [x, h]^T dz over all rows and steps. The
// gradient of x, dz W^T, is left to the caller, who knows whether anybody wants it.
#pragma once

#include <utility>

#include "single.h"
#include "weights.h"

namespace zoo {
namespace ZOO_ISA {

// U^T (4 * units, units) as [tile of kColumns vectors][k][lane], zeros past the last unit; the last tile is narrower.
template <class T>
void pack_backward(const Plan<T>& plan, T* packed) {
  constexpr int W = kWidth<T>;
  const int64_t units = plan.p.units, depth = kGates * units;
  for (int64_t j = 0; j < plan.width; j += kColumns * W) {
    const int64_t tile = smaller(kColumns * W, plan.width - j);
    // One vector of columns at a time: so many rows of U stay in the cache while k goes along them.
    for (int64_t v = 0; v < tile; v += W) {
      const int64_t filled = smaller(W, units - j - v);
      const T* from = plan.in.recurrent_kernel + (j + v) * depth;
      for (int64_t k = 0; k < depth; ++k) {
        for (int64_t lane = 0; lane < filled; ++lane) packed[k * tile + v + lane] = from[lane * depth + k];
      }
    }
    packed += depth * tile;
  }
}

// What a task carries from step to step, backwards.
template <class T>
struct Gradients {
  Buffer<T> hidden, cell, put_out, dz;
  Gradients(int64_t rows, int64_t width, bool masked)
      : hidden(rows * width), cell(rows * width), put_out(masked ? rows * width : 0), dz(rows * kGates * width) {}
};

// Sums over the rows and steps of a task.
template <class T>
struct Sums {
  T *bias, *parameters;  // (4, width), (5, width)
};

// One tile of the elementwise part: from dh and dc to dz and the dc of the step before. R rows, all at position t, of
// which those that are masked are left as they are, with dz 0.
template <class T, int R>
void backward_tile(const Plan<T>& plan, const Backward<T>& out, int64_t row, int64_t s, int64_t u, const T* hidden,
                   T* cell, T* dz, const Sums<T>& sums) {
  typedef Vec<T> V;
  const Problem& p = plan.p;
  const int64_t units = p.units, width = plan.width, t = plan.step(s);
  const int lanes = plan.lanes(u);

  if (s > 0) {  // what the step before will need is on its way while this one is computed
    const int64_t soon = plan.step(s - 1), later = plan.step(s > 1 ? s - 2 : 0);
    for (int r = 0; r < R; ++r) {
      for (int g = 0; g < kGates; ++g) {
        __builtin_prefetch(out.gates + (plan.at(row + r, soon) * kGates + g) * units + u, 0, 2);
      }
      __builtin_prefetch(out.cells + plan.at(row + r, later) * units + u, 0, 2);
    }
  }
  V gate[kGates][R], slope[kGates][R], state[R], state_slope[R];
  for (int g = 0; g < kGates; ++g) {
    for (int r = 0; r < R; ++r) {
      gate[g][r] = load(out.gates + (plan.at(row + r, t) * kGates + g) * units + u, lanes);
    }
    plan.rows[g]->value_and_slope(gate[g], slope[g], R, plan.parameter(g, u));
  }
  for (int r = 0; r < R; ++r) state[r] = load(out.cells + plan.at(row + r, t) * units + u, lanes);
  if (plan.rows[kHidden]->saves == kOutput) plan.rows[kHidden]->value(state, R, plan.parameter(kHidden, u));
  plan.rows[kHidden]->value_and_slope(state, state_slope, R, plan.parameter(kHidden, u));

  V upstream[kActivations][R];
  for (int r = 0; r < R; ++r) {
    const V i = gate[kInputGate][r], f = gate[kForgetGate][r], g = gate[kCandidate][r], o = gate[kOutputGate][r];
    const T* before = s == 0 ? plan.in.c0 + (row + r) * units : out.cells + plan.at(row + r, plan.step(s - 1)) * units;
    const V c = load(before + u, lanes);
    const V dh = load(hidden + r * width + u);
    V through = dh * o * state_slope[r];
    V dc = load(cell + r * width + u) + through;
    if (plan.clips) {  // the state kept is the clipped one, so what came before the clip is made again
      const V raw = f * c + i * g, nothing = {};
      dc = absolute<T>(raw) > plan.clip ? nothing : dc;
    }
    upstream[kInputGate][r] = dc * g;
    upstream[kForgetGate][r] = dc * c;
    upstream[kCandidate][r] = dc * i;
    upstream[kOutputGate][r] = dh * state[r];
    upstream[kHidden][r] = dh * o;
    const bool valid = plan.valid(row + r, t);
    if (valid) store(cell + r * width + u, dc * f);
    for (int a = 0; !valid && a < kActivations; ++a) upstream[a][r] = V{};
  }
  for (int a = 0; a < kActivations; ++a) {  // before dz takes the place of what was kept
    if (!(p.learned >> a & 1)) continue;
    V kept[R], by[R], sum = load(sums.parameters + a * width + u);
    for (int r = 0; r < R; ++r) {
      const int64_t place = plan.at(row + r, t);
      kept[r] = load(a == kHidden ? out.cells + place * units + u : out.gates + (place * kGates + a) * units + u, lanes);
    }
    plan.rows[a]->by_parameter(kept, by, R, plan.parameter(a, u));
    for (int r = 0; r < R; ++r) sum += plan.valid(row + r, t) ? upstream[a][r] * by[r] : V{};
    store(sums.parameters + a * width + u, sum);
  }
  for (int g = 0; g < kGates; ++g) {
    V sum = load(sums.bias + g * width + u);
    for (int r = 0; r < R; ++r) {
      // Not by multiplication alone: at a masked step a kept value may be anything.
      const V d = plan.valid(row + r, t) ? upstream[g][r] * slope[g][r] : V{};
      store(dz + (r * kGates + g) * width + u, d);
      store(out.d_gates + (plan.at(row + r, t) * kGates + g) * units + u, d, lanes);
      sum += d;
    }
    store(sums.bias + g * width + u, sum);
  }
}

// One tile of dh = dz U^T: R rows by N vectors of units from j on; each gate's part times its dropout factors.
template <class T, int R, int N, bool kDropout>
void product_tile(const Plan<T>& plan, int64_t row, int64_t t, int64_t j, const T* dz, T* hidden) {
  typedef Vec<T> V;
  constexpr int W = kWidth<T>;
  const int64_t units = plan.p.units, width = plan.width;
  const T* weights = plan.packed + kGates * units * j;
  V total[R][N] = {}, sum[R][N] = {};
  for (int g = 0; g < kGates; ++g) {
    for (int64_t k = 0; k < units; ++k, weights += N * W) {
      V w[N];
      for (int n = 0; n < N; ++n) w[n] = load(weights + n * W);
      for (int r = 0; r < R; ++r) {
        const V d = broadcast(dz[(r * kGates + g) * width + k]);
        for (int n = 0; n < N; ++n) sum[r][n] += d * w[n];
      }
    }
    if (!kDropout) continue;
    for (int r = 0; r < R; ++r) {
      const T* factors = plan.in.dropout + (g * plan.p.batch + row + r) * plan.depth + plan.p.channels;
      for (int n = 0; n < N; ++n) {
        total[r][n] += sum[r][n] * load(factors + j + n * W, plan.lanes(j + n * W));
        sum[r][n] = V{};
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    if (!plan.valid(row + r, t)) continue;  // the state of a masked step is that of the step before
    for (int n = 0; n < N; ++n) store(hidden + r * width + j + n * W, kDropout ? total[r][n] : sum[r][n]);
  }
}

template <class T>
struct BackwardTile {
  template <int R>
  struct Of {
    static void call(const Plan<T>& plan, const Backward<T>& out, int64_t row, int64_t s, int64_t u, const T* hidden,
                     T* cell, T* dz, const Sums<T>& sums) {
      backward_tile<T, R>(plan, out, row, s, u, hidden, cell, dz, sums);
    }
  };
};

template <class T, int N>
struct ProductTile {
  template <int R>
  struct Of {
    template <class... A>
    static void call(const Plan<T>& plan, A&&... arguments) {
      if (plan.in.dropout) return product_tile<T, R, N, true>(plan, arguments...);
      product_tile<T, R, N, false>(plan, arguments...);
    }
  };
};

template <class T, int N>
void product_columns(const Plan<T>& plan, int64_t first, int64_t rows, int64_t t, int64_t j, const T* dz, T* hidden) {
  for (int64_t r = 0; r < rows; r += kRows) {
    with_rows<ProductTile<T, N>::template Of, kRows>(smaller(kRows, rows - r), plan, first + r, t, j,
                                                     dz + kGates * r * plan.width, hidden + r * plan.width);
  }
}

// dh of the step before, for all rows of a task.
template <class T>
void product(const Plan<T>& plan, int64_t first, int64_t rows, int64_t t, const T* dz, T* hidden) {
  constexpr int W = kWidth<T>;
  int64_t j = 0;
  for (; j + kColumns * W <= plan.width; j += kColumns * W) {
    product_columns<T, kColumns>(plan, first, rows, t, j, dz, hidden);
  }
  const int64_t rest = (plan.width - j) / W;
  if (rest == 1) product_columns<T, 1>(plan, first, rows, t, j, dz, hidden);
  if (rest == 2) product_columns<T, 2>(plan, first, rows, t, j, dz, hidden);
  if (rest == 3) product_columns<T, 3>(plan, first, rows, t, j, dz, hidden);
}

// Add the gradient of what was put out at step s to dh. At a masked step it belongs to the last valid step before, or
// to nothing where there is none or 0 was put out.
template <class T>
void add_gradient_of_output(const Plan<T>& plan, const T* d_output, bool valid, T* hidden, T* put_out) {
  const int64_t units = plan.p.units;
  if (!plan.in.mask) {
    for (int64_t u = 0; u < units; ++u) hidden[u] += d_output[u];
  } else if (valid) {
    for (int64_t u = 0; u < units; ++u) hidden[u] += d_output[u] + put_out[u];
    std::memset(put_out, 0, static_cast<std::size_t>(units) * sizeof(T));
  } else if (!plan.p.zero_output_for_mask) {
    for (int64_t u = 0; u < units; ++u) put_out[u] += d_output[u];
  }
}

template <class T>
void backward_task(const Plan<T>& plan, const Backward<T>& out, int64_t first, int64_t rows, const Sums<T>& sums) {
  const Problem& p = plan.p;
  const int64_t units = p.units, width = plan.width;
  const std::size_t bytes = static_cast<std::size_t>(units) * sizeof(T);
  const bool masked = plan.in.mask != nullptr;
  Gradients<T> d(rows, width, masked);
  Buffer<T> nothing(units);
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(d.hidden + r * width, out.d_h_n + (first + r) * units, bytes);
    std::memcpy(d.cell + r * width, out.d_c_n + (first + r) * units, bytes);
  }
  for (int64_t s = p.steps - 1; s >= 0; --s) {
    const int64_t t = plan.step(s);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t place = p.return_sequences ? plan.at(first + r, s) : first + r;
      const bool shown = p.return_sequences || s == p.steps - 1;
      const bool valid = plan.valid(first + r, t);
      if (!shown && !(masked && valid)) continue;
      const T* d_output = shown ? out.d_outputs + place * units : nothing.get();
      add_gradient_of_output(plan, d_output, valid, d.hidden + r * width, masked ? d.put_out + r * width : nullptr);
    }
    for (int64_t r = 0; r < rows; r += kRows) {
      const int64_t offset = r * width;
      for (int64_t u = 0; u < width; u += kWidth<T>) {
        with_rows<BackwardTile<T>::template Of, kRows>(smaller(kRows, rows - r), plan, out, first + r, s, u,
                                                       d.hidden + offset, d.cell + offset, d.dz + kGates * offset, sums);
      }
    }
    if (!single(plan)) {
      product(plan, first, rows, t, d.dz.get(), d.hidden.get());
    } else if (plan.valid(0, t)) {  // the state of a masked step is that of the step before
      single_product(plan, d.dz.get(), d.hidden.get());
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(out.d_h0 + (first + r) * units, d.hidden + r * width, bytes);
    std::memcpy(out.d_c0 + (first + r) * units, d.cell + r * width, bytes);
  }
}

// The sums of all tasks, always added in the order of the rows.
template <class T>
void add_up(const T* sums, int64_t tasks, int64_t stride, int64_t blocks, int64_t width, int64_t units, T* total) {
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t u = 0; u < units; ++u) {
      T sum = 0;
      for (int64_t task = 0; task < tasks; ++task) sum += sums[task * stride + b * width + u];
      total[b * units + u] = sum;
    }
  }
}

template <class T>
void backward(const Problem& p, const Inputs<T>& in, const Backward<T>& out) {
  Plan<T> plan(p, in);
  Buffer<T> packed(single(plan) ? 0 : plan.width * kGates * p.units);
  if (!single(plan)) pack_backward(plan, packed.get());
  plan.packed = packed.get();
  const int threads = worth(p, 2 * p.batch * p.steps * kGates * p.units * p.units);
  const Chunks chunks(p.batch, threads);
  const int64_t stride = (kGates + kActivations) * plan.width;
  Buffer<T> sums(chunks.tasks * stride);
  struct Call {
    const Plan<T>& plan;
    const Backward<T>& out;
    const Chunks& chunks;
    T* sums;
    int64_t stride;
  } call{plan, out, chunks, sums.get(), stride};
  parallel(chunks.tasks, threads, [](void* context, int64_t task) {
    const Call& c = *static_cast<Call*>(context);
    const int64_t begin = c.chunks.begin(task);
    T* own = c.sums + task * c.stride;
    backward_task(c.plan, c.out, begin, c.chunks.begin(task + 1) - begin, Sums<T>{own, own + kGates * c.plan.width});
  }, &call);
  weights(plan, out);
  add_up(sums.get(), chunks.tasks, stride, kGates, plan.width, p.units, out.d_bias);
  add_up(sums + kGates * plan.width, chunks.tasks, stride, kActivations, plan.width, p.units, out.d_parameters);
}

}  // namespace ZOO_ISA
}  // namespace zoo
