// The recurrence as two TensorFlow operations, ZooLstm and ZooLstmGrad, registered when TensorFlow loads this library.
//
// An input that is absent ("or null" in lstm.h) comes as a tensor without elements; so does a reserve at inference. The
// reserve and d_gates are (batch * steps, width), the shape that the product for the gradient of x takes.
#include <limits>
#include <new>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "lstm.h"
#include "tensorflow_api.h"

namespace zoo {
namespace {

using Shape = std::vector<int64_t>;

int64_t size_of(const Shape& shape) {
  int64_t size = 1;
  for (const int64_t n : shape) size *= n;
  return size;
}

std::string text(const Shape& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + ")";
}

struct Failure {
  int code;
  std::string message;
};

// A TF_Status that is freed at the end of its scope.
class Status {
 public:
  Status() : status_(tf::NewStatus()) {}
  ~Status() { tf::DeleteStatus(status_); }
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;
  operator TF_Status*() const { return status_; }
  bool ok() const { return tf::GetCode(status_) == tf::kOk; }

 private:
  TF_Status* status_;
};

// The attributes of an operation, which are fixed when it is created.
struct Attributes {
  int type = tf::kFloat;
  Problem problem{};
  bool training = false;  // of the forward operation: whether to keep the reserve
};

bool read_flag(TF_OpKernelConstruction* made, const char* name, TF_Status* status) {
  unsigned char flag = 0;
  tf::OpKernelConstruction_GetAttrBool(made, name, &flag, status);
  return flag != 0;
}

template <bool kForward>
void* make(TF_OpKernelConstruction* made) {
  auto* attributes = new Attributes;
  Problem& p = attributes->problem;
  const Status status;
  int64_t activations[kActivations] = {}, learned = 0, threads = 1;
  tf::OpKernelConstruction_GetAttrType(made, "T", &attributes->type, status);
  if (status.ok()) tf::OpKernelConstruction_GetAttrInt64List(made, "activations", activations, kActivations, status);
  if (status.ok()) tf::OpKernelConstruction_GetAttrInt64(made, "learned", &learned, status);
  if (status.ok()) tf::OpKernelConstruction_GetAttrInt64(made, "threads", &threads, status);
  if (status.ok()) p.go_backwards = read_flag(made, "go_backwards", status);
  if (status.ok()) p.return_sequences = read_flag(made, "return_sequences", status);
  if (status.ok()) p.zero_output_for_mask = read_flag(made, "zero_output_for_mask", status);
  if (status.ok() && kForward) attributes->training = read_flag(made, "training", status);
  if (status.ok() && !kForward) p.of_x = read_flag(made, "of_x", status);
  for (int g = 0; g < kActivations; ++g) {
    p.activation[g] = static_cast<int32_t>(activations[g]);
    if (status.ok() && !engine()->activation_name(p.activation[g])) {
      tf::SetStatus(status, tf::kInvalidArgument, "an activation code is not in the table of this library");
    }
  }
  p.learned = static_cast<uint32_t>(learned);
  p.threads = static_cast<int32_t>(threads);
  if (!status.ok()) tf::OpKernelConstruction_Failure(made, status);
  return attributes;
}

// The tensors of one run: inputs are released and outputs handed over when it ends.
class Run {
 public:
  explicit Run(TF_OpKernelContext* context) : context_(context) {}
  ~Run() {
    for (TF_Tensor* tensor : held_) tf::DeleteTensor(tensor);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  TF_Tensor* input(int index) {
    TF_Tensor* tensor = nullptr;
    tf::GetInput(context_, index, &tensor, checked_);
    check();
    return hold(tensor);
  }

  Shape shape(int index) {
    TF_Tensor* tensor = input(index);
    Shape shape;
    for (int i = 0; i < tf::NumDims(tensor); ++i) shape.push_back(tf::Dim(tensor, i));
    return shape;
  }

  // The elements of input `index`, whose shape must be `wanted`; null where it may be absent and has no elements.
  template <class T>
  const T* data(int index, const char* name, const Shape& wanted, bool optional = false) {
    const Shape got = shape(index);
    if (optional && size_of(got) == 0) return nullptr;
    if (got != wanted) {
      throw Failure{tf::kInvalidArgument, std::string(name) + " has shape " + text(got) + ", expected " + text(wanted)};
    }
    return static_cast<const T*>(tf::TensorData(input(index)));
  }

  template <class T>
  T* output(int index, const Shape& shape) {
    const int type = sizeof(T) == 4 ? tf::kFloat : tf::kDouble;
    TF_Tensor* tensor = tf::AllocateOutput(context_, index, type, shape.data(), static_cast<int>(shape.size()),
                                           static_cast<std::size_t>(size_of(shape)) * sizeof(T), checked_);
    check();
    return static_cast<T*>(tf::TensorData(hold(tensor)));
  }

  // Input `from` and an output of the same shape, in the same memory if nothing else needs that input any more.
  // TensorFlow counts our reference too, so the input is released before the output is requested.
  template <class T>
  std::pair<const T*, T*> in_place(int index, int from, const char* name, const Shape& wanted) {
    const std::size_t before = held_.size();
    const T* input = data<T>(from, name, wanted);
    for (; held_.size() > before; held_.pop_back()) tf::DeleteTensor(held_.back());
    int forwarded = -1;
    TF_Tensor* tensor = tf::ForwardInputOrAllocateOutput(context_, &from, 1, index, wanted.data(),
                                                         static_cast<int>(wanted.size()), &forwarded, checked_);
    check();
    T* output = static_cast<T*>(tf::TensorData(hold(tensor)));
    if (forwarded < 0) input = data<T>(from, name, wanted);
    return {forwarded < 0 ? input : output, output};
  }

 private:
  TF_Tensor* hold(TF_Tensor* tensor) {
    held_.push_back(tensor);
    return tensor;
  }
  void check() {
    if (!checked_.ok()) throw Failure{tf::kOk, ""};  // the status already has TensorFlow's message
  }

 public:
  Status checked_;

 private:
  TF_OpKernelContext* context_;
  std::vector<TF_Tensor*> held_;
};

// The index of each input; both operations begin with the same ones.
enum Place {
  kX,
  kKernel,
  kRecurrent,
  kBias,
  kH0,
  kC0,
  kMask,
  kDropout,
  kParameters,
  kClip,
  kGatesIn,
  kCellsIn,
  kHiddenIn,
  kDOutputs,
  kDHN,
  kDCN
};

template <class T>
Inputs<T> read_inputs(Run& run, Problem& p) {
  const Shape x = run.shape(kX), recurrent = run.shape(kRecurrent);
  if (x.size() != 3 || recurrent.size() != 2 || size_of(x) == 0 || size_of(recurrent) == 0) {
    throw Failure{tf::kInvalidArgument,
                  "expected x (batch, steps, channels) and recurrent_kernel (units, 4 * units), "
                  "neither empty; received " +
                      text(x) + " and " + text(recurrent)};
  }
  p.batch = x[0], p.steps = x[1], p.channels = x[2], p.units = recurrent[0];
  const int64_t columns = 4 * p.units;
  // An empty tensor means no bound: an infinite one would stop tf.debugging.enable_check_numerics in any model.
  const double* clip = run.data<double>(kClip, "cell_clip", {}, true);
  p.cell_clip = clip ? *clip : std::numeric_limits<double>::infinity();
  return {
      run.data<T>(kX, "x", x),
      run.data<T>(kKernel, "kernel", {p.channels, columns}),
      run.data<T>(kRecurrent, "recurrent_kernel", {p.units, columns}),
      run.data<T>(kBias, "bias", {columns}, true),
      run.data<T>(kH0, "the initial hidden state", {p.batch, p.units}),
      run.data<T>(kC0, "the initial cell state", {p.batch, p.units}),
      run.data<bool>(kMask, "mask", {p.batch, p.steps}, true),
      run.data<T>(kDropout, "dropout", {4, p.batch, p.channels + p.units}, true),
      run.data<T>(kParameters, "parameters", {kActivations, p.units}),
  };
}

Shape shape_of_outputs(const Problem& p) {
  return p.return_sequences ? Shape{p.batch, p.steps, p.units} : Shape{p.batch, p.units};
}

template <class T>
void run_forward(const Attributes& attributes, Run& run) {
  Problem p = attributes.problem;
  const Inputs<T> in = read_inputs<T>(run, p);
  const auto reserve = [&](int index, int64_t width) {
    T* data = run.output<T>(index, attributes.training ? Shape{p.batch * p.steps, width} : Shape{0});
    return attributes.training ? data : nullptr;
  };
  Forward<T> out;
  out.outputs = run.output<T>(0, shape_of_outputs(p));
  out.h_n = run.output<T>(1, {p.batch, p.units});
  out.c_n = run.output<T>(2, {p.batch, p.units});
  out.gates = reserve(3, 4 * p.units);
  out.cells = reserve(4, p.units);
  // Without a mask the outputs of all steps are the hidden states, which are then not kept a second time.
  const bool outputs_serve = p.return_sequences && !in.mask;
  out.hidden = run.output<T>(5, attributes.training && !outputs_serve ? Shape{p.batch * p.steps, p.units} : Shape{0});
  if (!attributes.training || outputs_serve) out.hidden = nullptr;
  if constexpr (sizeof(T) == 4) {
    engine()->forward_float(p, in, out);
  } else {
    engine()->forward_double(p, in, out);
  }
}

template <class T>
void run_backward(const Attributes& attributes, Run& run) {
  Problem p = attributes.problem;
  const Inputs<T> in = read_inputs<T>(run, p);
  const Shape gates{p.batch * p.steps, 4 * p.units};
  Backward<T> out;
  std::tie(out.gates, out.d_gates) = run.in_place<T>(0, kGatesIn, "gates", gates);
  out.cells = run.data<T>(kCellsIn, "cells", {p.batch * p.steps, p.units});
  const Shape hidden{p.batch * p.steps, p.units};
  out.hidden = p.return_sequences && !in.mask ? run.data<T>(kHiddenIn, "the outputs", shape_of_outputs(p))
                                              : run.data<T>(kHiddenIn, "hidden", hidden);
  out.d_outputs = run.data<T>(kDOutputs, "the gradient of the outputs", shape_of_outputs(p));
  out.d_h_n = run.data<T>(kDHN, "the gradient of the last hidden state", {p.batch, p.units});
  out.d_c_n = run.data<T>(kDCN, "the gradient of the last cell state", {p.batch, p.units});
  out.d_bias = run.output<T>(1, {4 * p.units});
  out.d_h0 = run.output<T>(2, {p.batch, p.units});
  out.d_c0 = run.output<T>(3, {p.batch, p.units});
  out.d_parameters = run.output<T>(4, {kActivations, p.units});
  out.d_kernels = run.output<T>(5, {p.channels + p.units, 4 * p.units});
  if constexpr (sizeof(T) == 4) {
    engine()->backward_float(p, in, out);
  } else {
    engine()->backward_double(p, in, out);
  }
}

template <void (*kFloat)(const Attributes&, Run&), void (*kDouble)(const Attributes&, Run&)>
void compute(void* kernel, TF_OpKernelContext* context) {
  const Attributes& attributes = *static_cast<Attributes*>(kernel);
  Run run(context);
  try {
    (attributes.type == tf::kFloat ? kFloat : kDouble)(attributes, run);
    return;
  } catch (const Failure& failure) {
    if (failure.code != tf::kOk) tf::SetStatus(run.checked_, failure.code, failure.message.c_str());
  } catch (const std::bad_alloc&) {
    tf::SetStatus(run.checked_, tf::kResourceExhausted, "no memory for the scratch space of the native LSTM engine");
  }
  tf::OpKernelContext_Failure(context, run.checked_);
}

void release(void* kernel) { delete static_cast<Attributes*>(kernel); }

// Shapes are left open here; zoo/kernels/native/ops.py sets those that it knows.
void unknown_shapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  tf::ShapeInferenceContextSetUnknownShape(context, status);
}

using Names = std::vector<const char*>;

void register_op(const char* name, const Names& inputs, const Names& outputs, const Names& attributes) {
  TF_OpDefinitionBuilder* op = tf::NewOpDefinitionBuilder(name);
  for (const char* input : inputs) tf::OpDefinitionBuilderAddInput(op, input);
  for (const char* output : outputs) tf::OpDefinitionBuilderAddOutput(op, output);
  for (const char* attribute : attributes) tf::OpDefinitionBuilderAddAttr(op, attribute);
  tf::OpDefinitionBuilderSetShapeInferenceFunction(op, unknown_shapes);
  const Status status;
  tf::RegisterOpDefinition(op, status);
}

void register_kernel(const char* op, void* (*create)(TF_OpKernelConstruction*),
                     void (*run)(void*, TF_OpKernelContext*)) {
  const Status status;
  tf::RegisterKernelBuilder(op, tf::NewKernelBuilder(op, "CPU", create, run, release), status);
}

bool register_all() {
  if (!tf::find()) return false;
  const Names shared = {"x: T",  "kernel: T",  "recurrent_kernel: T", "bias: T",       "h0: T",
                        "c0: T", "mask: bool", "dropout: T",          "parameters: T", "cell_clip: double"};
  Names grad = shared;
  for (const char* input : {"gates: T", "cells: T", "hidden: T", "d_outputs: T", "d_h_n: T", "d_c_n: T"})
    grad.push_back(input);
  const Names attributes = {
      "T: {float, double}",     "activations: list(int)",    "learned: int", "threads: int", "go_backwards: bool",
      "return_sequences: bool", "zero_output_for_mask: bool"};
  Names of_forward = attributes;
  of_forward.push_back("training: bool");
  register_op("ZooLstm", shared, {"outputs: T", "h_n: T", "c_n: T", "gates: T", "cells: T", "hidden: T"}, of_forward);
  Names of_gradient = attributes;
  of_gradient.push_back("of_x: bool");
  register_op("ZooLstmGrad", grad, {"d_gates: T", "d_bias: T", "d_h0: T", "d_c0: T", "d_parameters: T", "d_kernels: T"},
              of_gradient);
  register_kernel("ZooLstm", make<true>, compute<run_forward<float>, run_forward<double>>);
  register_kernel("ZooLstmGrad", make<false>, compute<run_backward<float>, run_backward<double>>);
  return true;
}

const bool kRegistered = register_all();

}  // namespace
}  // namespace zoo

