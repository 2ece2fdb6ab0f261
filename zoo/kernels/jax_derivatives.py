"""Functions on JAX with a custom gradient and with every other derivative too.

`jax.custom_vjp` supports only reverse mode, and `jax.custom_jvp` no custom backward pass. So the map of tangents is a
primitive here: a linear map that depends on residuals, whose transpose, the backward pass, is another such map. For
anything else, such as its own derivative, a map has a second form in operations of JAX.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from zoo.types import Tensor, Tensors

Function = Callable[..., Tensors]
Linear = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]  # from residuals and arguments


def complete(run: Function, plain: Function) -> Function:
    """Combine `run` and its first gradient with all other derivatives of `plain`.

    Args:
        run: A function of tensors, differentiable once and in reverse mode.
        plain: The same function in operations that JAX can differentiate in any mode and repeatedly.

    Example:
    >>> import jax
    >>> square = complete(lambda x: (x * x,), lambda x: (x**2,))
    >>> float(jax.hessian(lambda x: square(x)[0])(3.0))
    2.0
    """
    function: Any = jax.custom_jvp(lambda *tensors: tuple(run(*tensors)))
    attached: Any = jax.custom_jvp(lambda values, tensors: values)

    def rule(primals: Tensors, tangents: Tensors) -> tuple[Tensors, Tensors]:
        # An outer derivative goes through `attached` instead of the outputs, since `run` has no second derivative.
        stopped, moved = jax.lax.stop_gradient(primals), _moved(tangents)
        values, pull = jax.vjp(_of_some(run, stopped, moved), *(stopped[k] for k in moved))
        kept, structure = jax.tree.flatten(pull)
        linear = _linear_map(plain, primals, moved, values)

        def backwards(residuals: Sequence[Tensor], arguments: Sequence[Tensor]) -> Sequence[Tensor]:
            gradients: Tensors = jax.tree.unflatten(structure, residuals[len(primals) :])(tuple(arguments))
            return gradients

        # The engine's own backward pass is what runs; the plain form stays for the derivatives of this map.
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
    """`function` as a function of the tensors at `places` only."""

    def of_some(*arguments: Tensor) -> Tensors:
        filled = list(tensors)
        for place, argument in zip(places, arguments, strict=True):
            filled[place] = argument
        return tuple(function(*filled))

    return of_some


def _linear_map(plain: Function, tensors: Tensors, moved: list[int], outputs: Tensors) -> "_Map":
    """The map from tangents of the tensors at `moved` to those of the outputs; the tensors are its first residuals."""
    count = len(tensors)

    def forwards(residuals: Sequence[Tensor], arguments: Sequence[Tensor]) -> Sequence[Tensor]:
        function = _of_some(plain, residuals[:count], moved)
        tangents: Tensors = jax.jvp(function, [residuals[k] for k in moved], list(arguments))[1]
        return tangents

    def backwards(residuals: Sequence[Tensor], arguments: Sequence[Tensor]) -> Sequence[Tensor]:
        function = _of_some(plain, residuals[:count], moved)
        gradients: Tensors = jax.vjp(function, *(residuals[k] for k in moved))[1](tuple(arguments))
        return gradients

    linear = _Map(forwards, forwards, tuple(map(jax.typeof, outputs)))
    linear.transposed = _Map(backwards, backwards, tuple(jax.typeof(tensors[k]) for k in moved), linear)
    return linear


@dataclass(eq=False)
class _Map:
    """A linear map that depends on residuals.

    Attributes:
        run: The form that is computed.
        plain: The form that is differentiated.
        shapes: JAX's abstract values of the results.
        transposed: The map from gradients of the results to those of the arguments.
    """

    run: Linear
    plain: Linear
    shapes: tuple[Any, ...]
    transposed: "_Map" = field(default=None, repr=False)  # type: ignore[assignment]

    def of(self, residuals: Sequence[Tensor], arguments: Sequence[Tensor]) -> Tensors:
        """Apply the map; JAX may trace the tensors."""
        return tuple(_linear.bind(*residuals, *arguments, linear=self, residuals=len(residuals)))


def _run(*tensors: Tensor, linear: _Map, residuals: int) -> Sequence[Tensor]:
    return list(linear.run(tensors[:residuals], tensors[residuals:]))


def _run_plain(*tensors: Tensor, linear: _Map, residuals: int) -> Sequence[Tensor]:
    return list(linear.plain(tensors[:residuals], tensors[residuals:]))


def _shapes(*_: Any, linear: _Map, residuals: int) -> Sequence[Any]:
    return linear.shapes


def _derivative(tensors: Sequence[Tensor], tangents: Sequence[Any], *, linear: _Map, residuals: int) -> Any:
    outputs = _linear.bind(*tensors, linear=linear, residuals=residuals)
    if all(type(tangent) is ad.Zero for tangent in tangents[:residuals]):  # a linear map is its own derivative
        moved = map(ad.instantiate_zeros, tangents[residuals:])
        return outputs, _linear.bind(*tensors[:residuals], *moved, linear=linear, residuals=residuals)
    plain = functools.partial(_run_plain, linear=linear, residuals=residuals)
    return outputs, jax.jvp(plain, list(tensors), [ad.instantiate_zeros(tangent) for tangent in tangents])[1]


def _transpose(gradients: Sequence[Any], *tensors: Any, linear: _Map, residuals: int) -> Sequence[Any]:
    # JAX transposes a map with respect to its linear arguments only: the residuals are constants.
    upstream = [ad.instantiate_zeros(gradient) for gradient in gradients]
    results = _linear.bind(*tensors[:residuals], *upstream, linear=linear.transposed, residuals=residuals)
    needed = [ad.is_undefined_primal(tensor) for tensor in tensors[residuals:]]
    return [None] * residuals + [result if need else None for result, need in zip(results, needed, strict=True)]


def _batch(tensors: Sequence[Tensor], places: Sequence[Any], *, linear: _Map, residuals: int) -> Any:
    size = next(tensor.shape[place] for tensor, place in zip(tensors, places, strict=True) if place is not None)
    first = [
        jax.numpy.broadcast_to(tensor, (size, *tensor.shape)) if place is None else jax.numpy.moveaxis(tensor, place, 0)
        for tensor, place in zip(tensors[residuals:], places[residuals:], strict=True)
    ]

    def batched(form: Linear) -> Linear:
        mapped: Linear = jax.vmap(form, in_axes=(list(places[:residuals]), 0))
        return lambda kept, arguments: mapped(list(kept), list(arguments))

    def batched_map(linear: _Map, arguments: Sequence[Any]) -> _Map:
        run = batched(linear.run)
        shapes = jax.eval_shape(run, tensors[:residuals], arguments)
        return _Map(run, batched(linear.plain), tuple(jax.core.ShapedArray(s.shape, s.dtype) for s in shapes))

    # Both directions are batched at once, because each has to find the other as its transpose.
    forwards = batched_map(linear, first)
    forwards.transposed = batched_map(linear.transposed, forwards.shapes)
    forwards.transposed.transposed = forwards
    results = _linear.bind(*tensors[:residuals], *first, linear=forwards, residuals=residuals)
    return results, [0] * len(results)


_linear = Primitive("zoo_linear")
_linear.multiple_results = True
_linear.def_impl(_run)
_linear.def_abstract_eval(_shapes)
ad.primitive_jvps[_linear] = _derivative
ad.primitive_transposes[_linear] = _transpose
batching.primitive_batchers[_linear] = _batch
mlir.register_lowering(_linear, mlir.lower_fun(_run, multiple_results=True))
