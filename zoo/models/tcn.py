"""`tcn`: dilated causal convolutions with residuals; a baseline without recurrence."""

from typing import Any

import keras

from zoo.checks import positive_integer
from zoo.layers import LastStep, ZeroPadding
from zoo.models.inputs import SequenceTask, head, sequence_inputs


def tcn(
    task: SequenceTask,
    *,
    filters: int = 32,
    kernel_size: int = 3,
    levels: int = 4,
    dropout: float = 0.1,
    head_dropout: float = 0.0,
) -> keras.Model:
    """The temporal convolutional network: the last valid step of `levels` residual blocks.

        block_i(x) = relu(x' + f(f(x))),  f = dropout(relu(causal convolution with dilation 2^i)),  x' = x or a 1 x 1
        convolution of it where the widths differ

    Its receptive field is 1 + 2 * (kernel_size - 1) * (2^levels - 1) steps. Without the paper's weight normalisation,
    which changes the training but not the functions.

    Args:
        task: Channels, classes and input statistics.
        filters: Filters of each convolution.
        kernel_size: Number of steps in each convolution.
        levels: Number of blocks; the dilation doubles with each.
        dropout: Share of whole filters to drop after each convolution.
        head_dropout: Share of the head's inputs to drop.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: `levels` is below 1, or a layer refuses its arguments.

    Example:
    >>> model = tcn(SequenceTask(channels=3, classes=2), filters=4, levels=2)
    >>> [model.get_layer(f"level_{i}_convolution_1").dilation_rate for i in (1, 2)]
    [(1,), (2,)]

    References:
        Bai, Kolter and Koltun (2018), "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
        Sequence Modeling", https://arxiv.org/abs/1803.01271.
    """
    positive_integer("levels", levels)
    inputs = sequence_inputs(task)
    x = ZeroPadding(name="zero_padding")(inputs.normalized, inputs.mask)
    for index in range(levels):
        x = _block(x, filters, kernel_size, 2**index, dropout, f"level_{index + 1}")
    # Causal convolutions never see padding on the right, so the last valid step needs no further masking.
    if not task.each_step:
        x = LastStep(name="last_step")(x, inputs.lengths)
    return inputs.model(head(x, task, head_dropout), name="tcn")


def _block(x: Any, filters: int, kernel_size: int, dilation: int, dropout: float, name: str) -> Any:
    residual = x
    for half in (1, 2):
        x = keras.layers.Conv1D(
            filters,
            kernel_size,
            padding="causal",
            dilation_rate=dilation,
            kernel_initializer="he_normal",
            name=f"{name}_convolution_{half}",
        )(x)
        x = keras.layers.ReLU(name=f"{name}_relu_{half}")(x)
        x = keras.layers.SpatialDropout1D(dropout, name=f"{name}_dropout_{half}")(x)
    if residual.shape[-1] != filters:
        residual = keras.layers.Conv1D(filters, 1, name=f"{name}_residual")(residual)
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([x, residual]))