// The functions that Python calls by ctypes.
extern "C" {
__attribute__((visibility("default"))) const char* zoo_activation_name(int code) {
  return zoo::engine()->activation_name(code);
}

__attribute__((visibility("default"))) const char* zoo_instruction_set() { return zoo::engine()->name; }

// Whether instruction set `name` runs here and, if so, every call from now on uses it; null for the best.
__attribute__((visibility("default"))) int zoo_use(const char* name) {
  const zoo::Engine* engine = name ? zoo::engine(name) : nullptr;
  if (name && !engine) return 0;
  zoo::use(engine);
  return 1;
}

// Whether instruction set `name` runs here and, if so, `code` applied by it; see Engine::apply_double.
__attribute__((visibility("default"))) int zoo_apply(const char* name, int bytes, int code, int64_t n, const void* x,
                                                     const void* p, void* y, void* dx, void* dp) {
  const zoo::Engine* engine = zoo::engine(name);
  if (!engine || !engine->activation_name(code)) return 0;
  if (bytes == 4) {
    engine->apply_float(code, n, static_cast<const float*>(x), static_cast<const float*>(p), static_cast<float*>(y),
                        static_cast<float*>(dx), static_cast<float*>(dp));
  } else {
    engine->apply_double(code, n, static_cast<const double*>(x), static_cast<const double*>(p), static_cast<double*>(y),
                         static_cast<double*>(dx), static_cast<double*>(dp));
  }
  return 1;
}
}
