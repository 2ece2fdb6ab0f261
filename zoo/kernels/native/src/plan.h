// Shared by all parts of the recurrence: sizes, scratch memory, the tasks of a call, the inner product.
#pragma once

#include <limits>
#include <new>
#include <type_traits>

#include "activations.h"
#include "lstm.h"

namespace zoo {
namespace ZOO_ISA {

constexpr int kRows = ZOO_TILE_ROWS;  // rows of a tile: what the registers hold
constexpr int kColumns = 4;           // vectors of a tile of the products of the backward pass
constexpr int kChunk = 2 * kRows;     // rows of a task
constexpr int kGates = 4;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Memory aligned to a cache line, zeroed unless all of it will be written before it is read.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size, bool zeroed = true)
      : data_(static_cast<T*>(::operator new(bytes(size), std::align_val_t(64)))) {
    if (zeroed) std::memset(data_, 0, bytes(size));
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

// The data for all tasks, computed once for each call.
template <class T>
struct Plan {
  const Problem& p;
  const Inputs<T>& in;
  int64_t depth;    // channels + units
  int64_t width;    // units rounded up to whole vectors
  const T* packed;  // [kernel; recurrent kernel] in the order of the inner loop
  const Row<T>* rows[kActivations];
  T clip;
  bool clips;

  Plan(const Problem& problem, const Inputs<T>& inputs)
      : p(problem), in(inputs), depth(problem.channels + problem.units),
        width((problem.units + kWidth<T> - 1) / kWidth<T> * kWidth<T>), packed(nullptr),
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

// Clip to [-bound, bound]; a NaN stays a NaN.
template <class T>
ZOO_INLINE Vec<T> clipped(const Plan<T>& plan, Vec<T> c) {
  return plan.clips ? at_least<T>(at_most<T>(c, plan.clip), -plan.clip) : c;
}

// Call `body(number)` with `rows`, 1 to R, as a type: inside, `decltype(number)::value` is a constant, so the rows of a
// tile can be registers.
template <int R = kRows, class Body>
ZOO_INLINE void with_rows(int64_t rows, const Body& body) {
  if (rows == R) return body(std::integral_constant<int, R>());
  if constexpr (R > 1) with_rows<R - 1>(rows, body);
}

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

// The number of threads worth waking for this many multiplications and additions: waking one takes tens of
// microseconds.
inline int worth(const Problem& p, int64_t operations) {
  constexpr int64_t kEach = 6'000'000;
  return static_cast<int>(smaller(p.threads, 1 + operations / kEach));
}

// The rows of each task: as even as possible, and at least as many tasks as threads if there are enough rows.
struct Chunks {
  int64_t rows, tasks;
  Chunks(int64_t batch, int threads) : rows(batch) {
    tasks = (batch + kChunk - 1) / kChunk;
    if (tasks % threads) tasks += threads - tasks % threads;
    if (tasks > batch) tasks = batch;
  }
  int64_t largest() const { return (rows + tasks - 1) / tasks; }
  int64_t begin(int64_t task) const { return rows / tasks * task + smaller(task, rows % tasks); }
};

}  // namespace ZOO_ISA
}  // namespace zoo
