// The recurrence, forward and backward, for one instruction set. Included once by each lstm_<isa>.cpp.
//
// A task is a chunk of batch rows with its whole loop over time: rows never meet, so tasks need no barrier. Which
// thread runs which task changes no bit of the result; the number of threads changes the tasks, and so the order in
// which the gradients of bias and parameters are summed. Inside a task, a tile is kRows rows by one vector of units
// in all four gates: 4 * kRows accumulators stay in registers through the product of [x, h] with both kernels, and the
// activations are applied to the tile before it leaves the first-level cache. So the projection of the inputs, four
// times the size of the outputs, is never in memory.
#pragma once

#include <limits>
#include <memory>
#include <new>

#include "activations.h"
#include "lstm.h"

namespace zoo {
namespace ZOO_ISA {

constexpr int kRows = ZOO_TILE_ROWS;    // rows of a tile: what the registers hold
#ifndef CH
#define CH 2
#endif
constexpr int kChunk = CH * kRows;       // rows of a task
constexpr int kGates = 4;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Zeroed memory on a cache line.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size) : data_(static_cast<T*>(::operator new(bytes(size), std::align_val_t(64)))) {
    std::memset(data_, 0, bytes(size));
  }
  ~Buffer() { ::operator delete(data_, std::align_val_t(64)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* operator+(int64_t offset) const { return data_ + offset; }
  T* get() const { return data_; }

 private:
  static std::size_t bytes(int64_t size) { return static_cast<std::size_t>(size > 0 ? size : 1) * sizeof(T); }
  T* data_;
};

// What a task needs to know, worked out once a call.
template <class T>
struct Plan {
  const Problem& p;
  const Inputs<T>& in;
  int64_t depth;       // channels + units
  int64_t width;       // units rounded up to whole vectors
  const T* packed;     // [kernel; recurrent kernel] in the order of the inner loop
  const Row<T>* rows[kActivations];
  T clip;
  bool clips;

  Plan(const Problem& problem, const Inputs<T>& inputs)
      : p(problem), in(inputs), depth(problem.channels + problem.units), width((problem.units + kWidth<T> - 1) / kWidth<T> * kWidth<T>), packed(nullptr),
        clip(static_cast<T>(problem.cell_clip)), clips(problem.cell_clip < std::numeric_limits<double>::infinity()) {
    for (int g = 0; g < kActivations; ++g) rows[g] = &Table<T>::kRows[problem.activation[g]];
  }

  int64_t step(int64_t s) const { return p.go_backwards ? p.steps - 1 - s : s; }
  bool valid(int64_t row, int64_t t) const { return !in.mask || in.mask[row * p.steps + t]; }
  int lanes(int64_t unit) const { return static_cast<int>(smaller(kWidth<T>, p.units - unit)); }
  Vec<T> parameter(int g, int64_t unit) const { return load(in.parameters + g * p.units + unit, lanes(unit)); }
  // The arrays of every step: row-major (batch, steps, ...).
  int64_t at(int64_t row, int64_t t) const { return row * p.steps + t; }
};

// Held in [-bound, bound]; a NaN stays.
template <class T>
ZOO_INLINE Vec<T> clipped(const Plan<T>& plan, Vec<T> c) {
  return plan.clips ? at_least<T>(at_most<T>(c, plan.clip), -plan.clip) : c;
}

// === Forward ===

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

// Add to `sum` the product of R rows of `depth` values, `stride` apart, with N vectors of weights for each value,
// `weight_stride` apart.
template <class T, int R, int N>
ZOO_INLINE void accumulate(Vec<T> (&sum)[R][N], const T* rows, int64_t stride, int64_t depth, const T* weights,
                           int64_t weight_stride) {
  constexpr int W = kWidth<T>;
  for (int64_t k = 0; k < depth; ++k, weights += weight_stride) {
    Vec<T> w[N];
    for (int n = 0; n < N; ++n) w[n] = load(weights + n * W);
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = broadcast(rows[r * stride + k]);
      for (int n = 0; n < N; ++n) sum[r][n] += x * w[n];
    }
  }
}

// The same where each gate has rows of its own, `gate_stride` apart.
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
// `hidden` and `cell` are those rows of the task's states, `next` receives the new h. Either `z` is there already,
// (R, 4, width); or, under dropout, `dropped` holds [x, h] times the factors of each gate, (4, R, depth); or both are
// null.
template <class T, int R>
void forward_tile(const Plan<T>& plan, const Forward<T>& out, int64_t row, int64_t t, int64_t u, const T* hidden,
                  const T* z, const T* dropped, T* cell, T* next) {
  typedef Vec<T> V;
  constexpr int W = kWidth<T>;
  const int64_t units = plan.p.units, width = plan.width, channels = plan.p.channels;
  const int lanes = plan.lanes(u);

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

// === A batch of one row ===
//
// Every weight is used once a step, so copying the kernels into another order would cost as much as several steps. They
// are read as they are, whole rows of columns at a time, which needs units that fill whole vectors. And the steps stand
// in for the rows of a tile where the inputs are projected, so that W is read once for several.

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
  add_recurrence<T, kGates>(plan, hidden, z, add_recurrence<T, 2 * kRows>(plan, hidden, z, 0));
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

// Call `kernel<R>` for R = rows, 1 to kRows.
template <template <int> class F, int R, class... A>
ZOO_INLINE void with_rows(int64_t rows, A&&... arguments) {
  if constexpr (R >= 1) {
    if (rows == R) return F<R>::call(arguments...);
    with_rows<F, R - 1>(rows, arguments...);
  }
}

template <class T>
struct ForwardTile {
  template <int R>
  struct Of {
    template <class... A>
    static void call(A&&... arguments) {
      forward_tile<T, R>(arguments...);
    }
  };
};

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

template <class T>
void forward_task(const Plan<T>& plan, const Forward<T>& out, int64_t first, int64_t rows) {
  const Problem& p = plan.p;
  const int64_t units = p.units, width = plan.width;
  const std::size_t bytes = static_cast<std::size_t>(units) * sizeof(T);
  States<T> states(rows, width, plan.in.mask != nullptr);
  Buffer<T> dropped(plan.in.dropout ? kGates * rows * plan.depth : 0);
  const bool alone = single(plan);
  Buffer<T> projected(alone ? kRows * kGates * units : 0);
  T *hidden = states.hidden.get(), *next = states.next.get();
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(hidden + r * width, plan.in.h0 + (first + r) * units, bytes);
    std::memcpy(states.cell + r * width, plan.in.c0 + (first + r) * units, bytes);
  }
  for (int64_t s = 0; s < p.steps; ++s) {
    const int64_t t = plan.step(s);
    for (int64_t r = 0; out.inputs && r < rows; ++r) {
      T* to = out.inputs + plan.at(first + r, t) * plan.depth;
      std::memcpy(to, plan.in.x + plan.at(first + r, t) * p.channels, static_cast<std::size_t>(p.channels) * sizeof(T));
      std::memcpy(to + p.channels, hidden + r * width, bytes);
    }
    for (int64_t r = 0; plan.in.dropout && r < rows; r += kRows) {
      scale_for_dropout(plan, first + r, smaller(kRows, rows - r), t, hidden + r * width,
                        dropped + kGates * r * plan.depth);
    }
    T* z = alone ? projected + s % kRows * kGates * units : nullptr;
    if (alone) {
      if (s % kRows == 0) with_rows<Project<T>::template Of, kRows>(smaller(kRows, p.steps - s), plan, s, z);
      add_recurrence(plan, hidden, z);
    }
    // All rows before the next tile of units, whose weights are then still in the first-level cache.
    for (int64_t u = 0; u < width; u += kWidth<T>) {
      for (int64_t r = 0; r < rows; r += kRows) {
        const int64_t offset = r * width;
        with_rows<ForwardTile<T>::template Of, kRows>(
            smaller(kRows, rows - r), plan, out, first + r, t, u, hidden + offset,
            z, plan.in.dropout ? dropped + kGates * r * plan.depth : nullptr, states.cell + offset, next + offset);
      }
    }
    // What the layer puts out: the hidden state; at a masked step what was put out before, 0 at first, or always 0.
    const bool wanted = p.return_sequences || s == p.steps - 1;
    for (int64_t r = 0; r < rows; ++r) {
      const T* shown = next + r * width;
      if (plan.in.mask) {
        T* last = states.put_out + r * width;
        if (plan.valid(first + r, t)) {
          std::memcpy(last, shown, bytes);
        } else if (p.zero_output_for_mask) {
          std::memset(last, 0, bytes);
        }
        shown = last;
      }
      const int64_t place = p.return_sequences ? plan.at(first + r, s) : first + r;
      if (wanted) std::memcpy(out.outputs + place * units, shown, bytes);
    }
    std::swap(hidden, next);
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(out.h_n + (first + r) * units, hidden + r * width, bytes);
    std::memcpy(out.c_n + (first + r) * units, states.cell + r * width, bytes);
  }
}

// Threads worth waking for so many multiplications and additions: waking one takes some tens of microseconds.
inline int worth(const Problem& p, int64_t operations) {
  constexpr int64_t kEach = 6'000'000;
  return static_cast<int>(smaller(p.threads, 1 + operations / kEach));
}

// Rows of each task: as even as they can be, and at least as many tasks as threads where there are rows enough.
struct Chunks {
  int64_t rows, tasks;
  Chunks(int64_t batch, int threads) : rows(batch) {
    tasks = (batch + kChunk - 1) / kChunk;
    if (tasks % threads) tasks += threads - tasks % threads;
    if (tasks > batch) tasks = batch;
  }
  int64_t begin(int64_t task) const { return rows / tasks * task + smaller(task, rows % tasks); }
};

template <class T>
void forward(const Problem& p, const Inputs<T>& in, const Forward<T>& out) {
  Plan<T> plan(p, in);
  Buffer<T> packed(single(plan) ? 0 : plan.width * kGates * plan.depth);
  if (!single(plan)) pack_forward(plan, packed.get());
  plan.packed = packed.get();
  const int threads = worth(p, 2 * p.batch * p.steps * kGates * p.units * plan.depth);
  struct Call {
    const Plan<T>& plan;
    const Forward<T>& out;
    Chunks chunks;
  } call{plan, out, Chunks(p.batch, threads)};
  parallel(call.chunks.tasks, threads, [](void* context, int64_t task) {
    const Call& c = *static_cast<Call*>(context);
    const int64_t begin = c.chunks.begin(task);
    forward_task(c.plan, c.out, begin, c.chunks.begin(task + 1) - begin);
  }, &call);
}

// === Backward ===
//
// With dy the gradient of a step's output, dh and dc those of the states after it, all from the steps after:
//
//   dh += dy;  dz_o = dh hidden(c) o';  dc += dh o hidden'(c)  (0 where the clip cut)
//   dz_i = dc g i';  dz_f = dc c_before f';  dz_g = dc i g';  dc_before = dc f;  dh_before = dz U^T
//
// After the last step the gradients of both kernels are one large product, [x, h]^T dz over all rows and steps. The
// gradient of x, dz W^T, is left to the caller, who knows whether anybody wants it.

constexpr int kColumns = 4;  // vectors of a tile of the product with U^T

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

// === The gradient of both kernels ===
//
// A task has a share of the tiles of columns, kColumns vectors of one gate each. It goes through all rows and steps in
// slabs of kSlab, which its tiles read from the second-level cache one after the other, and through a slab in panels of
// kPanel, of which each tile keeps its columns of dz in the first-level cache.

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

// === One activation by itself, for the tests ===

template <class T>
void apply(int code, int64_t n, const T* x, const T* parameter, T* y, T* dx, T* dp) {
  constexpr int W = kWidth<T>;
  const Row<T>& row = Table<T>::kRows[code];
  for (int64_t i = 0; i < n; i += W) {
    const int lanes = static_cast<int>(smaller(W, n - i));
    Vec<T> value = load(x + i, lanes), p = load(parameter + i, lanes), kept = value, slope, by = {};
    row.value(&value, 1, p);
    if (row.saves == kOutput) kept = value;
    Vec<T> again = kept;
    row.value_and_slope(&again, &slope, 1, p);
    if (row.by_parameter) row.by_parameter(&kept, &by, 1, p);
    store(y + i, value, lanes);
    store(dx + i, slope, lanes);
    store(dp + i, by, lanes);
  }
}

inline const char* activation_name(int code) {
  return code >= 0 && code < Table<float>::kSize ? Table<float>::kRows[code].name : nullptr;
}

}  // namespace ZOO_ISA

#define ZOO_JOIN_(a, b) a##b
#define ZOO_JOIN(a, b) ZOO_JOIN_(a, b)
#define ZOO_TEXT_(a) #a
#define ZOO_TEXT(a) ZOO_TEXT_(a)
extern const Engine ZOO_JOIN(ZOO_ISA, _engine);
const Engine ZOO_JOIN(ZOO_ISA, _engine) = {
    ZOO_TEXT(ZOO_ISA),         ZOO_ISA::activation_name,  ZOO_ISA::forward<float>, ZOO_ISA::forward<double>,
    ZOO_ISA::backward<float>,  ZOO_ISA::backward<double>, ZOO_ISA::apply<float>,   ZOO_ISA::apply<double>,
};

}  // namespace zoo
