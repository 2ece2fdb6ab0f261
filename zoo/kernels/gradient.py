"""Functions with a custom gradient on every Keras backend that has gradients.

On torch `keras.ops.custom_gradient` allows only one output, and keeps what the gradient needs at inference too.
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
    """Combine a forward and a backward pass into one differentiable function.

    Args:
        forward: From tensors to two flat tuples of tensors: the outputs, and what the backward pass needs. It must not
            use tensors of an enclosing scope.
        backward: From what `forward` kept and the gradient of each output to the gradient of each input; `None` for an
            input without a gradient, such as a mask.
        infer: Like `forward`, but returns only the outputs; `None` derives it from `forward`.
        training: Whether a gradient is expected. Without it `infer` runs, and a gradient costs another forward pass.

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

    # `training` is not needed: JAX runs `forward` only where it differentiates.
    function = jax.custom_vjp(infer)
    function.defvjp(forward, lambda kept, upstream: tuple(backward(kept, tuple(upstream))))
    return function


def _on_tensorflow(forward: Any, backward: Any, infer: Any, training: bool) -> Any:
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(*tensors: Tensor) -> Any:
        outputs, kept = forward(*tensors) if training else (infer(*tensors), None)

        def gradient(*upstream: Tensor) -> list[Tensor | None]:
            # A gradient without `training` is correct too: the forward pass runs again, and keeps what it needs.
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
            if all(gradient is None for gradient in upstream):  # `zoo.kernels.derivatives` has used another way
                return tuple(None for _ in ctx.needs_input_grad)
            complete = (
                torch.zeros(shape, dtype=dtype, device=device) if gradient is None else gradient
                for gradient, (shape, dtype, device) in zip(upstream, ctx.shapes, strict=True)
            )
            return tuple(backward(ctx.saved_tensors, tuple(complete)))

    return lambda *tensors: Function.apply(*tensors)
