"""Products of a sequence with the kernel of four gates, and their gradients.

`factors` (4, b, width) are those of dropout, of which each gate has its own; `None` where nothing is dropped.
"""

import operator
from collections.abc import Callable

from keras import ops

from zoo.kernels.reference import split_gates
from zoo.types import Tensor


def product(
    kernel: Tensor, factors: Tensor | None, times: Callable[[Tensor, Tensor], Tensor] = operator.matmul
) -> Callable[[Tensor], Tensor]:
    """The function a -> a @ kernel, made outside a loop."""
    if factors is None:
        return lambda a: times(a, kernel)
    blocks = list(zip(ops.unstack(factors, 4), split_gates(kernel), strict=True))
    return lambda a: ops.concatenate([times(a * factor, block) for factor, block in blocks], axis=-1)


def product_back(kernel: Tensor, factors: Tensor | None) -> Callable[[Tensor], Tensor]:
    """From the gradient of a @ kernel to that of a."""
    if factors is None:
        transposed = ops.transpose(kernel)
        return lambda d: d @ transposed
    blocks = [
        (factor, ops.transpose(block))
        for factor, block in zip(ops.unstack(factors, 4), split_gates(kernel), strict=True)
    ]
    return lambda d: sum(factor * (part @ block) for part, (factor, block) in zip(split_gates(d), blocks, strict=True))


def kernel_gradient(a: Tensor, d: Tensor, factors: Tensor | None) -> Tensor:
    """From all a (t, b, n), and the gradients of all a @ kernel (t, b, 4 n), to that of the kernel."""

    def gradient(a: Tensor, d: Tensor) -> Tensor:
        return ops.transpose(ops.reshape(a, (-1, a.shape[-1]))) @ ops.reshape(d, (-1, d.shape[-1]))

    if factors is None:
        return gradient(a, d)
    blocks = zip(ops.unstack(factors, 4), split_gates(d), strict=True)
    return ops.concatenate([gradient(a * factor, part) for factor, part in blocks], axis=-1)
