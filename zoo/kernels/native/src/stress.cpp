// Calls the engine without Python, from several threads, on random problems of every kind: what the sanitizers watch.
// Every array has exactly the size that lstm.h says, so that a step past its end is seen. Instruction sets must agree.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "lstm.h"

namespace {

using zoo::Engine;
using zoo::Problem;

template <class T>
using Array = std::vector<T>;

template <class T>
struct Case {
  Problem p{};
  Array<T> x, kernel, recurrent, bias, h0, c0, dropout, parameters, d_outputs, d_h, d_c;
  std::unique_ptr<bool[]> mask;

  explicit Case(unsigned seed) {
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    const auto fill = [&](int64_t n, double scale) {
      std::normal_distribution<double> normal(0, scale);
      Array<T> array(static_cast<std::size_t>(n));
      for (T& value : array) value = static_cast<T>(normal(random));
      return array;
    };
    p.batch = below(4) ? 1 + below(30) : 1, p.steps = 1 + below(6), p.channels = 1 + below(9), p.units = 1 + below(70);
    if (below(3) == 0) p.units = 16 * (1 + below(4));
    if (seed % 10 == 0) p.batch = 1, p.units = 128, p.steps = 50;  // units split over threads
    if (seed % 10 == 5) p.batch = 3, p.units = 264, p.steps = 3;   // sums that fill the second-level cache
    int known = 0;
    while (zoo::engine()->activation_name(known)) ++known;
    // Bounded gates, so that a difference between instruction sets is an error and not the growth of one.
    for (int g = 0; g < zoo::kActivations; ++g) p.activation[g] = g == 1 || g == 4 ? 1 : below(known);
    for (int g = 0; g < zoo::kActivations; ++g) {
      const std::string name = zoo::engine()->activation_name(p.activation[g]);
      if (name == "prelu" || name == "parametric_swish") p.learned |= 1u << g;
    }
    p.go_backwards = below(2), p.return_sequences = below(2), p.zero_output_for_mask = below(2), p.of_x = below(2);
    p.cell_clip = below(2) ? 0.5 : std::numeric_limits<double>::infinity();
    p.threads = 1 + below(4);
    const int64_t rows = p.batch * p.units;
    x = fill(p.batch * p.steps * p.channels, 1), kernel = fill(p.channels * 4 * p.units, 0.3);
    recurrent = fill(p.units * 4 * p.units, 0.1), h0 = fill(rows, 1), c0 = fill(rows, 1);
    parameters = Array<T>(static_cast<std::size_t>(zoo::kActivations * p.units), T(0.5));
    if (below(2)) bias = fill(4 * p.units, 0.3);
    if (below(3) == 0) dropout = fill(4 * p.batch * (p.channels + p.units), 1);
    if (below(2)) {
      mask.reset(new bool[static_cast<std::size_t>(p.batch * p.steps)]);
      for (int64_t i = 0; i < p.batch * p.steps; ++i) mask[static_cast<std::size_t>(i)] = below(3) != 0;
    }
    d_outputs = fill(p.return_sequences ? rows * p.steps : rows, 1), d_h = fill(rows, 1), d_c = fill(rows, 1);
  }

  zoo::Inputs<T> inputs() const {
    const auto given = [](const Array<T>& array) { return array.empty() ? nullptr : array.data(); };
    return {x.data(),  kernel.data(), recurrent.data(), given(bias),      h0.data(),
            c0.data(), mask.get(),    given(dropout),   parameters.data()};
  }
};

void call(const Engine& e, const Problem& p, const zoo::Inputs<float>& in, const zoo::Forward<float>& out) {
  e.forward_float(p, in, out);
}
void call(const Engine& e, const Problem& p, const zoo::Inputs<double>& in, const zoo::Forward<double>& out) {
  e.forward_double(p, in, out);
}
void call(const Engine& e, const Problem& p, const zoo::Inputs<float>& in, const zoo::Backward<float>& out) {
  e.backward_float(p, in, out);
}
void call(const Engine& e, const Problem& p, const zoo::Inputs<double>& in, const zoo::Backward<double>& out) {
  e.backward_double(p, in, out);
}

// Everything that one engine makes of a case, one array after the other.
template <class T>
Array<T> results(const Engine& engine, const Case<T>& c) {
  const Problem& p = c.p;
  const auto made = [](int64_t n) { return Array<T>(static_cast<std::size_t>(n)); };
  const int64_t rows = p.batch * p.units, all = rows * p.steps;
  Array<T> outputs = made(p.return_sequences ? all : rows), h = made(rows), c_n = made(rows), gates = made(4 * all),
           cells = made(all), hidden = made(all);
  zoo::Forward<T> forward{outputs.data(), h.data(), c_n.data(), nullptr, nullptr, nullptr};
  call(engine, p, c.inputs(), forward);  // without the reserve
  const Array<T> at_inference = outputs;
  forward.gates = gates.data(), forward.cells = cells.data();
  if (!p.return_sequences || c.mask) forward.hidden = hidden.data();
  call(engine, p, c.inputs(), forward);
  Array<T> d_bias = made(4 * p.units), d_h0 = made(rows), d_c0 = made(rows), d_parameters = made(5 * p.units);
  Array<T> d_kernels = made((p.channels + p.units) * 4 * p.units);
  const T* states = forward.hidden ? hidden.data() : outputs.data();
  const zoo::Backward<T> backward{gates.data(),  cells.data(), states,       c.d_outputs.data(),
                                  c.d_h.data(),  c.d_c.data(), gates.data(), d_kernels.data(),
                                  d_bias.data(), d_h0.data(),  d_c0.data(),  d_parameters.data()};
  call(engine, p, c.inputs(), backward);
  if (!p.of_x) gates.clear();
  Array<T> joined;
  const std::initializer_list<const Array<T>*> parts = {&at_inference, &outputs, &h,    &c_n,  &hidden,      &gates,
                                                        &d_kernels,    &d_bias,  &d_h0, &d_c0, &d_parameters};
  for (const Array<T>* part : parts) {
    joined.insert(joined.end(), part->begin(), part->end());
  }
  return joined;
}

template <class T>
void check(unsigned seed, double tolerance) {
  const Case<T> c(seed);
  const Array<T> expected = results(*zoo::engine("portable"), c);
  for (const char* name : {"portable", "avx2", "avx512"}) {
    const Engine* engine = zoo::engine(name);
    if (!engine) continue;
    const Array<T> found = results(*engine, c);
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double difference = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
      if (!(difference <= tolerance * (1 + std::abs(static_cast<double>(expected[i]))))) {
        std::printf("seed %u, %s: value %zu is %g, portable %g\n", seed, name, i, static_cast<double>(found[i]),
                    static_cast<double>(expected[i]));
        std::exit(1);
      }
    }
  }
}

}  // namespace

int main() {
  constexpr unsigned kCallers = 3, kCases = 60;
  std::vector<std::thread> callers;
  for (unsigned caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([caller] {
      for (unsigned k = 0; k < kCases; ++k) {
        check<double>(caller * kCases + k, 1e-9);
        check<float>(caller * kCases + k, 2e-2);  // sums that nearly cancel, in float32
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  std::printf("%u cases on every instruction set of this machine, from %u threads: clean\n", kCallers * kCases,
              kCallers);
}
