"""A loop over time and a vector-Jacobian product on every Keras backend, for a hand-written gradient."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from zoo.types import Tensor, Tensors

Step = Callable[[Tensors, Any], tuple[Tensors, Tensors]]


def scan(
    step: Step,
    states: Tensors,
    inputs: tuple[Any, ...],
    emitted: Sequence[tuple[int, str]],
    reverse: bool = False,
    unrolled: bool = False,
) -> tuple[Tensors, Tensors]:
    """Run `step` along the first axis of `inputs`, without keeping anything for a gradient.

    Unlike `keras.ops.scan` it runs backwards without a copy, and it is given the widths that a step emits, so that on
    TensorFlow it works with an unknown batch size and in XLA.

    Args:
        step: From the states and the step's slice of `inputs` to the new states and the emitted tensors, both tuples of
            tensors (batch, width).
        states: The states before the first step.
        inputs: A tuple, plain or named, of tensors (steps, ...), `None` and such tuples, with at least one tensor.
        emitted: Width and type of each tensor that a step emits.
        reverse: Whether to begin at the last step. An emitted tensor has the index of its inputs.
        unrolled: Whether to have no loop operation in a graph of TensorFlow; the number of steps has to be known then.

    Returns:
        The states after all steps, and the emitted tensors, each (steps, batch, width).

    Example:
    >>> from keras import ops
    >>> def add(states, at):
    ...     return (states[0] + at[0],), (states[0],)
    >>> sums, before = scan(add, (ops.zeros((1, 1)),), (ops.ones((3, 1, 1)),), [(1, "float32")], reverse=True)
    >>> float(sums[0][0, 0]), [float(value) for value in ops.reshape(before[0], (-1,))]
    (3.0, [2.0, 1.0, 0.0])
    """
    run: Any = {"jax": _on_jax, "torch": _unrolled, "tensorflow": _on_tensorflow}[keras.backend.backend()]
    result: tuple[Tensors, Tensors] = (_unrolled if unrolled else run)(step, states, inputs, emitted, reverse)
    return result


def _map(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Apply `function` to each leaf of `inputs` except `None`."""
    if inputs is None:
        return None
    if not isinstance(inputs, tuple):
        return function(inputs)
    parts = [_map(function, part) for part in inputs]
    return inputs._make(parts) if hasattr(inputs, "_make") else tuple(parts)


def _on_jax(step: Step, states: Tensors, inputs: Any, _: Any, reverse: bool) -> tuple[Tensors, Tensors]:
    from jax import lax

    result: tuple[Tensors, Tensors] = lax.scan(step, states, inputs, reverse=reverse)
    return result


def _unrolled(step: Step, states: Tensors, inputs: Any, _: Any, reverse: bool) -> tuple[Tensors, Tensors]:
    tensors: list[Tensor] = []
    _map(tensors.append, inputs)
    slices, make = list(zip(*map(ops.unstack, tensors), strict=True)), _maker(inputs)
    emitted = []
    for leaves in reversed(slices) if reverse else slices:
        states, rows = step(states, make(iter(leaves)))
        emitted.append(rows)
    if reverse:
        emitted.reverse()
    return states, tuple(ops.stack(rows) for rows in zip(*emitted, strict=True))


def _maker(inputs: Any) -> Callable[[Iterator[Any]], Any]:
    """The function from leaves to a structure like `inputs`; `keras.tree` would slow each step of an eager loop."""
    if not isinstance(inputs, tuple):
        return next if inputs is not None else lambda _: None
    parts, make = [_maker(part) for part in inputs], getattr(inputs, "_make", tuple)
    return lambda leaves: make([part(leaves) for part in parts])


def _on_tensorflow(
    step: Step, states: Tensors, inputs: Any, emitted: Sequence[tuple[int, str]], reverse: bool
) -> tuple[Tensors, Tensors]:
    import tensorflow as tf

    if tf.executing_eagerly():  # the loop is in Python in any case, and tensor lists have no forward mode
        return _unrolled(step, states, inputs, emitted, reverse)
    # Raw operations on lists, because a `tf.TensorArray` needs a batch size that is known at tracing.
    tensors: list[Tensor] = []
    _map(tensors.append, inputs)
    first = tensors[0]
    steps, batch = tf.shape(first)[0], tf.shape(states[0])[0]
    rows = [{"element_shape": tf.stack([batch, width]), "element_dtype": tf.as_dtype(kind)} for width, kind in emitted]

    def source(tensor: Tensor) -> Callable[[Tensor], Tensor]:
        shape = tf.shape(tensor)[1:]
        rows = tf.raw_ops.TensorListFromTensor(tensor=tensor, element_shape=shape)

        def read(index: Tensor) -> Tensor:
            row = tf.raw_ops.TensorListGetItem(
                input_handle=rows, index=index, element_shape=shape, element_dtype=tensor.dtype
            )
            row.set_shape(tensor.shape[1:])
            return row

        return read

    sources = _map(source, inputs)

    def body(done: Tensor, states: Tensors, lists: Tensors) -> Any:
        index = steps - 1 - done if reverse else done
        states, emitted = step(states, _map(lambda read: read(index), sources))
        written = (
            tf.raw_ops.TensorListSetItem(input_handle=handle, index=index, item=row)
            for handle, row in zip(lists, emitted, strict=True)
        )
        return done + 1, states, tuple(written)

    lists = tuple(tf.raw_ops.TensorListReserve(num_elements=steps, **row) for row in rows)
    _, states, lists = tf.while_loop(
        lambda done, *_: done < steps,
        body,
        (tf.constant(0), tuple(states), lists),
        shape_invariants=(
            tf.TensorShape([]),
            tuple(tf.TensorShape([None, state.shape[-1]]) for state in states),
            tuple(tf.TensorShape([]) for _ in lists),
        ),
        parallel_iterations=1,  # each iteration needs the one before it
    )
    stacks = [tf.raw_ops.TensorListStack(input_handle=handle, **row) for handle, row in zip(lists, rows, strict=True)]
    for tensor, (width, _) in zip(stacks, emitted, strict=True):
        tensor.set_shape((first.shape[0], None, width))
    return states, tuple(stacks)


def vjp(function: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor) -> Tensor:
    """The gradient of sum(function(x) * upstream) with respect to `x`, computed by the backend.

    Example:
    >>> from keras import ops
    >>> float(vjp(ops.square, ops.convert_to_tensor(3.0), ops.convert_to_tensor(2.0)))
    12.0
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.vjp(function, x)[1](upstream)[0]
    if backend == "torch":
        import torch

        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(function(x), x, upstream, allow_unused=True, materialize_grads=True)[0]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO)
