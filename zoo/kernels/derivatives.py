"""What an engine lacks of derivatives: second ones, forward mode and vectorised calls.

An engine has a first derivative in reverse mode, as fast as can be, and that alone is what training asks for. All else
is computed by `zoo.kernels.loop.plain_lstm`, the same recurrence in operations that the backend differentiates by
itself: right, at the price of the reference.
"""

import functools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import keras

from zoo.kernels.contract import Operands, Options, Outputs, Run
from zoo.kernels.loop import plain_lstm
from zoo.kernels.target import vectorised
from zoo.types import Gates, Tensor, Tensors

Function = Callable[..., Tensors]


def complete(run: Run) -> Run:
    """`run` with every derivative that the backend knows.

    The outputs and the first gradient in reverse mode stay those of `run`.
    """
    make: Any = {"tensorflow": _on_tensorflow, "torch": _on_torch, "jax": _on_jax}[keras.backend.backend()]

    def completed(operands: Operands, options: Options) -> Outputs:
        found: Outputs = make(run, operands, options)
        return found

    return completed


_NAMES = tuple(field.name for field in fields(Operands) if field.name != "slopes")


def _flat(operands: Operands) -> tuple[Tensors, Callable[[Tensors], Operands]]:
    """The tensors of a call, and what puts others in their places."""
    names = [name for name in _NAMES if getattr(operands, name) is not None]
    gates = [gate for gate, slope in enumerate(operands.slopes) if slope is not None]

    def rebuilt(tensors: Tensors) -> Operands:
        slopes = dict(zip(gates, tensors[len(names) :], strict=True))
        given = dict(zip(names, tensors, strict=False))
        return replace(operands, slopes=Gates(*map(slopes.get, range(len(Gates._fields)))), **given)

    return (*(getattr(operands, name) for name in names), *(operands.slopes[gate] for gate in gates)), rebuilt


def _functions(run: Run, operands: Operands, options: Options) -> tuple[Tensors, Function, Function]:
    """The tensors of a call; `run` and the plain recurrence as functions of them."""
    tensors, rebuilt = _flat(operands)
    return (
        tensors,
        lambda *tensors: run(rebuilt(tensors), options),
        lambda *tensors: plain_lstm(rebuilt(tensors), options),
    )


# === TensorFlow ===


def _on_tensorflow(once: Run, operands: Operands, options: Options) -> Tensors:
    import tensorflow as tf

    tensors, run, plain = _functions(once, operands, options)
    if vectorised(operands.x):  # no vectorised form is known of an engine's own operation
        return plain(*tensors)
    floats = [tensor.dtype.is_floating for tensor in tensors]  # all but the mask

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def function(*tensors: Tensor) -> Any:
        sources = [tensor for tensor, is_float in zip(tensors, floats, strict=True) if is_float]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sources)
            outputs = run(*tensors)

        def gradient(*upstream: Tensor) -> Tensors:
            @tf.custom_gradient  # type: ignore[untyped-decorator]
            def first(*arguments: Tensor) -> Any:
                def second(*weights: Tensor) -> list[Tensor]:
                    return _gradient_of_gradient(plain, tensors, sources, upstream, weights)

                return tape.gradient(outputs, sources, upstream, tf.UnconnectedGradients.ZERO), second

            found = iter(first(*sources, *upstream))
            return tuple(next(found) if is_float else None for is_float in floats)

        return list(outputs), gradient

    return tuple(function(*tensors))


def _gradient_of_gradient(
    plain: Function, tensors: Tensors, sources: list[Tensor], upstream: Tensors, weights: Tensors
) -> list[Tensor]:
    """The gradients, for `sources` and `upstream`, of sum(weights * d_sources)."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch([*sources, *upstream])
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(sources)
            outputs = plain(*tensors)
        found = inner.gradient(outputs, sources, upstream, tf.UnconnectedGradients.ZERO)
    gradients: list[Tensor] = outer.gradient(found, [*sources, *upstream], weights, tf.UnconnectedGradients.ZERO)
    return gradients


# === torch ===


def _on_torch(run: Run, operands: Operands, options: Options) -> Tensors:
    import torch

    if _transformed():
        return plain_lstm(operands, options)
    outputs = run(operands, options)
    if not torch.is_grad_enabled() or not any(output.requires_grad for output in outputs):
        return outputs
    tensors, _, plain = _functions(run, operands, options)
    found: Tensors = _switch().apply(plain, len(outputs), *outputs, *tensors)
    return found


def _transformed() -> bool:
    """Whether `torch.func` or forward mode is at work, neither of which takes a function with a backward pass alone."""
    import torch

    return bool(torch._C._are_functorch_transforms_active()) or torch.autograd.forward_ad._current_level >= 0


@functools.cache
def _switch() -> Any:
    """The function that gives outputs as they are, and decides on the way back who differentiates.

    Its inputs are the outputs of an engine and the tensors that these were computed from. A gradient goes to the
    outputs, and so to the engine. Where the gradient is to be differentiated in its turn, or comes in a batch, it goes
    to the tensors, through the plain recurrence.
    """
    import torch

    class Switch(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, plain: Function, count: int, *tensors: Tensor) -> Any:
            ctx.plain, ctx.count = plain, count
            ctx.save_for_backward(*tensors[count:])
            ctx.set_materialize_grads(False)
            return tuple(output.view_as(output) for output in tensors[:count])

        @staticmethod
        def backward(ctx: Any, *upstream: Tensor) -> Any:
            tensors, again = ctx.saved_tensors, torch.is_grad_enabled()
            pairs = [pair for pair in enumerate(upstream) if pair[1] is not None]
            batched = _transformed() or any(torch._C._functorch.is_legacy_batchedtensor(d) for _, d in pairs)
            if not pairs or not (again or batched):
                return None, None, *upstream, *(None for _ in tensors)
            needed = ctx.needs_input_grad[-len(tensors) :]
            with torch.enable_grad():
                outputs = ctx.plain(*tensors)
                found = torch.autograd.grad(
                    [outputs[place] for place, _ in pairs],
                    [tensor for tensor, need in zip(tensors, needed, strict=True) if need],
                    [d for _, d in pairs],
                    create_graph=again,
                    allow_unused=True,
                )
            gradients = iter(found)
            return None, None, *(None for _ in upstream), *(next(gradients) if need else None for need in needed)

    return Switch


# === JAX ===


def _on_jax(once: Run, operands: Operands, options: Options) -> Tensors:
    from zoo.kernels.jax_derivatives import complete

    tensors, run, plain = _functions(once, operands, options)
    return complete(run, plain)(*tensors)
