"""The CUDA engine: the whole loop over time in one kernel, with the activation of every gate as a parameter.

`src/lstm.cu` is the contract of the kernels, `lstm.py` what stands between them and a layer. They are compiled for the
GPU at hand when they are first called. Importing this package imports no framework and loads nothing of CUDA.
"""

import functools

from zoo.kernels.contract import LayerSpec, Operands, Options, Outputs, unsupported_activation
from zoo.kernels.cuda import compiler, driver, launch
from zoo.kernels.cuda.variant import LARGEST, names

OLDEST = 80  # compute capability, of the tensor-core and copy instructions in src/warp.h


def refuses(spec: LayerSpec) -> str | None:
    """Why the engine cannot run such a layer, or `None` where it can."""
    reason = unsupported_activation(spec, names())
    if reason:
        return reason
    if spec.units is not None and spec.units > LARGEST:
        return f"it has {spec.units} units, and the kernels hold the weights of at most {LARGEST} in registers"
    if spec.recurrent_dropout:
        return "it has recurrent dropout, for which each gate needs a hidden state of its own"
    if spec.dtype == "float64":
        return "it computes in float64, and the kernels in float32"
    return None


@functools.cache
def missing() -> str | None:
    """What the engine lacks on this machine, in one line, or `None` where it lacks nothing."""
    reason = driver.unavailable()
    if reason is None and driver.architecture() < OLDEST:
        return f"the GPU has compute capability {driver.architecture() / 10}, and {OLDEST / 10} is the least"
    return reason or compiler.unavailable() or launch.unavailable()


def run(operands: Operands, options: Options) -> Outputs:
    """Run a call; imports what calls the kernels the first time."""
    from zoo.kernels.cuda.lstm import lstm

    return lstm(operands, options)
