// The forward pass.
#pragma once

#include <utility>

#include "single.h"

namespace zoo {
namespace ZOO_ISA {

// [W; U] (channels + units, 4 * units) as [tile of units][k][gate][lane], zeros past the last unit.
template <class T>
void pack_forward(const Plan<T>& plan, T* packed) {
  constexpr int W = kWidth<T>;
  const Problem& p = plan.p;
  for (int64_t u = 0; u < plan.width; u += W) {
    const int lanes = plan.lanes(u);
    for (int64_t k = 0; k < plan.depth; ++k) {
      const T* row = k < p.channels ? plan.in.kernel + k * kGates * p.units
                                    : plan.in.recurrent_kernel + (k - p.channels) * kGates * p.units;
      for (int g = 0; g < kGates; ++g, packed += W) store(packed, load(row + g * p.units + u, lanes));
    }
  }
}

// The states of the rows of a task.
template <class T>
struct States {
  Buffer<T> hidden, next, cell, put_out;
  States(int64_t rows, int64_t width, bool masked)
      : hidden(rows * width), next(rows * width), cell(rows * width), put_out(masked ? rows * width : 0) {}
};

// Like `accumulate`, but each gate has separate rows, `gate_stride` apart, as dropout needs.
template <class T, int R>
ZOO_INLINE void accumulate_by_gate(Vec<T> (&sum)[R][kGates], const T* rows, int64_t stride, int64_t gate_stride,
                                   int64_t depth, const T* weights) {
  constexpr int W = kWidth<T>;
  for (int64_t k = 0; k < depth; ++k, weights += kGates * W) {
    for (int g = 0; g < kGates; ++g) {
      const Vec<T> w = load(weights + g * W);
      for (int r = 0; r < R; ++r) sum[r][g] += broadcast(rows[g * gate_stride + r * stride + k]) * w;
    }
  }
}

// One tile: rows [row, row + R) of the batch at position t, units [u, u + W).
//
//   z = x W + h U + bias;  i, f, g, o = activations of z;  c = clip(f c + i g);  h = o hidden(c)
//
// `hidden` and `cell` are those rows of the task's states; `next` receives the new h. z is computed from x and `hidden`
// unless it is passed as `z`, (R, 4, width), or dropout is on: `dropped`, (4, R, depth), then has [x, h] times the
// factors of each gate.
template <class T, int R>
void forward_tile(const Plan<T>& plan, const Forward<T>& out, int64_t row, int64_t t, int64_t u, const T* hidden,
                  const T* z, const T* dropped, T* cell, T* next) {
  typedef Vec<T> V;
  constexpr int W = kWidth<T>;
  const int64_t units = plan.p.units, width = plan.width, channels = plan.p.channels;
  const int lanes = plan.lanes(u);

  if (out.gates) {  // fetch the cache lines that will be written while the product is computed
    for (int r = 0; r < R; ++r) {
      for (int g = 0; g < kGates; ++g)
        __builtin_prefetch(out.gates + (plan.at(row + r, t) * kGates + g) * units + u, 1);
      __builtin_prefetch(out.cells + plan.at(row + r, t) * units + u, 1);
    }
  }
  V sum[R][kGates];
  for (int g = 0; g < kGates; ++g) {
    const V bias = plan.in.bias ? load(plan.in.bias + g * units + u, lanes) : V{};
    for (int r = 0; r < R; ++r) sum[r][g] = z ? load(z + (r * kGates + g) * width + u) : bias;
  }
  const T* weights = plan.packed + u * kGates * plan.depth;
  if (dropped) {
    accumulate_by_gate<T, R>(sum, dropped, plan.depth, R * plan.depth, plan.depth, weights);
  } else if (!z) {
    const T* x = plan.in.x + plan.at(row, t) * channels;
    accumulate<T>(sum, x, plan.p.steps * channels, channels, weights, kGates * W);
    accumulate<T>(sum, hidden, width, units, weights + channels * kGates * W, kGates * W);
  }

  V gate[kGates][R];
  for (int g = 0; g < kGates; ++g) {
    for (int r = 0; r < R; ++r) gate[g][r] = sum[r][g];
  }
  const auto keep = [&](int g) {
    for (int r = 0; r < R; ++r) store(out.gates + (plan.at(row + r, t) * kGates + g) * units + u, gate[g][r], lanes);
  };
  for (int g = 0; g < kGates; ++g) {
    // An activation works in place, so its argument is kept before it is applied and its value afterwards.
    const bool kept_before = plan.rows[g]->saves == kInput;
    if (out.gates && kept_before) keep(g);
    plan.rows[g]->value(gate[g], R, plan.parameter(g, u));
    if (out.gates && !kept_before) keep(g);
  }

  V state[R];
  for (int r = 0; r < R; ++r) {
    const V c = gate[kForgetGate][r] * load(cell + r * width + u) + gate[kInputGate][r] * gate[kCandidate][r];
    state[r] = clipped(plan, c);
    if (!plan.valid(row + r, t)) state[r] = load(cell + r * width + u);
    store(cell + r * width + u, state[r]);
    if (out.cells) store(out.cells + plan.at(row + r, t) * units + u, state[r], lanes);
  }
  plan.rows[kHidden]->value(state, R, plan.parameter(kHidden, u));
  for (int r = 0; r < R; ++r) {
    const bool valid = plan.valid(row + r, t);
    store(next + r * width + u, valid ? gate[kOutputGate][r] * state[r] : load(hidden + r * width + u));
  }
}

template <class T>
void scale_for_dropout(const Plan<T>& plan, int64_t row, int64_t rows, int64_t t, const T* hidden, T* dropped) {
  const int64_t channels = plan.p.channels;
  for (int g = 0; g < kGates; ++g) {
    for (int64_t r = 0; r < rows; ++r) {
      const T *x = plan.in.x + plan.at(row + r, t) * channels, *h = hidden + r * plan.width;
      const T* factors = plan.in.dropout + (g * plan.p.batch + row + r) * plan.depth;
      T* to = dropped + (g * rows + r) * plan.depth;
      for (int64_t k = 0; k < channels; ++k) to[k] = x[k] * factors[k];
      for (int64_t k = channels; k < plan.depth; ++k) to[k] = h[k - channels] * factors[k];
    }
  }
}

// Write units [begin, end) of the output of a step: the hidden state; at a masked step the output of the step before,
// or 0 before the first valid step or with `zero_output_for_mask`. `put_out` is the row's latest output.
template <class T>
void put_out(const Plan<T>& plan, const Forward<T>& out, int64_t row, int64_t s, const T* next, T* put_out,
             int64_t begin, int64_t end) {
  const Problem& p = plan.p;
  const std::size_t bytes = static_cast<std::size_t>(end - begin) * sizeof(T);
  if (out.hidden) std::memcpy(out.hidden + plan.at(row, s) * p.units + begin, next + begin, bytes);
  const T* shown = next;
  if (plan.in.mask) {
    if (plan.valid(row, plan.step(s))) {
      std::memcpy(put_out + begin, next + begin, bytes);
    } else if (p.zero_output_for_mask) {
      std::memset(put_out + begin, 0, bytes);
    }
    shown = put_out;
  }
  if (!p.return_sequences && s != p.steps - 1) return;
  const int64_t place = p.return_sequences ? plan.at(row, s) : row;
  std::memcpy(out.outputs + place * p.units + begin, shown + begin, bytes);
}

// Rows [first, first + rows) from the first step to the last.
template <class T>
void forward_task(const Plan<T>& plan, const Forward<T>& out, int64_t first, int64_t rows) {
  const Problem& p = plan.p;
  const int64_t units = p.units, width = plan.width;
  const std::size_t bytes = static_cast<std::size_t>(units) * sizeof(T);
  States<T> states(rows, width, plan.in.mask != nullptr);
  Buffer<T> dropped(plan.in.dropout ? kGates * rows * plan.depth : 0);
  T *hidden = states.hidden.get(), *next = states.next.get();
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(hidden + r * width, plan.in.h0 + (first + r) * units, bytes);
    std::memcpy(states.cell + r * width, plan.in.c0 + (first + r) * units, bytes);
  }
  for (int64_t s = 0; s < p.steps; ++s) {
    const int64_t t = plan.step(s);
    for (int64_t r = 0; plan.in.dropout && r < rows; r += kRows) {
      scale_for_dropout(plan, first + r, smaller(kRows, rows - r), t, hidden + r * width,
                        dropped + kGates * r * plan.depth);
    }
    // All rows go through a tile of units before the next tile, while its weights are in the first-level cache.
    for (int64_t u = 0; u < width; u += kWidth<T>) {
      for (int64_t r = 0; r < rows; r += kRows) {
        const int64_t offset = r * width;
        const T* factored = plan.in.dropout ? dropped + kGates * r * plan.depth : nullptr;
        with_rows(smaller(kRows, rows - r), [&](auto number) {
          forward_tile<T, decltype(number)::value>(plan, out, first + r, t, u, hidden + offset, nullptr, factored,
                                                   states.cell + offset, next + offset);
        });
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      put_out(plan, out, first + r, s, next + r * width, states.put_out + (plan.in.mask ? r * width : 0), 0, units);
    }
    std::swap(hidden, next);
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(out.h_n + (first + r) * units, hidden + r * width, bytes);
    std::memcpy(out.c_n + (first + r) * units, states.cell + r * width, bytes);
  }
}

// A batch of one row, whose units are split between the threads.
template <class T>
void forward_single(const Plan<T>& plan, const Forward<T>& out, int threads) {
  const Problem& p = plan.p;
  const Parts<T> parts(plan, threads);
  const std::size_t bytes = static_cast<std::size_t>(p.units) * sizeof(T);
  States<T> states(1, plan.width, plan.in.mask != nullptr);
  Buffer<T> projected(kRows * kGates * p.units, false);
  std::memcpy(states.hidden.get(), plan.in.h0, bytes);
  std::memcpy(states.cell.get(), plan.in.c0, bytes);
  const auto work = [&](int64_t s, int part) {
    const int64_t begin = parts.begin(part), end = parts.begin(part + 1);
    const T* hidden = (s % 2 ? states.next : states.hidden).get();
    T *next = (s % 2 ? states.hidden : states.next).get(), *z = projected + s % kRows * kGates * p.units;
    if (s % kRows == 0) {
      with_rows(smaller(kRows, p.steps - s),
                [&](auto number) { project<T, decltype(number)::value>(plan, s, begin, end, z); });
    }
    add_recurrence(plan, hidden, begin, end, z);
    for (int64_t u = begin; u < end; u += kWidth<T>) {
      forward_tile<T, 1>(plan, out, 0, plan.step(s), u, hidden, z, nullptr, states.cell.get(), next);
    }
    put_out(plan, out, 0, s, next, states.put_out.get(), begin, end);
  };
  walk_together(p.steps, parts.parts, p.threads, work);
  std::memcpy(out.h_n, (p.steps % 2 ? states.next : states.hidden).get(), bytes);
  std::memcpy(out.c_n, states.cell.get(), bytes);
}

template <class T>
void forward(const Problem& p, const Inputs<T>& in, const Forward<T>& out) {
  Plan<T> plan(p, in);
  const int threads = worth(p, 2 * p.batch * p.steps * kGates * p.units * plan.depth);
  if (single(plan)) return forward_single(plan, out, threads);
  Buffer<T> packed(plan.width * kGates * plan.depth, false);
  pack_forward(plan, packed.get());
  plan.packed = packed.get();
  const Chunks chunks(p.batch, threads);
  parallel(chunks.tasks, threads, [&](int64_t task) {
    const int64_t begin = chunks.begin(task);
    forward_task(plan, out, begin, chunks.begin(task + 1) - begin);
  });
}

}  // namespace ZOO_ISA
}  // namespace zoo
