"""Masked steps: valid ones moved to the front and back, and what a masked step puts out."""

from keras import ops

from zoo.kernels.contract import Options
from zoo.types import Tensor


def valid_first(sequences: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move the valid steps of each row to its front, in their order; the rest becomes zero.

    A recurrence that skips masked steps gives the same on the result, and there step t of every row is its t-th.

    Args:
        sequences: (batch, steps, channels).
        mask: Bool (batch, steps), true where a step is valid.

    Returns:
        The sequences (batch, steps, channels); their mask (batch, steps), true at the front; and int32
        (batch, steps): at each old step the new place of the latest valid step, -1 before the first.

    Example:
    >>> x = ops.reshape(ops.arange(1.0, 4.0), (1, 3, 1))
    >>> moved, valid, position = valid_first(x, ops.convert_to_tensor([[False, True, True]]))
    >>> [ops.convert_to_numpy(tensor).ravel().tolist() for tensor in (moved, valid, position)]
    [[2.0, 3.0, 0.0], [True, True, False], [-1, 0, 1]]
    """
    steps = ops.arange(ops.shape(mask)[1], dtype="int32")[None]
    # Keys that differ: not every backend's sort keeps the order of equal ones.
    order = ops.argsort(ops.where(mask, steps, steps + ops.shape(mask)[1]), axis=1)
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    valid = steps < count[:, -1:]
    moved = ops.take_along_axis(sequences, ops.cast(order, "int32")[:, :, None], axis=1)
    # where, not a product: what stands in the padding, NaN too, must not reach a sum.
    return ops.where(valid[:, :, None], moved, ops.zeros_like(moved)), valid, count - 1


def restore(outputs: Tensor, position: Tensor) -> Tensor:
    """Put outputs (batch, steps, units) back to where `valid_first` found the steps; zeros before the first.

    Example:
    >>> y = ops.convert_to_tensor([[[5.0], [6.0], [0.0]]])
    >>> ops.convert_to_numpy(restore(y, ops.convert_to_tensor([[-1, 0, 1]], dtype="int32"))).ravel().tolist()
    [0.0, 5.0, 6.0]
    """
    back = ops.take_along_axis(outputs, ops.maximum(position, 0)[:, :, None], axis=1)
    return ops.where((position >= 0)[:, :, None], back, ops.zeros_like(back))


def masked_outputs(hidden: Tensor, mask: Tensor | None, options: Options) -> Tensor:
    """Set outputs to zero before the first valid step or, with `zero_output_for_mask`, at every masked one.

    Args:
        hidden: The hidden state after every step, (t, b, n), or after the last, (b, n), as `options` has it.
        mask: Bool (t, b, 1), true where a step is valid, or `None`.
        options: The options of the call.

    Returns:
        The outputs, of the shape of `hidden`.

    Example:
    >>> mask = ops.reshape(ops.convert_to_tensor([False, True, False]), (3, 1, 1))
    >>> outputs = masked_outputs(ops.ones((3, 1, 1)), mask, Options(Gates(*[None] * 5), return_sequences=True))
    >>> ops.convert_to_numpy(outputs).ravel().tolist()
    [0.0, 1.0, 1.0]
    """
    if mask is None:
        return hidden
    kept = mask if options.zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), axis=0) > 0
    return ops.where(kept if options.return_sequences else kept[-1], hidden, ops.zeros_like(hidden))
