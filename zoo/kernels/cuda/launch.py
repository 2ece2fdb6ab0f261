"""Runs a kernel on tensors of JAX or torch: on a GPU from a .cubin file, on a CPU by a library that emulates it.

    kernel(inputs..., outputs..., int steps, int batch, float clip)

With torch's pointers and stream, `driver.py` launches the kernel. JAX calls a handler in C++ from its compiled program
(`src/xla_call.cc`), which is built when it is first needed.
"""

import ctypes
import functools
import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from zoo.kernels.cuda import driver
from zoo.kernels.cuda.compiler import host_library
from zoo.kernels.cuda.driver import Launch
from zoo.kernels.native.build import BuildError
from zoo.types import Tensor

SOURCE = Path(__file__).with_name("src") / "xla_call.cc"

Outputs = Sequence[tuple[Sequence[int], str]]


@functools.cache  # so that a failed build is not repeated for every layer
def unavailable() -> str | None:
    """The reason why the current Keras backend cannot call a kernel, in one line, or `None`.

    On JAX this builds the handler if it has not been built yet, which takes some seconds.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        return None
    if backend != "jax":
        return f"it runs on Keras's JAX and torch backends, and this is {backend}"
    try:
        _target()
    except (BuildError, OSError) as error:
        lines = str(error).splitlines()
        summary = next((line for line in lines if "error:" in line), lines[0])
        return f"its handler for JAX could not be built: {summary}"
    return None


def run(
    launch: Launch, inputs: Sequence[Tensor], outputs: Outputs, steps: int, batch: int, clip: float
) -> tuple[Tensor, ...]:
    """Run a kernel on the device of its inputs.

    Args:
        launch: The kernel.
        inputs: Tensors of the current backend, on one device. One without elements means "absent": its pointer, perhaps
            null, must not be followed.
        outputs: Shape and type, such as "float32", of each output. They are not initialised for the kernel.
        steps: Argument of the kernel.
        batch: Argument of the kernel.
        clip: Argument of the kernel; infinity is allowed.

    Returns:
        The outputs; zeros if there are no blocks. They have no gradient.

    Raises:
        RuntimeError: The module cannot be loaded, has no such kernel, or the launch failed. JAX raises it when the
            outputs are used.
        ValueError: The inputs are on different devices, or the backend is TensorFlow.
    """
    if not launch.grid:
        return tuple(keras.ops.zeros(shape, dtype) for shape, dtype in outputs)
    backend = keras.backend.backend()
    if backend not in _RUNS:
        raise ValueError(f"a kernel runs on Keras's JAX and torch backends, and this is {backend}")
    return _RUNS[backend](launch, inputs, outputs, steps, batch, clip)


def _on_torch(
    launch: Launch, inputs: Sequence[Tensor], outputs: Outputs, steps: int, batch: int, clip: float
) -> tuple[Tensor, ...]:
    import torch

    device = inputs[0].device
    if any(tensor.device != device for tensor in inputs):
        raise ValueError(f"the inputs must be on one device; received {[str(tensor.device) for tensor in inputs]}")
    # These copies may be freed before the kernel has run. That is safe: the next user of their memory comes after the
    # kernel on the same stream.
    inputs = [tensor.contiguous() for tensor in inputs]
    results = tuple(torch.empty(tuple(shape), dtype=getattr(torch, dtype), device=device) for shape, dtype in outputs)
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*inputs, *results) if device.type != "meta"]
    numbers = (ctypes.c_int(steps), ctypes.c_int(batch), ctypes.c_float(clip))
    if device.type == "cuda":
        stream = torch.cuda.current_stream(device).cuda_stream
        driver.start(launch, device.index, stream, [*pointers, *numbers])
    elif device.type == "cpu":
        _emulate(launch, pointers, numbers)
    elif device.type != "meta":  # the device by which Keras infers shapes
        raise ValueError(f"a kernel runs on an NVIDIA GPU, or emulated on the CPU; received inputs on {device}")
    return results


def _emulate(launch: Launch, pointers: Sequence[ctypes.c_void_p], numbers: Sequence[Any]) -> None:
    try:
        emulate = _emulator(launch.module)
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"the emulator of a kernel cannot be loaded: {error}") from error
    array = (ctypes.c_void_p * len(pointers))(*pointers)
    status = emulate(launch.name.encode(), launch.grid, launch.block, array, *numbers)
    if status:
        raise RuntimeError(f"zoo_emulate('{launch.name}') of {launch.module} failed with status {status}")


@functools.cache
def _emulator(module: str) -> Callable[..., int]:
    function: Callable[..., int] = ctypes.CDLL(module).zoo_emulate
    return function


def _on_jax(
    launch: Launch, inputs: Sequence[Tensor], outputs: Outputs, steps: int, batch: int, clip: float
) -> tuple[Tensor, ...]:
    import jax
    import numpy as np

    shapes = tuple(jax.ShapeDtypeStruct(tuple(shape), jax.numpy.dtype(dtype)) for shape, dtype in outputs)
    numbers = {"grid": launch.grid, "block": launch.block, "shared": launch.shared, "steps": steps, "batch": batch}
    attributes = {name: np.int32(number) for name, number in numbers.items()}
    called = jax.ffi.ffi_call(_target(), shapes, vmap_method="sequential")
    return tuple(called(*inputs, module=launch.module, name=launch.name, clip=np.float32(clip), **attributes))


@functools.cache
def _target() -> str:
    """Build and register the handlers, and return their name in XLA."""
    import jax

    name, library = "zoo_launch", ctypes.CDLL(str(_handlers()))
    for platform, handler in (("cpu", library.ZooLaunchHost), ("CUDA", library.ZooLaunchCuda)):
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform=platform)
    return name


def _handlers() -> Path:
    """The library of the handlers.

    Raises:
        BuildError: There is no compiler, or it failed.
    """
    import jax

    options = ["-O1", "-isystem", jax.ffi.include_dir()]  # not -O2: nearly all the time goes into reading the headers
    return host_library(SOURCE.read_text(encoding="utf-8"), options, [importlib.metadata.version("jaxlib")])


_RUNS: dict[str, Callable[..., tuple[Tensor, ...]]] = {"jax": _on_jax, "torch": _on_torch}
