"""The gradient of a scalar function, by the framework on which Keras runs."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from numpy.typing import NDArray

from zoo.diagnostics.recording import to_numpy
from zoo.types import Tensor

Objective = Callable[[Sequence[Tensor]], Tensor]


def gradients(objective: Objective, values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The gradient of the scalar `objective(tensors)` with respect to each of its tensors, at `values`.

    Raises:
        NotImplementedError: Keras runs on a backend that has no gradients or is not supported here.

    Example:
    >>> import numpy as np
    >>> gradients(lambda tensors: keras.ops.sum(tensors[0] ** 2), [np.array([3.0], "float32")])
    [array([6.], dtype=float32)]
    """
    _, tensors = value_and_gradients(objective, [keras.ops.convert_to_tensor(value) for value in values])
    return [to_numpy(gradient) for gradient in tensors]


def value_and_gradients(objective: Objective, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """`objective(tensors)` and its gradients, all as tensors, so that a compiled function can call it.

    Raises:
        NotImplementedError: Keras runs on a backend that has no gradients or is not supported here.
    """
    backend = keras.backend.backend()
    if backend not in _GRADIENTS:
        raise NotImplementedError(
            f"this diagnosis needs gradients, which Keras's {backend!r} backend does not have here; "
            f"set KERAS_BACKEND to one of {', '.join(_GRADIENTS)}"
        )
    return _GRADIENTS[backend](objective, list(tensors))


def _tensorflow(objective: Objective, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = objective(tensors)
    slopes = tape.gradient(value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value, [tf.convert_to_tensor(slope) for slope in slopes]  # an embedding's gradient is sparse


def _torch(objective: Objective, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    import torch

    leaves = [tensor.detach().clone().requires_grad_(True) for tensor in tensors]
    value = objective(leaves)
    pairs = zip(torch.autograd.grad(value, leaves, allow_unused=True), leaves, strict=True)
    return value.detach(), [torch.zeros_like(leaf) if gradient is None else gradient for gradient, leaf in pairs]


def _jax(objective: Objective, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    import jax

    value, slopes = jax.value_and_grad(objective)(tensors)
    return value, list(slopes)


_GRADIENTS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
