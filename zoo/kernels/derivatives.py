"""The derivatives that an engine lacks: second ones, forward mode and vectorised calls.

An engine has a fast first derivative in reverse mode, which is all that training needs. All other derivatives come from
`zoo.kernels.loop.plain_lstm`, the same recurrence in operations that the backend can differentiate, at the speed of the
reference.
"""

import functools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import keras

from zoo.kernels.contract import Operands, Options, Run
from zoo.kernels.loop import plain_lstm
from zoo.kernels.target import vectorised
from zoo.types import Gates, Tensor, Tensors

Function = Callable[..., Tensors]


def complete(run: Run) -> Run:
    """Add every derivative that the backend knows to `run`, which keeps its outputs and its first gradient."""
    make: Any = {"tensorflow": _on_tensorflow, "torch": _on_torch, "jax": _on_jax}[keras.backend.backend()]

    completed: Run = functools.partial(make, run)
    return completed


_NAMES = tuple(field.name for field in fields(Operands) if field.name != "slopes")


def _flat(operands: Operands) -> tuple[Tensors, Callable[[Tensors], Operands]]:
    """The tensors of a call, and the function that replaces them by others."""
    names = [name for name in _NAMES if getattr(operands, name) is not None]
    gates = [gate for gate, slope in enumerate(operands.slopes) if slope is not None]

    def rebuilt(tensors: Tensors) -> Operands:
        slopes = dict(zip(gates, tensors[len(names) :], strict=True))
        replaced = dict(zip(names, tensors, strict=False))
        return replace(operands, slopes=Gates(*map(slopes.get, range(len(Gates._fields)))), **replaced)

    return (*(getattr(operands, name) for name in names), *(operands.slopes[gate] for gate in gates)), rebuilt


def _functions(run: Run, operands: Operands, options: Options) -> tuple[Tensors, Function, Function]:
    """The tensors of a call, and both `run` and the plain recurrence as functions of these tensors."""
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
    if vectorised(operands.x):  # an engine's operation has no vectorised form
        return plain(*tensors)
    floats = [tensor.dtype.is_floating for tensor in tensors]  # all except the mask

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

            gradients = iter(first(*sources, *upstream))
            return tuple(next(gradients) if is_float else None for is_float in floats)

        return list(outputs), gradient

    return tuple(function(*tensors))


def _gradient_of_gradient(
    plain: Function, tensors: Tensors, sources: list[Tensor], upstream: Tensors, weights: Tensors
) -> list[Tensor]:
    """The gradients of sum(weights * d_sources), for `sources` and `upstream`."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch([*sources, *upstream])
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(sources)
            outputs = plain(*tensors)
        first = inner.gradient(outputs, sources, upstream, tf.UnconnectedGradients.ZERO)
    second: list[Tensor] = outer.gradient(first, [*sources, *upstream], weights, tf.UnconnectedGradients.ZERO)
    return second


# === torch ===


def _on_torch(run: Run, operands: Operands, options: Options) -> Tensors:
    import torch

    if _transformed():
        return plain_lstm(operands, options)
    outputs = run(operands, options)
    if not torch.is_grad_enabled() or not any(output.requires_grad for output in outputs):
        return outputs
    tensors, _, plain = _functions(run, operands, options)
    switched: Tensors = _switch().apply(plain, len(outputs), *outputs, *tensors)
    return switched


def _transformed() -> bool:
    """Whether `torch.func` or forward mode is active, neither of which accepts a function with only a backward pass."""
    import torch

    return bool(torch._C._are_functorch_transforms_active()) or torch.autograd.forward_ad._current_level >= 0


@functools.cache
def _switch() -> Any:
    """A function that returns outputs unchanged and decides in the backward pass where the gradient goes.

    Its inputs are an engine's outputs and the tensors from which they were computed. Usually the gradient goes to the
    outputs, and so to the engine. If the gradient is to be differentiated again, or is a batch of gradients, it goes
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
            # `is_grads_batched=True` passes batched tensors, which an engine's operation does not accept.
            batched = _transformed() or any(torch._C._functorch.is_legacy_batchedtensor(d) for _, d in pairs)
            if not pairs or not (again or batched):
                return None, None, *upstream, *(None for _ in tensors)
            needed = ctx.needs_input_grad[-len(tensors) :]
            with torch.enable_grad():
                outputs = ctx.plain(*tensors)
                gradients = torch.autograd.grad(
                    [outputs[place] for place, _ in pairs],
                    [tensor for tensor, need in zip(tensors, needed, strict=True) if need],
                    [d for _, d in pairs],
                    create_graph=again,
                    allow_unused=True,
                )
            each = iter(gradients)
            return None, None, *(None for _ in upstream), *(next(each) if need else None for need in needed)

    return Switch


# === JAX ===


def _on_jax(once: Run, operands: Operands, options: Options) -> Tensors:
    from zoo.kernels.jax_derivatives import complete

    tensors, run, plain = _functions(once, operands, options)
    return complete(run, plain)(*tensors)
