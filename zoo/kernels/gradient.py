"""A function of tensors with a gradient of its own, on any of Keras's backends.

`keras.ops.custom_gradient` knows one output only on torch, and keeps what the gradient needs at inference too.
"""

from collections.abc import Callable
from typing import Any

import keras

from zoo.types import Tensor, Tensors


def differentiable(
    forward: Callable[..., tuple[Tensors, Tensors]],
    backward: Callable[[Tensors, Tensors], Tensors],
    infer: Callable[..., Tensors] | None = None,
    training: bool = True,
) -> Callable[..., Tensors]:
    """Join a forward and a backward pass to one function that the backend can differentiate.

    Args:
        forward: Takes tensors; gives the outputs, and what is kept for the backward pass. Both are flat tuples of
            tensors. No tensor may reach it by a closure.
        backward: Takes what was kept and the gradient of each output; gives that of each input of `forward`, `None` for
            one that has none, such as a mask.
        infer: As `forward`, without keeping anything; `forward` less what it keeps where it is `None`.
        training: Whether a gradient is expected. Without it `infer` runs, and a gradient that is asked for all the same
            costs a forward pass more.

    Returns:
        A function from the tensors to the outputs.

    Example:
    >>> from keras import ops
    >>> square = differentiable(lambda x: ((x * x,), (x,)), lambda kept, upstream: (2 * kept[0] * upstream[0],))
    >>> float(square(ops.convert_to_tensor(3.0))[0])
    9.0
    """

    def outputs_only(*tensors: Tensor) -> Tensors:
        return infer(*tensors) if infer is not None else forward(*tensors)[0]

    make: Any = {"jax": _on_jax, "torch": _on_torch, "tensorflow": _on_tensorflow}[keras.backend.backend()]
    function: Callable[..., Tensors] = make(forward, backward, outputs_only, training)
    return function


def _on_jax(forward: Any, backward: Any, infer: Any, training: bool) -> Any:
    import jax

    # JAX itself knows whether it differentiates: `training` says nothing more.
    function = jax.custom_vjp(infer)
    function.defvjp(forward, lambda kept, upstream: tuple(backward(kept, tuple(upstream))))
    return function


def _on_tensorflow(forward: Any, backward: Any, infer: Any, training: bool) -> Any:
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(*tensors: Tensor) -> Any:
        outputs, kept = forward(*tensors) if training else (infer(*tensors), None)

        def gradient(*upstream: Tensor) -> list[Tensor | None]:
            return list(backward(forward(*tensors)[1] if kept is None else kept, upstream))

        return list(outputs), gradient

    return lambda *tensors: tuple(function(*tensors))


def _on_torch(forward: Any, backward: Any, infer: Any, training: bool) -> Any:
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Tensor) -> Any:
            if not any(ctx.needs_input_grad):
                return infer(*tensors)
            outputs, kept = forward(*tensors)
            ctx.save_for_backward(*kept)
            ctx.set_materialize_grads(False)
            ctx.shapes = [(output.shape, output.dtype, output.device) for output in outputs]
            return outputs

        @staticmethod
        @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
        def backward(ctx: Any, *upstream: Tensor) -> Any:
            if all(gradient is None for gradient in upstream):  # the plain recurrence was differentiated in its place
                return tuple(None for _ in ctx.needs_input_grad)
            whole = (
                torch.zeros(shape, dtype=dtype, device=device) if gradient is None else gradient
                for gradient, (shape, dtype, device) in zip(upstream, ctx.shapes, strict=True)
            )
            return tuple(backward(ctx.saved_tensors, tuple(whole)))

    return lambda *tensors: Function.apply(*tensors)
