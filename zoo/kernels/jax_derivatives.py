"""A function on JAX with a gradient of its own that has every other derivative too.

`jax.custom_vjp` knows reverse mode alone, and `jax.custom_jvp` no backward pass of one's own. So the tangents are a
primitive: a linear map of them that depends on residuals, of which the transposed map, the backward pass, is another.
Whatever else is asked of either, such as its derivative, is found from a second form of it in operations of JAX.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from zoo.types import Tensor, Tensors

Function = Callable[..., Tensors]
Linear = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]  # of residuals and arguments


def complete(run: Function, plain: Function) -> Function:
    """`run`, with its own gradient, and with all other derivatives of `plain`.

    Args:
        run: Takes tensors and gives some; differentiable in reverse mode, once.
        plain: The same in operations that JAX differentiates in any mode, as often as wanted.

    Example:
    >>> import jax
    >>> square = complete(lambda x: (x * x,), lambda x: (x**2,))
    >>> float(jax.hessian(lambda x: square(x)[0])(3.0))
    2.0
    """
    function: Any = jax.custom_jvp(lambda *tensors: tuple(run(*tensors)))
    attached: Any = jax.custom_jvp(lambda values, tensors: values)

    def rule(primals: Tensors, tangents: Tensors) -> tuple[Tensors, Tensors]:
        # What an outer derivative sees of the outputs is `attached`: `run` is not to be differentiated twice.
        stopped, moved = jax.lax.stop_gradient(primals), _moved(tangents)
        values, pull = jax.vjp(_of_some(run, stopped, moved), *(stopped[k] for k in moved))
        kept, structure = jax.tree.flatten(pull)
        linear = _linear_map(plain, primals, moved, values)

        def backwards(residuals: Sequence[Tensor], arguments: Sequence[Tensor]) -> Sequence[Tensor]:
            gradients: Tensors = jax.tree.unflatten(structure, residuals[len(primals) :])(tuple(arguments))
            return gradients

        linear.transposed.run = backwards
        return attached(values, primals), linear.of([*primals, *kept], [tangents[k] for k in moved])

    def rule_of_attached(primals: Tensors, tangents: Tensors) -> tuple[Tensors, Tensors]:
        (values, tensors), moved = primals, _moved(tangents[1])
        linear = _linear_map(plain, tensors, moved, values)
        return attached(values, tensors), linear.of(tensors, [tangents[1][k] for k in moved])

    function.defjvp(rule, symbolic_zeros=True)
    attached.defjvp(rule_of_attached, symbolic_zeros=True)
    completed: Function = function
    return completed


def _moved(tangents: Tensors) -> list[int]:
    return [k for k, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]


def _of_some(function: Function, tensors: Sequence[Tensor], places: Sequence[int]) -> Function:
    """`function` of the tensors at `places`; the others stay what they are."""

    def of_some(*arguments: Tensor) -> Tensors:
        filled = list(tensors)
        for place, argument in zip(places, arguments, strict=True):
            filled[place] = argument
        return tuple(function(*filled))

    return of_some


def _linear_map(plain: Function, tensors: Tensors, moved: list[int], outputs: Tensors) -> "_Map":
    """From the tangents of the tensors at `moved` to those of the outputs; the tensors are the first residuals."""
    count = len(tensors)

    def forwards(residuals: Sequence[Tensor], arguments: Sequence[Tensor]) -> Sequence[Tensor]:
        function = _of_some(plain, residuals[:count], moved)
        tangents: Tensors = jax.jvp(function, [residuals[k] for k in moved], list(arguments))[1]
        return tangents

    def backwards(residuals: Sequence[Tensor], arguments: Sequence[Tensor]) -> Sequence[Tensor]:
        function = _of_some(plain, residuals[:count], moved)
        gradients: Tensors = jax.vjp(function, *(residuals[k] for k in moved))[1](tuple(arguments))
        return gradients

    found = _Map(forwards, forwards, tuple(map(jax.typeof, outputs)))
    found.transposed = _Map(backwards, backwards, tuple(jax.typeof(tensors[k]) for k in moved), found)
    return found


@dataclass(eq=False)
class _Map:
    """A linear map of some tensors that depends on others, the residuals.

    Attributes:
        run: The map, as it is computed.
        plain: The map, as it is differentiated.
        shapes: What JAX calls the abstract values of its results.
        transposed: The map from gradients of its results to those of its arguments.
    """

    run: Linear
    plain: Linear
    shapes: tuple[Any, ...]
    transposed: "_Map" = field(default=None, repr=False)  # type: ignore[assignment]

    def of(self, residuals: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensors:
        """The results for tensors that JAX may trace."""
        return tuple(_linear.bind(*residuals, *arguments, linear=self, residuals=len(residuals)))


def _run(*tensors: Tensor, linear: _Map, residuals: int) -> Sequence[Tensor]:
    return list(linear.run(tensors[:residuals], tensors[residuals:]))


def _shapes(*_: Any, linear: _Map, residuals: int) -> Sequence[Any]:
    return linear.shapes


def _derivative(tensors: Sequence[Tensor], tangents: Sequence[Any], *, linear: _Map, residuals: int) -> Any:
    outputs = _linear.bind(*tensors, linear=linear, residuals=residuals)
    if all(type(tangent) is ad.Zero for tangent in tangents[:residuals]):
        given = map(ad.instantiate_zeros, tangents[residuals:])
        return outputs, _linear.bind(*tensors[:residuals], *given, linear=linear, residuals=residuals)
    found = jax.jvp(
        lambda *tensors: list(linear.plain(tensors[:residuals], tensors[residuals:])),
        list(tensors),
        [ad.instantiate_zeros(tangent) for tangent in tangents],
    )[1]
    return outputs, found


def _transpose(gradients: Sequence[Any], *tensors: Any, linear: _Map, residuals: int) -> Sequence[Any]:
    given = [ad.instantiate_zeros(gradient) for gradient in gradients]
    found = _linear.bind(*tensors[:residuals], *given, linear=linear.transposed, residuals=residuals)
    wanted = [ad.is_undefined_primal(tensor) for tensor in tensors[residuals:]]
    return [None] * residuals + [
        gradient if undefined else None for gradient, undefined in zip(found, wanted, strict=True)
    ]


def _batch(tensors: Sequence[Tensor], places: Sequence[Any], *, linear: _Map, residuals: int) -> Any:
    size = next(tensor.shape[place] for tensor, place in zip(tensors, places, strict=True) if place is not None)
    first = [
        jax.numpy.broadcast_to(tensor, (size, *tensor.shape)) if place is None else jax.numpy.moveaxis(tensor, place, 0)
        for tensor, place in zip(tensors[residuals:], places[residuals:], strict=True)
    ]

    def batched(form: Linear) -> Linear:
        found: Linear = jax.vmap(form, in_axes=(list(places[:residuals]), 0))
        return lambda kept, arguments: found(list(kept), list(arguments))

    def batched_map(linear: _Map, arguments: Sequence[Any]) -> _Map:
        run = batched(linear.run)
        shapes = jax.eval_shape(run, tensors[:residuals], arguments)
        return _Map(run, batched(linear.plain), tuple(jax.core.ShapedArray(s.shape, s.dtype) for s in shapes))

    forwards = batched_map(linear, first)
    forwards.transposed = batched_map(linear.transposed, forwards.shapes)
    forwards.transposed.transposed = forwards
    found = _linear.bind(*tensors[:residuals], *first, linear=forwards, residuals=residuals)
    return found, [0] * len(found)


_linear = Primitive("zoo_linear")
_linear.multiple_results = True
_linear.def_impl(_run)
_linear.def_abstract_eval(_shapes)
ad.primitive_jvps[_linear] = _derivative
ad.primitive_transposes[_linear] = _transpose
batching.primitive_batchers[_linear] = _batch
mlir.register_lowering(_linear, mlir.lower_fun(_run, multiple_results=True))
