// The part of TensorFlow's C interface that the operations use, looked up in the library that Python has loaded.
//
// So this library is built without TensorFlow, and one build serves every version that keeps the interface. The
// declarations are in tensorflow/c/kernels.h, ops.h, tf_tensor.h and tf_status.h.
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>

extern "C" {
struct TF_Status;
struct TF_Tensor;
struct TF_OpKernelContext;
struct TF_OpKernelConstruction;
struct TF_OpDefinitionBuilder;
struct TF_ShapeInferenceContext;
struct TF_KernelBuilder;
}

namespace zoo {
namespace tf {

enum DataType { kFloat = 1, kDouble = 2 };                            // TF_DataType
enum Code { kOk = 0, kInvalidArgument = 3, kResourceExhausted = 8 };  // TF_Code

// The functions with their types, by name without TF_.
#define ZOO_TENSORFLOW_FUNCTIONS(F)                                                                                  \
  F(TF_Status*, NewStatus, ())                                                                                       \
  F(void, DeleteStatus, (TF_Status*))                                                                                \
  F(void, SetStatus, (TF_Status*, int, const char*))                                                                 \
  F(int, GetCode, (const TF_Status*))                                                                                \
  F(TF_OpDefinitionBuilder*, NewOpDefinitionBuilder, (const char*))                                                  \
  F(void, OpDefinitionBuilderAddAttr, (TF_OpDefinitionBuilder*, const char*))                                        \
  F(void, OpDefinitionBuilderAddInput, (TF_OpDefinitionBuilder*, const char*))                                       \
  F(void, OpDefinitionBuilderAddOutput, (TF_OpDefinitionBuilder*, const char*))                                      \
  F(void, OpDefinitionBuilderSetShapeInferenceFunction,                                                              \
    (TF_OpDefinitionBuilder*, void (*)(TF_ShapeInferenceContext*, TF_Status*)))                                      \
  F(void, RegisterOpDefinition, (TF_OpDefinitionBuilder*, TF_Status*))                                               \
  F(void, ShapeInferenceContextSetUnknownShape, (TF_ShapeInferenceContext*, TF_Status*))                             \
  F(TF_KernelBuilder*, NewKernelBuilder,                                                                             \
    (const char*, const char*, void* (*)(TF_OpKernelConstruction*), void (*)(void*, TF_OpKernelContext*),            \
     void (*)(void*)))                                                                                               \
  F(void, KernelBuilder_TypeConstraint, (TF_KernelBuilder*, const char*, int, TF_Status*))                           \
  F(void, RegisterKernelBuilder, (const char*, TF_KernelBuilder*, TF_Status*))                                       \
  F(void, OpKernelConstruction_GetAttrType, (TF_OpKernelConstruction*, const char*, int*, TF_Status*))               \
  F(void, OpKernelConstruction_GetAttrInt64, (TF_OpKernelConstruction*, const char*, int64_t*, TF_Status*))          \
  F(void, OpKernelConstruction_GetAttrInt64List, (TF_OpKernelConstruction*, const char*, int64_t*, int, TF_Status*)) \
  F(void, OpKernelConstruction_GetAttrBool, (TF_OpKernelConstruction*, const char*, unsigned char*, TF_Status*))     \
  F(void, OpKernelConstruction_Failure, (TF_OpKernelConstruction*, TF_Status*))                                      \
  F(void, GetInput, (TF_OpKernelContext*, int, TF_Tensor**, TF_Status*))                                             \
  F(TF_Tensor*, AllocateOutput, (TF_OpKernelContext*, int, int, const int64_t*, int, size_t, TF_Status*))            \
  F(TF_Tensor*, ForwardInputOrAllocateOutput,                                                                        \
    (TF_OpKernelContext*, const int*, int, int, const int64_t*, int, int*, TF_Status*))                              \
  F(void, OpKernelContext_Failure, (TF_OpKernelContext*, TF_Status*))                                                \
  F(void, DeleteTensor, (TF_Tensor*))                                                                                \
  F(void*, TensorData, (const TF_Tensor*))                                                                           \
  F(int, NumDims, (const TF_Tensor*))                                                                                \
  F(int64_t, Dim, (const TF_Tensor*, int))

#define ZOO_DECLARE(RESULT, NAME, ARGUMENTS) inline RESULT(*NAME) ARGUMENTS = nullptr;
ZOO_TENSORFLOW_FUNCTIONS(ZOO_DECLARE)
#undef ZOO_DECLARE

// Look up all functions, and return whether TensorFlow is loaded in this process and has them.
inline bool find() {
  void* library = nullptr;
  for (const char* name : {"libtensorflow_framework.so.2", "libtensorflow_framework.2.dylib"}) {
    // RTLD_NOLOAD finds only a library that is loaded already, and never loads a second TensorFlow.
    if (!library) library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
  }
  if (!library) return false;
  bool all = true;
#define ZOO_FIND(RESULT, NAME, ARGUMENTS)                                    \
  NAME = reinterpret_cast<RESULT(*) ARGUMENTS>(dlsym(library, "TF_" #NAME)); \
  all = all && NAME;
  ZOO_TENSORFLOW_FUNCTIONS(ZOO_FIND)
#undef ZOO_FIND
  return all;
}

}  // namespace tf
}  // namespace zoo
