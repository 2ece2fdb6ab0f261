"""NumPy arrays to and from the tensors of TensorFlow's C API. Strings are object arrays of bytes."""

import ctypes
import math
from typing import Any

import numpy as np

from serving.errors import Code, ServingError
from serving.runtime.capi import STRING_SIZE, Library, Pointer
from serving.runtime.data_types import STRING, DataType, data_type
from serving.runtime.model import Array


def to_tensor(library: Library, array: Array, dtype: DataType) -> Any:
    """Copy a C-contiguous array into a new `TF_Tensor`, which owns it and the strings in it."""
    dimensions = (ctypes.c_int64 * array.ndim)(*array.shape)
    size = STRING_SIZE * array.size if dtype is STRING else array.nbytes
    tensor = library.AllocateTensor(dtype.number, dimensions, array.ndim, size)
    if not tensor:
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"no memory for an input of {size} bytes; send less at once")
    data = library.TensorData(tensor)
    if dtype is not STRING:
        ctypes.memmove(data, array.ctypes.data, array.nbytes)
        return tensor
    for index, value in enumerate(array.ravel()):
        element = Pointer(data + STRING_SIZE * index)
        library.StringInit(element)
        library.StringCopy(element, value, len(value))
    return tensor


def to_array(library: Library, tensor: Any) -> Array:
    """Copy a `TF_Tensor` into an array.

    Raises:
        ServingError: UNIMPLEMENTED for a data type that no array here can carry.
    """
    dtype = data_type(library.TensorType(tensor))
    if dtype.numpy is None:
        raise ServingError(
            Code.UNIMPLEMENTED, f"an output is of type {dtype.name}; export the model with float32 outputs"
        )
    shape = tuple(library.Dim(tensor, axis) for axis in range(library.NumDims(tensor)))
    data = library.TensorData(tensor)
    array: Array = np.empty(shape, dtype.numpy)
    if dtype is STRING:
        flat = array.reshape(-1)
        for index in range(math.prod(shape)):
            element = Pointer(data + STRING_SIZE * index)
            flat[index] = ctypes.string_at(library.StringGetDataPointer(element), library.StringGetSize(element))
    else:
        ctypes.memmove(array.ctypes.data, data, array.nbytes)
    return array
