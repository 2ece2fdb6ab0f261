"""CUDA's driver API by ctypes: properties of a GPU, and launching a kernel from a .cubin file on a stream.

It comes with the driver (libcuda.so.1), so no CUDA toolkit is needed. Devices have the same numbers in torch, JAX and
the driver: all three see the devices in CUDA_VISIBLE_DEVICES.
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
    """A kernel, and the blocks and threads that run it.

    Attributes:
        module: Path of a .cubin file; for tensors on the CPU, of a shared library with an equivalent function:
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
    """The reason why CUDA has no GPU here, in one line, or `None`.

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
    """Enqueue a kernel on a stream, without waiting for it.

    Args:
        launch: The kernel.
        device: Number of the device.
        stream: Handle of a stream of the device's primary context, the context that torch uses.
        arguments: The kernel's arguments, as ctypes values.

    Raises:
        OSError: The module cannot be read.
        RuntimeError: The driver returned an error; the message has the function and the reason.
    """
    addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
    with _context(device):
        # The cache of `_function` does not stop two threads from loading one module at the same time.
        with _loading:
            function = _function(device, launch.module, launch.name)
        if launch.shared:  # needed above 48 KB together with the kernel's static memory, which is not known here
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
    # Loading allocates memory, which is forbidden while the framework captures a graph, unless this thread relaxes it.
    mode = ctypes.c_int(_CAPTURE_MODE_RELAXED)
    _call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    try:
        _call("cuModuleLoadData", ctypes.byref(module), image)
    finally:
        _call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    return module


@contextmanager
def _context(device: int) -> Iterator[None]:
    """Make the device's primary context the current one of this thread, which may have none yet."""
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
        library.cuGetErrorString(status, ctypes.byref(text))  # the pointer stays null for an unknown status
        raise RuntimeError(f"{function} failed: {(text.value or b'unknown error').decode()} ({status})")
