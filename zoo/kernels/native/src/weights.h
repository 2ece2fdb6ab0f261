// The gradient of both kernels, [x, h]^T dz over all rows and steps, the other half of the backward pass.
//
// If the sums fit the second-level cache, a task of the backward pass gathers [x, h] and dz of some steps in a block
// and adds the block's product to its own sums while the block is in that cache, so that dz need not go to memory.
// Otherwise the product waits until all dz are in d_gates, and the threads share its columns.
//
// Columns go in tiles of kColumns vectors of one gate, rows in panels of kPanel: a tile's part of a panel is in the
// first-level cache.
#pragma once

#include "plan.h"

namespace zoo {
namespace ZOO_ISA {

constexpr int64_t kPanel = 96, kSlab = 4 * kPanel;

// Where the tiles of columns begin: [gate][tile][row][lane of the tile], `rows` rows; the last tile of a gate is
// narrower.
template <class T>
struct Tiles {
  static constexpr int64_t kTile = kColumns * kWidth<T>;
  int64_t width, rows;
  int64_t lanes(int64_t column) const { return smaller(kTile, width - column); }
  int64_t begin(int64_t gate, int64_t column) const { return (gate * width + column) * rows; }
  // Element (gate, row, column).
  int64_t at(int64_t gate, int64_t row, int64_t column) const {
    const int64_t first = column / kTile * kTile;
    return begin(gate, first) + row * lanes(first) + column - first;
  }
  int64_t of_gate() const { return (width + kTile - 1) / kTile; }
  int64_t size() const { return kGates * width * rows; }
};

// Rows of [x, h] and of dz. Row `k` belongs to the row and step of the batch that it was gathered from.
template <class T>
struct Block {
  const Plan<T>& plan;
  int64_t filled = 0;  // rows
  Tiles<T> tiles;      // of dz, where it is gathered too
  const T* d_gates;    // else where it is: (batch, steps, 4 * units)
  int64_t first = 0;   // row of d_gates that row 0 is
  Buffer<T> inputs, dz, panel, scaled;
  Buffer<int64_t> owners;  // the row of the batch of each row, asked for under dropout

  Block(const Plan<T>& plan, int64_t room, const T* d_gates)
      : plan(plan), tiles{plan.width, room}, d_gates(d_gates), inputs(room * plan.depth, false),
        dz(d_gates ? 0 : tiles.size(), false), panel(d_gates ? kPanel * Tiles<T>::kTile : 0, false),
        scaled(plan.in.dropout ? kPanel * plan.depth : 0, false), owners(room, false) {}

  // Append [x, h] of a row at step s; zeros for a masked step, which may hold anything.
  void gather(int64_t row, int64_t s, const T* hidden) {
    const Problem& p = plan.p;
    const int64_t t = plan.step(s);
    T* to = inputs + filled * plan.depth;
    owners.get()[filled++] = row;
    if (!plan.valid(row, t)) {
      std::memset(to, 0, static_cast<std::size_t>(plan.depth) * sizeof(T));
      return;
    }
    const T* h = s ? hidden + plan.at(row, s - 1) * p.units : plan.in.h0 + row * p.units;
    std::memcpy(to, plan.in.x + plan.at(row, t) * p.channels, static_cast<std::size_t>(p.channels) * sizeof(T));
    std::memcpy(to + p.channels, h, static_cast<std::size_t>(p.units) * sizeof(T));
  }

  // Rows [begin, begin + count) of [x, h], times the dropout factors of a gate where there are any.
  const T* dropped(int64_t gate, int64_t begin, int64_t count) const {
    const T* from = inputs + begin * plan.depth;
    if (!plan.in.dropout) return from;
    for (int64_t k = 0; k < count; ++k) {
      const T* factors = plan.in.dropout + (gate * plan.p.batch + owners.get()[begin + k]) * plan.depth;
      T* to = scaled + k * plan.depth;
      for (int64_t m = 0; m < plan.depth; ++m) to[m] = from[k * plan.depth + m] * factors[m];
    }
    return scaled.get();
  }

  // The same rows of a tile of dz, (count, N vectors).
  template <int N>
  const T* columns(int64_t gate, int64_t column, int64_t begin, int64_t count) const {
    constexpr int W = kWidth<T>;
    if (!d_gates) return dz + tiles.begin(gate, column) + begin * N * W;
    const int64_t units = plan.p.units;
    const int filled_lanes = static_cast<int>(smaller(N * W, units - column));
    for (int64_t k = 0; k < count; ++k) {
      const T* from = d_gates + ((first + begin + k) * kGates + gate) * units + column;
      for (int n = 0; n < N; ++n) store(panel + (k * N + n) * W, load(from + n * W, filled_lanes - n * W));
    }
    return panel.get();
  }
};

// sum (R, N vectors) += a^T b with a (depth, R) in rows `stride` apart and b (depth, N vectors).
template <class T, int R, int N>
void weight_tile(const T* a, int64_t stride, const T* b, int64_t depth, T* sum) {
  constexpr int W = kWidth<T>;
  Vec<T> s[R][N];
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) s[r][n] = load(sum + (r * N + n) * W);
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
    for (int n = 0; n < N; ++n) store(sum + (r * N + n) * W, s[r][n]);
  }
}

// Add what a block holds to one tile of the sums, (depth, N vectors).
template <class T, int N>
void add_tile(const Block<T>& block, int64_t gate, int64_t column, T* sum) {
  constexpr int W = kWidth<T>;
  const int64_t depth = block.plan.depth, rows = block.filled;
  for (int64_t k = 0; k < rows; k += kPanel) {
    const int64_t count = smaller(kPanel, rows - k);
    const T* a = block.dropped(gate, k, count);
    const T* b = block.template columns<N>(gate, column, k, count);
    for (int64_t m = 0; m < depth; m += kRows) {
      with_rows(smaller(kRows, depth - m), [&](auto number) {
        weight_tile<T, decltype(number)::value, N>(a + m, depth, b, count, sum + m * N * W);
      });
    }
  }
}

// Add what a block holds to tiles [begin, end) of `sums`, tiles of `depth` rows.
template <class T>
void add_block(const Block<T>& block, int64_t begin, int64_t end, T* sums) {
  const Tiles<T> tiles{block.plan.width, block.plan.depth};
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t gate = tile / tiles.of_gate(), column = tile % tiles.of_gate() * Tiles<T>::kTile;
    T* sum = sums + tiles.begin(gate, column);
    switch (tiles.lanes(column) / kWidth<T>) {
      case 4: add_tile<T, 4>(block, gate, column, sum); break;
      case 3: add_tile<T, 3>(block, gate, column, sum); break;
      case 2: add_tile<T, 2>(block, gate, column, sum); break;
      case 1: add_tile<T, 1>(block, gate, column, sum); break;
    }
  }
}

}  // namespace ZOO_ISA
}  // namespace zoo
