// The recurrence, forward and backward, for one instruction set. Included once by each lstm_<isa>.cpp.
//
// A task is a chunk of batch rows with its whole loop over time: rows never meet, so tasks need no barrier. Which
// thread runs which task changes no bit of the result; the number of threads changes the tasks, and so the order in
// which the gradients of bias and parameters are summed. Inside a task, a tile is kRows rows by one vector of units
// in all four gates: 4 * kRows accumulators stay in registers through the product of [x, h] with both kernels, and the
// activations are applied to the tile before it leaves the first-level cache. So the projection of the inputs, four
// times the size of the outputs, is never in memory.
#pragma once

#include "backward.h"
#include "forward.h"

namespace zoo {
namespace ZOO_ISA {

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
    ZOO_TEXT(ZOO_ISA),        ZOO_ISA::activation_name,  ZOO_ISA::forward<float>, ZOO_ISA::forward<double>,
    ZOO_ISA::backward<float>, ZOO_ISA::backward<double>, ZOO_ISA::apply<float>,   ZOO_ISA::apply<double>,
};

}  // namespace zoo
