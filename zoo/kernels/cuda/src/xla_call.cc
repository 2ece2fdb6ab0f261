// The handlers that XLA calls to run a kernel: one for each platform, which differ only in who runs the kernel.
//
//   inputs, outputs, attributes  ->  pointers and a Launch  ->  CUDA: the driver API;  CPU: a library that emulates it
//
// Built by launch.py against the headers that jaxlib brings. CUDA's are not needed: the driver API is a C interface of
// integers and pointers, and is looked up in the driver when a kernel is first launched.
#include <dlfcn.h>

#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

struct Launch {
  std::string_view module, name;
  int grid, block, shared, steps, batch;
  float clip;
};

}  // namespace

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(Launch, ffi::StructMember<std::string_view>("module"),
                                      ffi::StructMember<std::string_view>("name"), ffi::StructMember<int32_t>("grid"),
                                      ffi::StructMember<int32_t>("block"), ffi::StructMember<int32_t>("shared"),
                                      ffi::StructMember<int32_t>("steps"), ffi::StructMember<int32_t>("batch"),
                                      ffi::StructMember<float>("clip"));

namespace {

using Failure = std::string;  // the message of an error; empty for success

ffi::Error answer(const Failure& failure) {
  return failure.empty() ? ffi::Error::Success() : ffi::Error::Internal(failure);
}

std::vector<void*> pointers_of(ffi::RemainingArgs inputs, ffi::RemainingRets outputs) {
  std::vector<void*> pointers;
  for (size_t i = 0; i < inputs.size(); ++i) pointers.push_back(inputs.get<ffi::AnyBuffer>(i)->untyped_data());
  for (size_t i = 0; i < outputs.size(); ++i) pointers.push_back((*outputs.get<ffi::AnyBuffer>(i))->untyped_data());
  return pointers;
}

// ---- CPU -----------------------------------------------------------------------------------------------------------

using Emulate = int (*)(const char* name, int grid, int block, void** pointers, int steps, int batch, float clip);

Failure emulate(const Launch& launch, std::vector<void*> pointers) {
  const std::string module(launch.module), name(launch.name);
  // Never closed, so that from the second call on this only looks the library up.
  void* library = dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);
  auto run = library ? reinterpret_cast<Emulate>(dlsym(library, "zoo_emulate")) : nullptr;
  if (!run) return std::string("the emulator of a kernel cannot be loaded: ") + dlerror();
  const int status =
      run(name.c_str(), launch.grid, launch.block, pointers.data(), launch.steps, launch.batch, launch.clip);
  if (!status) return {};
  return "zoo_emulate('" + name + "') of " + module + " failed with status " + std::to_string(status);
}

// ---- CUDA ----------------------------------------------------------------------------------------------------------

constexpr int kMaxDynamicSharedSizeBytes = 8;  // CUfunction_attribute
constexpr int kCaptureModeRelaxed = 2;         // CUstreamCaptureMode

using Handle = void*;  // CUcontext, CUmodule, CUfunction, CUstream
using Status = int;    // CUresult

void* driver() {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return library;
}

std::string text(Status status) {
  const char* found = nullptr;
  auto get = reinterpret_cast<Status (*)(Status, const char**)>(dlsym(driver(), "cuGetErrorString"));
  if (get) get(status, &found);
  return std::string(found ? found : "unknown error") + " (" + std::to_string(status) + ")";
}

// Call a function of the driver, unless something went wrong before.
template <class... Arguments>
void call(Failure& failure, const char* function, Arguments... arguments) {
  if (!failure.empty()) return;
  auto found = driver() ? reinterpret_cast<Status (*)(Arguments...)>(dlsym(driver(), function)) : nullptr;
  if (!found) {
    failure = std::string("the NVIDIA driver has no ") + function;
  } else if (const Status status = found(arguments...)) {
    failure = std::string(function) + " failed: " + text(status);
  }
}

// The kernel of a module in the current context. A module is loaded once for each context, and stays.
Handle function_of(Failure& failure, Handle context, const Launch& launch) {
  static std::mutex mutex;
  static std::map<std::pair<Handle, std::string>, Handle> modules;
  static std::map<std::tuple<Handle, std::string, std::string>, Handle> functions;
  const std::string path(launch.module), name(launch.name);
  const std::lock_guard<std::mutex> guard(mutex);
  Handle& function = functions[{context, path, name}];
  if (function) return function;
  Handle& module = modules[{context, path}];
  if (!module) {
    std::ifstream file(path, std::ios::binary);
    const std::string image((std::istreambuf_iterator<char>(file)), {});
    if (image.empty()) {
      failure = "the kernel module " + path + " cannot be read";
      return nullptr;
    }
    // Loading takes memory, which is forbidden while XLA captures a graph, unless this thread says otherwise.
    int mode = kCaptureModeRelaxed;
    call(failure, "cuThreadExchangeStreamCaptureMode", &mode);
    call(failure, "cuModuleLoadData", &module, static_cast<const void*>(image.data()));
    Failure ignored;
    call(ignored, "cuThreadExchangeStreamCaptureMode", &mode);
  }
  call(failure, "cuModuleGetFunction", &function, module, name.c_str());
  return function;
}

Failure start(const Launch& launch, std::vector<void*> pointers, Handle stream) {
  int steps = launch.steps, batch = launch.batch;
  float clip = launch.clip;
  std::vector<void*> arguments;
  for (void*& pointer : pointers) arguments.push_back(&pointer);
  arguments.insert(arguments.end(), {&steps, &batch, &clip});

  Failure failure, ignored;
  Handle context = nullptr;
  call(failure, "cuStreamGetCtx", stream, &context);
  call(failure, "cuCtxPushCurrent_v2", context);
  if (!failure.empty()) return failure;
  Handle function = function_of(failure, context, launch);
  if (launch.shared) {  // needed above 48 KB with the kernel's static memory, whose size is not known here
    call(failure, "cuFuncSetAttribute", function, kMaxDynamicSharedSizeBytes, launch.shared);
  }
  call(failure, "cuLaunchKernel", function, launch.grid, 1, 1, launch.block, 1, 1, launch.shared, stream,
       arguments.data(), static_cast<void**>(nullptr));
  call(ignored, "cuCtxPopCurrent_v2", &context);
  return failure;
}

ffi::Error on_host(ffi::RemainingArgs inputs, ffi::RemainingRets outputs, Launch launch) {
  return answer(emulate(launch, pointers_of(inputs, outputs)));
}

ffi::Error on_cuda(Handle stream, ffi::RemainingArgs inputs, ffi::RemainingRets outputs, Launch launch) {
  return answer(start(launch, pointers_of(inputs, outputs), stream));
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ZooLaunchHost, on_host, ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attrs<Launch>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    ZooLaunchCuda, on_cuda,
    ffi::Ffi::Bind().Ctx<ffi::PlatformStream<Handle>>().RemainingArgs().RemainingRets().Attrs<Launch>(),
    {ffi::Traits::kCmdBufferCompatible});

// The CUDA side without XLA, for a test in which a driver that records its calls replaces the GPU.
extern "C" const char* zoo_start(const char* module, const char* name, int grid, int block, int shared, int steps,
                                 int batch, float clip, void** pointers, int count, Handle stream) {
  static thread_local Failure failure;
  const Launch launch{module, name, grid, block, shared, steps, batch, clip};
  failure = start(launch, std::vector<void*>(pointers, pointers + count), stream);
  return failure.c_str();
}
