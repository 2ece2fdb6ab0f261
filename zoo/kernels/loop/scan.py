"""What a gradient written by hand needs of each Keras backend: a loop over time, and a vector-Jacobian product."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from zoo.types import Tensor, Tensors

Step = Callable[[Tensors, dict[str, Tensor]], tuple[Tensors, Tensors]]


def scan(
    step: Step,
    states: Tensors,
    inputs: Mapping[str, Tensor],
    emitted: Sequence[tuple[int, str]],
    reverse: bool = False,
    unrolled: bool = False,
) -> tuple[Tensors, Tensors]:
    """Run `step` along the first axis of `inputs`, without keeping anything for a gradient.

    Unlike `keras.ops.scan` it runs backwards without a copy, and under TensorFlow it is told what a step emits, so that
    it works with an unknown batch and in XLA.

    Args:
        step: Takes the states and a slice of each input; gives the new states and what it emits. States and what is
            emitted are tuples of tensors (batch, width).
        states: Before the first step.
        inputs: At least one, each (steps, ...), with one step or more.
        emitted: Width and type of each tensor that a step emits.
        reverse: Begin at the last step. What is emitted stands where its inputs stood.
        unrolled: Have no loop operation in a graph of TensorFlow; the number of steps has to be known then.

    Returns:
        The states after all steps, and what was emitted, each (steps, batch, width).

    Example:
    >>> from keras import ops
    >>> def add(states, at):
    ...     return (states[0] + at["x"],), (states[0],)
    >>> sums, before = scan(add, (ops.zeros((1, 1)),), {"x": ops.ones((3, 1, 1))}, [(1, "float32")], reverse=True)
    >>> float(sums[0][0, 0]), [float(value) for value in ops.reshape(before[0], (-1,))]
    (3.0, [2.0, 1.0, 0.0])
    """
    run: Any = {"jax": _on_jax, "torch": _unrolled, "tensorflow": _on_tensorflow}[keras.backend.backend()]
    if unrolled:
        run = _unrolled
    found: tuple[Tensors, Tensors] = run(step, states, dict(inputs), emitted, reverse)
    return found


def _on_jax(step: Step, states: Tensors, inputs: dict[str, Tensor], _: Any, reverse: bool) -> tuple[Tensors, Tensors]:
    from jax import lax

    found: tuple[Tensors, Tensors] = lax.scan(step, states, inputs, reverse=reverse)
    return found


def _unrolled(step: Step, states: Tensors, inputs: dict[str, Tensor], _: Any, reverse: bool) -> tuple[Tensors, Tensors]:
    slices = list(zip(*(ops.unstack(tensor) for tensor in inputs.values()), strict=True))
    found = []
    for each in reversed(slices) if reverse else slices:
        states, rows = step(states, dict(zip(inputs, each, strict=True)))
        found.append(rows)
    if reverse:
        found.reverse()
    return states, tuple(ops.stack(rows) for rows in zip(*found, strict=True))


def _on_tensorflow(
    step: Step, states: Tensors, inputs: dict[str, Tensor], emitted: Sequence[tuple[int, str]], reverse: bool
) -> tuple[Tensors, Tensors]:
    import tensorflow as tf

    if tf.executing_eagerly():  # a loop in Python in any case, and there is no forward mode through lists
        return _unrolled(step, states, inputs, emitted, reverse)
    # Lists by their raw operations: the rows of a `tf.TensorArray` want a batch that is known when it is traced.
    first = next(iter(inputs.values()))
    steps, batch = tf.shape(first)[0], tf.shape(states[0])[0]
    rows = [{"element_shape": tf.stack([batch, width]), "element_dtype": tf.as_dtype(kind)} for width, kind in emitted]
    shapes = {name: tf.shape(tensor)[1:] for name, tensor in inputs.items()}
    sources = {
        name: tf.raw_ops.TensorListFromTensor(tensor=tensor, element_shape=shapes[name])
        for name, tensor in inputs.items()
    }

    def read(name: str, index: Tensor) -> Tensor:
        row = tf.raw_ops.TensorListGetItem(
            input_handle=sources[name], index=index, element_shape=shapes[name], element_dtype=inputs[name].dtype
        )
        row.set_shape(inputs[name].shape[1:])
        return row

    def body(done: Tensor, held: Tensors, lists: Tensors) -> Any:
        index = steps - 1 - done if reverse else done
        held, new = step(held, {name: read(name, index) for name in inputs})
        written = (
            tf.raw_ops.TensorListSetItem(input_handle=handle, index=index, item=row)
            for handle, row in zip(lists, new, strict=True)
        )
        return done + 1, held, tuple(written)

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
        parallel_iterations=1,  # each waits for the one before it
    )
    found = [tf.raw_ops.TensorListStack(input_handle=handle, **row) for handle, row in zip(lists, rows, strict=True)]
    for tensor, (width, _) in zip(found, emitted, strict=True):
        tensor.set_shape((first.shape[0], None, width))
    return states, tuple(found)


def vjp(function: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor) -> Tensor:
    """The gradient of sum(function(x) * upstream) with respect to `x`, found by the backend.

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
