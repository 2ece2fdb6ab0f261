"""The rules for masked steps: valid steps first, and the inputs and outputs of masked ones."""

import keras
from keras import ops

from zoo.types import Tensor


def without_masked(sequences: Tensor, mask: Tensor | None) -> Tensor:
    """Set `sequences` (batch, steps, channels) to zero where `mask` (batch, steps) is false.

    By a choice, not a product: a NaN in the padding must not reach a sum, nor the gradient of a weight.
    """
    return sequences if mask is None else ops.where(mask[:, :, None], sequences, ops.zeros_like(sequences))


def count_valid(mask: Tensor) -> Tensor:
    """The number of valid steps of each row up to and including each step: int32 (batch, steps)."""
    return ops.cumsum(ops.cast(mask, "int32"), axis=1)


def valid_first(sequences: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move the valid steps of each row to its front, in their order, and set the rest to zero.

    A recurrence that skips masked steps has the same results on these sequences, in which step t is the t-th valid one.

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
    # The keys all differ, because not every backend's sort is stable.
    order = ops.argsort(ops.where(mask, steps, steps + ops.shape(mask)[1]), axis=1)
    count = count_valid(mask)
    valid = steps < count[:, -1:]
    return without_masked(_taken(sequences, ops.cast(order, "int32")), valid), valid, count


def restore(outputs: Tensor, count: Tensor) -> Tensor:
    """Undo `valid_first` for outputs (batch, steps, units): each step gets the output of the latest valid step.

    Values before the first valid step are meaningless.

    Example:
    >>> y = ops.convert_to_tensor([[[5.0], [6.0], [0.0]]])
    >>> ops.convert_to_numpy(restore(y, ops.convert_to_tensor([[1, 1, 2]], dtype="int32"))).ravel().tolist()
    [5.0, 5.0, 6.0]
    """
    return _taken(outputs, ops.maximum(count - 1, 0))


def masked_outputs(
    hidden: Tensor, mask: Tensor | None, zero_output_for_mask: bool, count: Tensor | None = None
) -> Tensor:
    """Apply the rule for masked steps: the output of the step before, and zeros before the first valid step.

    Args:
        hidden: The hidden state after every step, (batch, steps, units), where a masked step repeats it, or after the
            last step, (batch, units).
        mask: Bool (batch, steps) in the order in which steps are read, true where a step is valid, or `None`.
        zero_output_for_mask: Whether the output of every masked step is zero.
        count: `count_valid(mask)`, if it is known already.

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
    if keras.backend.backend() == "tensorflow":  # one operation, where Keras's has many, which are slow in a server
        import tensorflow as tf

        return tf.gather(rows, index, batch_dims=1)
    return ops.take_along_axis(rows, index[:, :, None], axis=1)
