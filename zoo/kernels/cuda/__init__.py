"""The CUDA engine: the whole loop over time in one kernel, with the activation of every gate as a parameter.

`src/lstm.cu` is the contract of the kernels, and `lstm.py` calls them. They are compiled for the GPU of this machine at
their first call. Importing this package imports no framework and loads nothing of CUDA.
"""

import functools

from zoo.kernels.contract import LayerSpec, Operands, Options, Outputs, unsupported_activation
from zoo.kernels.cuda import compiler, driver, launch
from zoo.kernels.cuda.variant import LARGEST, names

OLDEST = 80  # compute capability that the tensor-core and copy instructions in src/warp.h need


def refuses(spec: LayerSpec) -> str | None:
    """The reason why the engine cannot run such a layer, or `None`."""
    reason = unsupported_activation(spec, names())
    if reason:
        return reason
    if spec.units is not None and spec.units > LARGEST:
        return f"it has {spec.units} units, and the kernels keep the weights of at most {LARGEST} units in registers"
    if spec.recurrent_dropout:
        return "it has recurrent dropout, for which each gate needs a separate hidden state"
    if spec.dtype == "float64":
        return "it computes in float64, and the kernels in float32"
    return None


@functools.cache
def missing() -> str | None:
    """What the engine lacks on this machine, in one line, or `None`."""
    reason = driver.unavailable()
    if reason is None and driver.architecture() < OLDEST:
        return f"the GPU has compute capability {driver.architecture() / 10}, and the kernels need {OLDEST / 10}"
    # The handler for JAX comes last, because this check builds it, which takes some seconds.
    return reason or compiler.unavailable() or launch.unavailable()


def run(operands: Operands, options: Options) -> Outputs:
    """Run a call; imports what calls the kernels the first time."""
    from zoo.kernels.cuda.lstm import lstm

    return lstm(operands, options)
