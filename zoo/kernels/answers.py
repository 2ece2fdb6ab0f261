"""Which output a step has where steps are masked."""

from keras import ops

from zoo.kernels.contract import Options, Tensor


def answered(hidden: Tensor, mask: Tensor | None, options: Options) -> Tensor:
    """`hidden`, but zeros where no output is due: before the first valid step or, if so asked for, at every masked one.

    Args:
        hidden: The hidden state after every step, (t, b, n), or after the last, (b, n), as `options` has it.
        mask: Bool (t, b, 1), true where a step is valid, or `None`.
        options: Of the call.

    Returns:
        The outputs, of the shape of `hidden`.

    Example:
    >>> mask = ops.reshape(ops.convert_to_tensor([False, True, False]), (3, 1, 1))
    >>> outputs = answered(ops.ones((3, 1, 1)), mask, Options((), return_sequences=True))
    >>> ops.convert_to_numpy(outputs).ravel().tolist()
    [0.0, 1.0, 1.0]
    """
    if mask is None:
        return hidden
    due = mask if options.zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), axis=0) > 0
    return ops.where(due if options.return_sequences else due[-1], hidden, ops.zeros_like(hidden))
