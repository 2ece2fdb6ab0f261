// The backward pass.
//
// dy is the gradient of a step's output; dh and dc are those of the states after the step, from all later steps:
//
//   dh += dy;  dz_o = dh hidden(c) o';  dc += dh o hidden'(c)  (0 where the clip cut)
//   dz_i = dc g i';  dz_f = dc c_before f';  dz_g = dc i g';  dc_before = dc f;  dh_before = dz U^T
//
// The gradient of x, dz W^T, is left to the caller.
//
// A task is a chunk of rows as in the forward pass. Each thread adds the gradients of weights to sums of its own, and
// takes the same tasks in every equal call, so that for a number of threads results are the same to the bit.
#pragma once

#include <optional>
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

// The gradients that a task carries from each step to the one before.
template <class T>
struct Gradients {
  Buffer<T> hidden, cell, put_out;
  Gradients(int64_t rows, int64_t width, bool masked)
      : hidden(rows * width), cell(rows * width), put_out(masked ? rows * width : 0) {}
};

// The sums over all rows and steps of a thread's tasks.
template <class T>
struct Sums {
  T *bias, *parameters;  // (4, width), (5, width)
  T* kernels;            // tiles of `depth` rows
};

// One tile of the elementwise part: from dh and dc to dz and the dc of the step before. R rows, all at position t, of
// which those that are masked are left as they are, with dz 0. The first of them is row `gathered` of `tiles`.
template <class T, int R>
void backward_tile(const Plan<T>& plan, const Backward<T>& out, int64_t row, int64_t s, int64_t u, const T* hidden,
                   T* cell, const Tiles<T>& tiles, int64_t gathered, T* dz, bool to_memory, const Sums<T>& sums) {
  typedef Vec<T> V;
  const Problem& p = plan.p;
  const int64_t units = p.units, width = plan.width, t = plan.step(s);
  const int lanes = plan.lanes(u);

  if (s > 0) {  // fetch what the step before will need while this one is computed
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
    if (plan.clips) {  // only the clipped state was kept, so the sum before clipping is computed again
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
  for (int a = 0; a < kActivations; ++a) {  // first, because dz overwrites what was kept
    if (!(p.learned >> a & 1)) continue;
    V kept[R], by[R], sum = load(sums.parameters + a * width + u);
    for (int r = 0; r < R; ++r) {
      const int64_t place = plan.at(row + r, t);
      kept[r] =
          load(a == kHidden ? out.cells + place * units + u : out.gates + (place * kGates + a) * units + u, lanes);
    }
    plan.rows[a]->by_parameter(kept, by, R, plan.parameter(a, u));
    for (int r = 0; r < R; ++r) sum += plan.valid(row + r, t) ? upstream[a][r] * by[r] : V{};
    store(sums.parameters + a * width + u, sum);
  }
  for (int g = 0; g < kGates; ++g) {
    V sum = load(sums.bias + g * width + u);
    const int64_t stride = tiles.lanes(u / tiles.kTile * tiles.kTile);
    T* to = dz + tiles.at(g, gathered, u);
    for (int r = 0; r < R; ++r) {
      // A choice, not a product with 0: at a masked step a kept value may be anything, a NaN too.
      const V d = plan.valid(row + r, t) ? upstream[g][r] * slope[g][r] : V{};
      store(to + r * stride, d);
      if (to_memory) store(out.d_gates + (plan.at(row + r, t) * kGates + g) * units + u, d, lanes);
      sum += d;
    }
    store(sums.bias + g * width + u, sum);
  }
}

// One tile of dh = dz U^T: R rows by N vectors of units from j on; each gate's part times its dropout factors.
template <class T, int R, int N, bool kDropout>
void product_tile(const Plan<T>& plan, int64_t row, int64_t t, int64_t j, const Tiles<T>& tiles, int64_t gathered,
                  const T* dz, T* hidden) {
  typedef Vec<T> V;
  constexpr int W = kWidth<T>;
  const int64_t units = plan.p.units, width = plan.width;
  const T* weights = plan.packed + kGates * units * j;
  V total[R][N] = {}, sum[R][N] = {};
  for (int g = 0; g < kGates; ++g) {
    for (int64_t k = 0; k < units; k += tiles.kTile) {
      const int64_t depth = smaller(tiles.kTile, units - k);
      accumulate<T>(sum, dz + tiles.at(g, gathered, k), tiles.lanes(k), depth, weights, N * W);
      weights += depth * N * W;
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

// The dz of a step, for all rows of a task: rows of tiles from `begin` on.
template <class T>
struct Step {
  const Plan<T>& plan;
  int64_t first, rows, t;
  const Tiles<T>& tiles;
  int64_t begin;
  const T* dz;
};

template <class T, int N>
void product_columns(const Step<T>& step, int64_t j, T* hidden) {
  for (int64_t r = 0; r < step.rows; r += kRows) {
    with_rows(smaller(kRows, step.rows - r), [&](auto number) {
      constexpr int R = decltype(number)::value;
      const auto product = [&](auto dropout) {
        product_tile<T, R, N, decltype(dropout)::value>(step.plan, step.first + r, step.t, j, step.tiles,
                                                        step.begin + r, step.dz, hidden + r * step.plan.width);
      };
      step.plan.in.dropout ? product(std::true_type()) : product(std::false_type());
    });
  }
}

// Compute dh of the step before.
template <class T>
void product(const Step<T>& step, T* hidden) {
  constexpr int W = kWidth<T>;
  const int64_t width = step.plan.width;
  int64_t j = 0;
  for (; j + kColumns * W <= width; j += kColumns * W) product_columns<T, kColumns>(step, j, hidden);
  const int64_t rest = (width - j) / W;
  if (rest == 1) product_columns<T, 1>(step, j, hidden);
  if (rest == 2) product_columns<T, 2>(step, j, hidden);
  if (rest == 3) product_columns<T, 3>(step, j, hidden);
}

// Add the gradient of what was put out at step s to dh, units [begin, end). At a masked step it belongs to the last
// valid step before, or to nothing where there is none or 0 was put out.
template <class T>
void add_gradient_of_output(const Plan<T>& plan, const Backward<T>& out, int64_t row, int64_t s, int64_t begin,
                            int64_t end, T* hidden, T* put_out) {
  const Problem& p = plan.p;
  const bool shown = p.return_sequences || s == p.steps - 1, valid = plan.valid(row, plan.step(s));
  const T* d_output = out.d_outputs + (p.return_sequences ? plan.at(row, s) : row) * p.units;
  for (int64_t u = begin; shown && valid && u < end; ++u) hidden[u] += d_output[u];
  if (!plan.in.mask) return;
  for (int64_t u = begin; valid && u < end; ++u) {
    hidden[u] += put_out[u];
    put_out[u] = 0;
  }
  for (int64_t u = begin; !valid && shown && !p.zero_output_for_mask && u < end; ++u) put_out[u] += d_output[u];
}

// Rows [first, first + rows) from the last step to the first. With a block, their part of the kernels' gradients is
// added to the sums while dz is in the cache; without one, dz goes to memory for a product after the loop.
template <class T>
void backward_task(const Plan<T>& plan, const Backward<T>& out, int64_t first, int64_t rows, Block<T>* block,
                   const Sums<T>& sums) {
  const Problem& p = plan.p;
  const int64_t units = p.units, width = plan.width;
  const std::size_t bytes = static_cast<std::size_t>(units) * sizeof(T);
  Gradients<T> d(rows, width, plan.in.mask != nullptr);
  const Tiles<T> tiles = block ? block->tiles : Tiles<T>{width, rows};
  Buffer<T> of_rows(block ? 0 : tiles.size());
  T* dz = block ? block->dz.get() : of_rows.get();
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(d.hidden + r * width, out.d_h_n + (first + r) * units, bytes);
    std::memcpy(d.cell + r * width, out.d_c_n + (first + r) * units, bytes);
  }
  for (int64_t s = p.steps - 1; s >= 0; --s) {
    const Step<T> step{plan, first, rows, plan.step(s), tiles, block ? block->filled : 0, dz};
    for (int64_t r = 0; r < rows; ++r) {
      add_gradient_of_output(plan, out, first + r, s, 0, units, d.hidden + r * width,
                             d.put_out + (plan.in.mask ? r * width : 0));
    }
    for (int64_t r = 0; r < rows; r += kRows) {
      const int64_t offset = r * width;
      for (int64_t u = 0; u < width; u += kWidth<T>) {
        with_rows(smaller(kRows, rows - r), [&](auto number) {
          backward_tile<T, decltype(number)::value>(plan, out, first + r, s, u, d.hidden + offset, d.cell + offset,
                                                    tiles, step.begin + r, dz, p.of_x || !block, sums);
        });
      }
    }
    product(step, d.hidden.get());
    if (!block) continue;
    for (int64_t r = 0; r < rows; ++r) block->gather(first + r, s, out.hidden);
    if (s == 0 || block->filled + rows > tiles.rows) {
      add_block(*block, 0, kGates * tiles.of_gate(), sums.kernels);
      block->filled = 0;
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(out.d_h0 + (first + r) * units, d.hidden + r * width, bytes);
    std::memcpy(out.d_c0 + (first + r) * units, d.cell + r * width, bytes);
  }
}

// A batch of one row, whose units are split between the threads. A step begins with the product with dz of the step
// after it, so all parts of that dz must be done; the product of the first step takes one iteration more.
template <class T>
void backward_single(const Plan<T>& plan, const Backward<T>& out, int threads, const Sums<T>& sums) {
  const Problem& p = plan.p;
  const Parts<T> parts(plan, threads);
  const std::size_t bytes = static_cast<std::size_t>(p.units) * sizeof(T);
  const Tiles<T> tiles{plan.width, 1};  // so dz is in the order of the columns of U
  Gradients<T> d(1, plan.width, plan.in.mask != nullptr);
  Buffer<T> even(tiles.size(), false), odd(tiles.size(), false);
  std::memcpy(d.hidden.get(), out.d_h_n, bytes);
  std::memcpy(d.cell.get(), out.d_c_n, bytes);
  const auto work = [&](int64_t done, int part) {
    const int64_t begin = parts.begin(part), end = parts.begin(part + 1), s = p.steps - 1 - done;
    T *dz = (s % 2 ? odd : even).get(), *after = (s % 2 ? even : odd).get();
    // The state of a masked step is that of the step before.
    if (done && plan.valid(0, plan.step(s + 1))) single_product(plan, after, begin, end, d.hidden.get());
    if (s < 0) return;
    add_gradient_of_output(plan, out, 0, s, begin, end, d.hidden.get(), d.put_out.get());
    for (int64_t u = begin; u < end; u += kWidth<T>) {
      backward_tile<T, 1>(plan, out, 0, s, u, d.hidden.get(), d.cell.get(), tiles, 0, dz, true, sums);
    }
  };
  walk_together(p.steps + 1, parts.parts, p.threads, work);
  std::memcpy(out.d_h0, d.hidden.get(), bytes);
  std::memcpy(out.d_c0, d.cell.get(), bytes);
}

// Add up the sums of all threads, always in the same order, so that the result is reproducible to the bit.
template <class T>
void add_up(const T* sums, int64_t threads, int64_t stride, int64_t blocks, int64_t width, int64_t units, T* total) {
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t u = 0; u < units; ++u) {
      T sum = 0;
      for (int64_t thread = 0; thread < threads; ++thread) sum += sums[thread * stride + b * width + u];
      total[b * units + u] = sum;
    }
  }
}

template <class T>
struct BackwardCall {
  const Plan<T>& plan;
  const Backward<T>& out;
  const int wanted;  // threads
  const Chunks chunks;
  const int64_t threads, tiles, of_small, of_kernels;  // threads of the recurrence, and sizes of sums
  const int64_t room;                                  // rows of a block
  const bool fused;
  Buffer<T> small, kernels;

  BackwardCall(const Plan<T>& plan, const Backward<T>& out, int wanted)
      : plan(plan), out(out), wanted(wanted), chunks(plan.p.batch, wanted), threads(smaller(wanted, chunks.tasks)),
        tiles(kGates * Tiles<T>{plan.width, 0}.of_gate()), of_small((kGates + kActivations) * plan.width),
        of_kernels(kGates * plan.width * plan.depth), room(larger(kPanel, chunks.largest())),
        fused(!single(plan) && threads == wanted && fits()), small(threads * of_small),
        kernels((fused ? threads : 1) * of_kernels, false) {}

  // Whether everything that the steps of a block use repeatedly fits three quarters of the second-level cache.
  bool fits() const {
    const int64_t elements =
        of_kernels + kGates * plan.width * plan.p.units + room * (kGates * plan.width + plan.depth);
    return elements * static_cast<int64_t>(sizeof(T)) <= second_level_cache() / 4 * 3;
  }

  Sums<T> sums(int64_t thread) const {
    T* own = small + thread * of_small;
    return {own, own + kGates * plan.width, kernels + (fused ? thread * of_kernels : 0)};
  }

  void run(int workers) {
    if (single(plan)) return backward_single(plan, out, wanted, sums(0));
    parallel(threads, workers, [&](int64_t thread) { recurrence(thread); });
  }

  void recurrence(int64_t thread) {
    const Sums<T> sums = this->sums(thread);
    std::optional<Block<T>> block;
    if (fused) {
      block.emplace(plan, room, nullptr);
      std::memset(sums.kernels, 0, static_cast<std::size_t>(of_kernels) * sizeof(T));
    }
    for (int64_t task = chunks.tasks * thread / threads; task < chunks.tasks * (thread + 1) / threads; ++task) {
      const int64_t first = chunks.begin(task);
      backward_task(plan, out, first, chunks.begin(task + 1) - first, block ? &*block : nullptr, sums);
    }
  }

  // Tiles [begin, end) of the product for the kernels, from d_gates.
  void product(int64_t begin, int64_t end) {
    const int64_t all = plan.p.batch * plan.p.steps;
    Block<T> block(plan, smaller(kSlab, all), out.d_gates);
    std::memset(kernels + place(begin), 0, static_cast<std::size_t>(place(end) - place(begin)) * sizeof(T));
    for (block.first = 0; block.first < all; block.first += block.filled) {
      block.filled = 0;
      for (int64_t k = block.first; k < smaller(block.first + kSlab, all); ++k) {
        block.gather(k / plan.p.steps, plan.step(k % plan.p.steps), out.hidden);
      }
      add_block(block, begin, end, kernels.get());
    }
  }

  // Tiles [begin, end) of the kernels' gradients.
  void weights(int64_t begin, int64_t end) {
    if (!fused) product(begin, end);
    const Tiles<T> of{plan.width, plan.depth};
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t gate = tile / of.of_gate(), column = tile % of.of_gate() * of.kTile;
      const int64_t filled = smaller(of.kTile, plan.p.units - column);
      for (int64_t m = 0; m < plan.depth; ++m) {
        T* to = out.d_kernels + (m * kGates + gate) * plan.p.units + column;
        const T* from = kernels + of.at(gate, m, column);
        std::memcpy(to, from, static_cast<std::size_t>(filled) * sizeof(T));
        for (int64_t thread = 1; fused && thread < threads; ++thread) {
          from += of_kernels;
          for (int64_t lane = 0; lane < filled; ++lane) to[lane] += from[lane];
        }
      }
    }
  }

  // Where a tile of the sums begins.
  int64_t place(int64_t tile) const {
    const Tiles<T> of{plan.width, plan.depth};
    return of.begin(tile / of.of_gate(), tile % of.of_gate() * of.kTile);
  }
};

template <class T>
void backward(const Problem& p, const Inputs<T>& in, const Backward<T>& out) {
  Plan<T> plan(p, in);
  Buffer<T> packed(single(plan) ? 0 : plan.width * kGates * p.units);
  if (!single(plan)) pack_backward(plan, packed.get());
  plan.packed = packed.get();
  const int64_t of_kernels = 2 * kGates * p.units * plan.depth, of_states = 2 * kGates * p.units * p.units;
  BackwardCall<T> call(plan, out, worth(p, p.batch * p.steps * (of_kernels + of_states)));
  call.run(p.threads);
  const int64_t steps = call.fused ? call.threads : p.batch * p.steps;
  const int64_t parts = smaller(worth(p, of_kernels * steps), call.tiles);
  parallel(parts, p.threads,
           [&](int64_t part) { call.weights(call.tiles * part / parts, call.tiles * (part + 1) / parts); });
  add_up(call.small.get(), call.threads, call.of_small, kGates, plan.width, p.units, out.d_bias);
  add_up(call.small + kGates * plan.width, call.threads, call.of_small, kActivations, plan.width, p.units,
         out.d_parameters);
}

}  // namespace ZOO_ISA
}  // namespace zoo
