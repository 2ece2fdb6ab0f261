// The contract of the native LSTM engine between the recurrence and its callers.
//
// Layout. Every array is dense, row-major and owned by the caller; nothing is kept after a call returns. No alignment
// beyond that of the element is needed. `batch`, `steps`, `channels` and `units` are at least 1. The four gates are in
// Keras's order i, f, c, o. No two arrays may overlap except where "may be" says so.
#pragma once

#include <cstdint>

namespace zoo {

enum Gate { kInputGate, kForgetGate, kCandidate, kOutputGate, kHidden, kActivations };

struct Problem {
  int64_t batch, steps, channels, units;
  int32_t activation[kActivations];  // codes: an index into the table of activations.h
  uint32_t learned;                  // bit g is set: the gradient of parameter g is wanted
  bool go_backwards;                 // read from the last step to the first
  bool return_sequences;             // `outputs` holds every step, else the last one read
  bool of_x;                         // backward: d_gates are wanted, for the gradient of x
  bool zero_output_for_mask;         // the output of a masked step is 0, else that of the step before it
  double cell_clip;                  // bound of the cell state, +infinity for none
  int32_t threads;                   // the largest number; for a given number the results are the same to the bit
};

// Pointers are used only during the call. T is float or double.
template <class T>
struct Inputs {
  const T* x;                 // (batch, steps, channels)
  const T* kernel;            // (channels, 4 * units)
  const T* recurrent_kernel;  // (units, 4 * units)
  const T* bias;              // (4 * units), or null
  const T* h0;                // (batch, units)
  const T* c0;                // (batch, units)
  const bool* mask;           // (batch, steps), or null: all true
  const T* dropout;           // (4, batch, channels + units): factors of [x, h] for each gate, or null
  const T* parameters;        // (5, units): the parameter of each activation, for each unit
};

template <class T>
struct Forward {
  // Out. The step s read puts its output at place s, whichever way the sequence is read.
  T* outputs;  // (batch, steps, units) or (batch, units)
  T* h_n;      // (batch, units)
  T* c_n;      // (batch, units)
  // Out, the reserve for the backward pass, at the place of the step in the sequence. All null at inference.
  T* gates;  // (batch, steps, 4 * units): what each gate's activation gave or received
  T* cells;  // (batch, steps, units): the cell state after the step
  // (batch, steps, units): the hidden state after the step s read, at place s. Null too where `outputs` are just that:
  // every step of them, without a mask.
  T* hidden;
};

template <class T>
struct Backward {
  // In: the reserve, and the gradients of the forward pass's outputs.
  const T* gates;
  const T* cells;
  const T* hidden;     // or `outputs`, see above
  const T* d_outputs;  // (batch, steps, units) or (batch, units)
  const T* d_h_n;      // (batch, units)
  const T* d_c_n;      // (batch, units)
  // Out.
  // (batch, steps, 4 * units): for the argument of each gate's activation, 0 where masked. May be `gates`. The engine
  // also uses it as scratch memory: its final content is valid only with `of_x`.
  T* d_gates;
  T* d_kernels;     // (channels + units, 4 * units): of the kernel and, below it, the recurrent kernel
  T* d_bias;        // (4 * units)
  T* d_h0;          // (batch, units)
  T* d_c0;          // (batch, units)
  T* d_parameters;  // (5, units): 0 where not wanted
};

// The functions for one instruction set, from which dispatch.cpp chooses at run time. They throw std::bad_alloc if
// there is no scratch memory, and nothing else.
struct Engine {
  const char* name;
  const char* (*activation_name)(int code);  // null past the last
  void (*forward_float)(const Problem&, const Inputs<float>&, const Forward<float>&);
  void (*forward_double)(const Problem&, const Inputs<double>&, const Forward<double>&);
  void (*backward_float)(const Problem&, const Inputs<float>&, const Backward<float>&);
  void (*backward_double)(const Problem&, const Inputs<double>&, const Backward<double>&);
  // Apply activation `code` to n values with n parameters, and its derivatives by the value and by the parameter.
  void (*apply_float)(int code, int64_t n, const float* x, const float* parameter, float* y, float* dx, float* dp);
  void (*apply_double)(int code, int64_t n, const double* x, const double* parameter, double* y, double* dx,
                       double* dp);
};

extern const Engine portable_engine;
#if defined(__x86_64__)
extern const Engine avx2_engine;
extern const Engine avx512_engine;
#endif

// The named engine, null if the name is unknown or the processor lacks it; without a name the engine in use, which is
// the best for this processor unless `use` has chosen another.
const Engine* engine(const char* name = nullptr);

// Use `chosen` from now on, null for the best; for the tests, which run all of them.
void use(const Engine* chosen);

// Bytes of the second-level cache of a core.
int64_t second_level_cache();

// Call `body(context, task)` for every task in [0, tasks), on at most `threads` threads, including this one. All calls
// together use at most the largest `threads` of any of them. Throws std::bad_alloc if a task does.
void parallel(int64_t tasks, int threads, void (*body)(void*, int64_t), void* context);

// The same for any callable `body(task)`.
template <class Body>
void parallel(int64_t tasks, int threads, const Body& body) {
  const auto call = [](void* context, int64_t task) { (*static_cast<const Body*>(context))(task); };
  parallel(tasks, threads, call, const_cast<Body*>(&body));
}

}  // namespace zoo
