"""CUDA's driver API by ctypes: what a GPU can do, and launching a kernel from a .cubin file on a stream.

It comes with the driver (libcuda.so.1), so no CUDA toolkit is needed. A device is named by its number, which torch, JAX
and the driver count alike: all three see the devices that CUDA_VISIBLE_DEVICES leaves.
"""

import ctypes
import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Values of CUdevice_attribute, CUfunction_attribute and CUstreamCaptureMode.
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76
_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
_CAPTURE_MODE_RELAXED = 2

_loading = threading.Lock()


@dataclass(frozen=True)
class Launch:
    """A kernel to run, and the blocks and threads that run it.

    Attributes:
        module: Path of a .cubin file; for tensors on the CPU, of a shared library with a function that does the same:
            `extern "C" int zoo_emulate(const char* name, int grid, int block, void** pointers, int steps, int batch,
            float clip)`. It gets the pointers of all inputs, then of all outputs, and returns 0 on success.
        name: Name of the kernel, "forward" or "backward".
        grid: Number of blocks.
        block: Threads of a block.
        shared: Bytes of dynamic shared memory of a block.
    """

    module: str
    name: str
    grid: int
    block: int
    shared: int = 0


def unavailable() -> str | None:
    """Why there is no GPU that CUDA can use, in one line, or `None` where there is one.

    Example:
    >>> unavailable() is None or "NVIDIA driver" in unavailable()
    True
    """
    try:
        count = ctypes.c_int()
        _call("cuDeviceGetCount", ctypes.byref(count))
    except OSError as error:
        return f"there is no NVIDIA driver ({error})"
    except RuntimeError as error:
        return f"the NVIDIA driver does not work: {error}"
    return None if count.value else "the NVIDIA driver sees no GPU"


@functools.cache
def architecture(device: int = 0) -> int:
    """The compute capability of a device, 90 for 9.0.

    Raises:
        OSError: There is no driver.
        RuntimeError: There is no such device.
    """
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("cuDeviceGetAttribute", ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, _device(device))
    _call("cuDeviceGetAttribute", ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, _device(device))
    return 10 * major.value + minor.value


def start(launch: Launch, device: int, stream: int, arguments: Sequence[Any]) -> None:
    """Put a kernel on a stream. Nothing waits for it.

    Args:
        launch: What to run.
        device: Number of the device.
        stream: Handle of a stream of the device's primary context, which is the one that torch uses.
        arguments: The kernel's arguments, as ctypes values.

    Raises:
        OSError: The module cannot be read.
        RuntimeError: The driver refused; the message says what and why.
    """
    addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
    with _context(device):
        with _loading:
            function = _function(device, launch.module, launch.name)
        if launch.shared:  # more than 48 KB with the kernel's own must be asked for, and its own is not known here
            _call("cuFuncSetAttribute", function, _MAX_DYNAMIC_SHARED_SIZE_BYTES, launch.shared)
        grid, block = (launch.grid, 1, 1), (launch.block, 1, 1)
        _call("cuLaunchKernel", function, *grid, *block, launch.shared, ctypes.c_void_p(stream), addresses, None)


@functools.cache
def _function(device: int, module: str, name: str) -> ctypes.c_void_p:
    function = ctypes.c_void_p()
    _call("cuModuleGetFunction", ctypes.byref(function), _module(device, module), name.encode())
    return function


@functools.cache
def _module(device: int, path: str) -> ctypes.c_void_p:
    """The module of a file in the current context, which is that of `device`."""
    image, module = Path(path).read_bytes(), ctypes.c_void_p()
    # Loading takes memory, which is forbidden while the framework captures a graph, unless this thread says otherwise.
    mode = ctypes.c_int(_CAPTURE_MODE_RELAXED)
    _call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    try:
        _call("cuModuleLoadData", ctypes.byref(module), image)
    finally:
        _call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    return module


@contextmanager
def _context(device: int) -> Iterator[None]:
    """Make the device's primary context that of this thread, which may have had none yet."""
    _call("cuCtxPushCurrent_v2", _primary_context(device))
    try:
        yield
    finally:
        _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


@functools.cache
def _primary_context(device: int) -> ctypes.c_void_p:
    context = ctypes.c_void_p()
    _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), _device(device))
    return context


@functools.cache
def _device(number: int) -> ctypes.c_int:
    device = ctypes.c_int()
    _call("cuDeviceGet", ctypes.byref(device), number)
    return device


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libcuda.so.1")
    _check(library, "cuInit", library.cuInit(0))
    return library


def _call(function: str, *arguments: Any) -> None:
    library = _library()
    _check(library, function, getattr(library, function)(*arguments))


def _check(library: ctypes.CDLL, function: str, status: int) -> None:
    if status:
        text = ctypes.c_char_p()
        library.cuGetErrorString(status, ctypes.byref(text))  # leaves the pointer null where it knows no such status
        raise RuntimeError(f"{function} failed: {(text.value or b'unknown error').decode()} ({status})")
