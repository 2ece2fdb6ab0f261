"""The kernels as something to launch: compiled for this GPU and a variant, when they are first asked for."""

import functools

import keras

from zoo.kernels.cuda import compiler, driver
from zoo.kernels.cuda.launch import Launch
from zoo.kernels.cuda.variant import Variant, headers, source

OPTIONS = ("--std=c++17", "--device-as-default-execution-space")


def kernel(variant: Variant, name: str, blocks: int) -> Launch:
    """The kernel `name`, "forward" or "backward", of a variant, to be launched in `blocks` blocks.

    Raises:
        zoo.kernels.cuda.compiler.CompileError: It could not be compiled.
    """
    return Launch(_compiled(variant, _device()), name, blocks, variant.threads, variant.shared(name))


@functools.cache
def _compiled(variant: Variant, device: int) -> str:
    return str(
        compiler.compile_cached(source(), headers(), (*OPTIONS, *variant.options()), driver.architecture(device))
    )


def _device() -> int:
    """Number of the GPU that new tensors are on; on JAX all GPUs of a process are of one kind."""
    if keras.backend.backend() == "torch":
        import torch

        return int(torch.cuda.current_device())
    return 0
