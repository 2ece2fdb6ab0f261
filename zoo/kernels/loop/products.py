"""Products of a sequence with the kernel of four gates, and their gradients.

`factors` (4, b, width) are the dropout factors, which differ between gates; `None` without dropout.
"""

import operator
from collections.abc import Callable

from keras import ops

from zoo.kernels.reference import split_gates
from zoo.types import Tensor


def product(
    kernel: Tensor, factors: Tensor | None, times: Callable[[Tensor, Tensor], Tensor] = operator.matmul
) -> Callable[[Tensor], Tensor]:
    """The function from a to a @ kernel, prepared outside the loop."""
    if factors is None:
        return lambda a: times(a, kernel)
    # Each gate has its own input, so four products take the place of one: [(a * factor) block for each gate].
    blocks = list(zip(ops.unstack(factors, 4), split_gates(kernel), strict=True))
    return lambda a: ops.concatenate([times(a * factor, block) for factor, block in blocks], axis=-1)


def product_back(kernel: Tensor, factors: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The function from the gradient of a @ kernel to that of a."""
    if factors is None:
        transposed = ops.transpose(kernel)
        return lambda d: d @ transposed
    # da = sum over the gates of factor * (d block^T)
    blocks = [
        (factor, ops.transpose(block))
        for factor, block in zip(ops.unstack(factors, 4), split_gates(kernel), strict=True)
    ]
    return lambda d: sum(factor * (part @ block) for part, (factor, block) in zip(split_gates(d), blocks, strict=True))


def kernel_gradient(a: Tensor, d: Tensor, factors: Tensor | None) -> Tensor:
    """The gradient of the kernel, from a (t, b, n) and the gradient of a @ kernel (t, b, 4 n) at all steps."""

    def gradient(a: Tensor, d: Tensor) -> Tensor:
        # a^T d, summed over steps and rows by one product of two matrices.
        return ops.transpose(ops.reshape(a, (-1, a.shape[-1]))) @ ops.reshape(d, (-1, d.shape[-1]))

    if factors is None:
        return gradient(a, d)
    blocks = zip(ops.unstack(factors, 4), split_gates(d), strict=True)
    return ops.concatenate([gradient(a * factor, part) for factor, part in blocks], axis=-1)
