"""The native engine: the recurrence in C++ on the CPU, with the activation of every gate as a parameter.

`src/lstm.h` is the contract of the C++ part, which `build.py` builds; `bindings.py` loads what was built, and `ops.py`
makes two operations of TensorFlow differentiable. Importing this package imports no framework.
"""

from zoo.kernels.contract import LayerSpec, Operands, Options, Outputs, unsupported_activation
from zoo.kernels.native.bindings import (
    codes as codes,
    instruction_set as instruction_set,
    not_built as not_built,
    set_threads as set_threads,
    threads as threads,
)


def refuses(spec: LayerSpec) -> str | None:
    """The reason why the engine cannot run such a layer, or `None`."""
    return unsupported_activation(spec, codes())


def run(operands: Operands, options: Options) -> Outputs:
    """Run a call; imports TensorFlow and the operations the first time."""
    from zoo.kernels.native import ops

    return ops.lstm(operands, options)


def detail() -> str:
    """The instruction set and threads in use, such as "avx512, 2 threads"."""
    return f"{instruction_set()}, {threads()} threads"
