// CUDA's driver API as far as the engine calls it, on the CPU: it writes down every call, and has one kernel.
//
// "forward" is that of test_cuda_host.py. A module is the text of its file, which must be "module".
#include <algorithm>
#include <cstring>
#include <sstream>
#include <string>

namespace {
std::ostringstream calls;
int devices = 1, context, module, function, mode = 1;
void* current = nullptr;
}  // namespace

extern "C" {

void see_devices(int count) { devices = count; }
const char* written_down() {
  static std::string text;
  text = calls.str();
  calls.str("");
  return text.c_str();
}

int cuInit(unsigned) { return 0; }
int cuDeviceGetCount(int* count) { return *count = devices, 0; }
int cuDeviceGet(int* device, int number) { return number < devices ? *device = 70 + number, 0 : 101; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  return device == 70 ? *value = attribute == 75 ? 9 : attribute == 76 ? 1 : -1, 0 : 101;
}
int cuGetErrorString(int status, const char** text) {
  return *text = status == 500 ? "named symbol not found" : status == 101 ? "invalid device ordinal" : nullptr, 0;
}
int cuDevicePrimaryCtxRetain(void** found, int device) { return *found = &context, device == 70 ? 0 : 101; }
int cuStreamGetCtx(void* stream, void** found) { return *found = &context, stream ? 0 : 400; }
int cuCtxPushCurrent_v2(void* pushed) { return current = pushed, calls << "push\n", 0; }
int cuCtxPopCurrent_v2(void** popped) { return *popped = current, current = nullptr, calls << "pop\n", 0; }
int cuThreadExchangeStreamCaptureMode(int* wanted) { return std::swap(mode, *wanted), 0; }

int cuModuleLoadData(void** found, const void* image) {
  calls << "load, capture mode " << mode << "\n";
  *found = &module;
  return current == &context && !std::strcmp(static_cast<const char*>(image), "module") ? 0 : 200;
}
int cuModuleGetFunction(void** found, void* in, const char* name) {
  *found = &function;
  return in == &module && !std::strcmp(name, "forward") ? 0 : 500;
}
int cuFuncSetAttribute(void* of, int attribute, int value) {
  calls << "attribute " << attribute << " = " << value << "\n";
  return of == &function ? 0 : 400;
}
int cuLaunchKernel(void* kernel, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** arguments, void** extra) {
  calls << "launch (" << x << " " << y << " " << z << ") (" << bx << " " << by << " " << bz << ") " << shared
        << " on stream " << reinterpret_cast<size_t>(stream);
  if (kernel != &function || current != &context || extra) return 400;
  auto pointer = [&](int i) { return *static_cast<float**>(arguments[i]); };
  const int steps = *static_cast<int*>(arguments[3]), batch = *static_cast<int*>(arguments[4]);
  calls << ": " << steps << " " << batch << "\n";
  const float clip = *static_cast<float*>(arguments[5]);
  for (int i = 0; i < steps * batch; ++i) pointer(2)[i] = std::min(pointer(0)[i] - pointer(1)[i], clip);
  return 0;
}
}
