"""Masked steps: valid ones moved to the front and back, and what a masked step takes in and puts out."""

import keras
from keras import ops

from zoo.types import Tensor


def without_masked(sequences: Tensor, mask: Tensor | None) -> Tensor:
    """`sequences` (batch, steps, channels) with zeros where `mask` (batch, steps) is false.

    A choice, not a product: what stands in the padding, NaN too, must not reach a sum, nor the gradient of a weight.
    """
    return sequences if mask is None else ops.where(mask[:, :, None], sequences, ops.zeros_like(sequences))


def count_valid(mask: Tensor) -> Tensor:
    """How many steps of each row are valid up to each step, itself included: int32 (batch, steps)."""
    return ops.cumsum(ops.cast(mask, "int32"), axis=1)


def valid_first(sequences: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move the valid steps of each row to its front, in their order; the rest becomes zero.

    A recurrence that skips masked steps gives the same on the result, and there step t of every row is its t-th.

    Args:
        sequences: (batch, steps, channels).
        mask: Bool (batch, steps), true where a step is valid.

    Returns:
        The sequences (batch, steps, channels); their mask (batch, steps), true at the front; and `count_valid(mask)`.

    Example:
    >>> x = ops.reshape(ops.arange(1.0, 4.0), (1, 3, 1))
    >>> moved, valid, count = valid_first(x, ops.convert_to_tensor([[False, True, True]]))
    >>> [ops.convert_to_numpy(tensor).ravel().tolist() for tensor in (moved, valid, count)]
    [[2.0, 3.0, 0.0], [True, True, False], [0, 1, 2]]
    """
    steps = ops.arange(ops.shape(mask)[1], dtype="int32")[None]
    # Keys that differ: not every backend's sort keeps the order of equal ones.
    order = ops.argsort(ops.where(mask, steps, steps + ops.shape(mask)[1]), axis=1)
    count = count_valid(mask)
    valid = steps < count[:, -1:]
    return without_masked(_taken(sequences, ops.cast(order, "int32")), valid), valid, count


def restore(outputs: Tensor, count: Tensor) -> Tensor:
    """Put outputs (batch, steps, units) of `valid_first` back: at each old step that of the latest valid one.

    What stands before the first valid step means nothing.

    Example:
    >>> y = ops.convert_to_tensor([[[5.0], [6.0], [0.0]]])
    >>> ops.convert_to_numpy(restore(y, ops.convert_to_tensor([[1, 1, 2]], dtype="int32"))).ravel().tolist()
    [5.0, 5.0, 6.0]
    """
    return _taken(outputs, ops.maximum(count - 1, 0))


def masked_outputs(
    hidden: Tensor, mask: Tensor | None, zero_output_for_mask: bool, count: Tensor | None = None
) -> Tensor:
    """The rule of what a masked step puts out: what the step before did, and zeros before the first valid step.

    Args:
        hidden: The hidden state after every step, (batch, steps, units), or after the last, (batch, units); a masked
            step repeats it.
        mask: Bool (batch, steps) in the order in which steps are read, true where a step is valid, or `None`.
        zero_output_for_mask: Put out zeros at every masked step.
        count: `count_valid(mask)`, where it is known.

    Returns:
        The outputs, of the shape of `hidden`.

    Example:
    >>> outputs = masked_outputs(ops.ones((1, 3, 1)), ops.convert_to_tensor([[False, True, False]]), False)
    >>> ops.convert_to_numpy(outputs).ravel().tolist()
    [0.0, 1.0, 1.0]
    """
    if mask is None:
        return hidden
    kept = mask if zero_output_for_mask else (count_valid(mask) if count is None else count) > 0
    kept = kept[:, -1:] if len(hidden.shape) == 2 else kept[:, :, None]
    return ops.where(kept, hidden, ops.zeros_like(hidden))


def _taken(rows: Tensor, index: Tensor) -> Tensor:
    """`rows[b, index[b, t]]`, (batch, t, width)."""
    if keras.backend.backend() == "tensorflow":  # one operation: Keras's is many, and slow in a server
        import tensorflow as tf

        return tf.gather(rows, index, batch_dims=1)
    return ops.take_along_axis(rows, index[:, :, None], axis=1)
