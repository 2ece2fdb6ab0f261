"""`lstm_fcn` and `mlstm_fcn`: an LSTM beside the fully convolutional network."""

from typing import Any

import keras

from zoo.checks import positive_integer
from zoo.layers import LSTM, FixedLength, SequenceMask, ZeroPadding
from zoo.models.blocks import fully_convolutional
from zoo.models.inputs import SequenceInputs, SequenceTask, head, sequence_inputs


def lstm_fcn(
    task: SequenceTask,
    *,
    units: int = 8,
    filters: int = 128,
    steps: int | None = None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    branch_dropout: float = 0.8,
    engine: str = "auto",
) -> keras.Model:
    """An LSTM branch with dropout beside a fully convolutional branch, concatenated.

    The published network transposes its input for the LSTM ("dimension shuffle"): each channel is one LSTM step, whose
    values are the whole series of that channel. With `steps` the model does that, on sequences padded or cropped to
    this number of steps. Without it the LSTM reads the sequence in time, and the model takes any length.

    Args:
        task: Channels, classes and input statistics.
        units: Width of the LSTM.
        filters: Filters of the first and third convolution block; the second has twice as many.
        steps: Length of the time axis for the dimension shuffle, or `None` to read in time.
        activation: Candidate and hidden activation of the LSTM.
        recurrent_activation: Activation of the gates.
        branch_dropout: Share of the LSTM branch's output to drop; 0.8 as published.
        engine: The engine that runs the recurrence.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: A layer refuses its arguments.

    Example:
    >>> model = lstm_fcn(SequenceTask(channels=1, classes=2), steps=150)
    >>> model.get_layer("lstm").cell.kernel.shape  # a step is a whole channel of 150 values
    TensorShape([150, 32])

    References:
        Karim, Majumdar, Darabi and Chen (2018), "LSTM Fully Convolutional Networks for Time Series Classification",
        https://doi.org/10.1109/ACCESS.2017.2779939.
    """
    recurrent = LSTM(units, activation, recurrent_activation, engine=engine, name="lstm")
    return _two_branches(task, "lstm_fcn", recurrent, filters, None, steps, branch_dropout)


def mlstm_fcn(
    task: SequenceTask,
    *,
    units: int = 8,
    filters: int = 128,
    squeeze_ratio: int = 16,
    steps: int | None = None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    branch_dropout: float = 0.8,
    engine: str = "auto",
) -> keras.Model:
    """`lstm_fcn` with squeeze-and-excite gates after the first two convolution blocks, for many channels.

    Args:
        task: Channels, classes and input statistics.
        units: Width of the LSTM.
        filters: Filters of the first and third convolution block; the second has twice as many.
        squeeze_ratio: Factor by which the squeezed layer is narrower; 16 as published.
        steps: Length of the time axis for the dimension shuffle, or `None` to read in time.
        activation: Candidate and hidden activation of the LSTM.
        recurrent_activation: Activation of the gates.
        branch_dropout: Share of the LSTM branch's output dropped; 0.8 as published.
        engine: The engine that runs the recurrence.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: A layer refuses its arguments.

    Example:
    >>> model = mlstm_fcn(SequenceTask(channels=12, classes=9))
    >>> model.get_layer("squeeze_excite_2_reduce").kernel.shape
    TensorShape([256, 16])

    References:
        Karim, Majumdar, Darabi and Harford (2019), "Multivariate LSTM-FCNs for time series classification",
        https://doi.org/10.1016/j.neunet.2019.04.014.
    """
    recurrent = LSTM(units, activation, recurrent_activation, engine=engine, name="lstm")
    squeeze_ratio = positive_integer("squeeze_ratio", squeeze_ratio)
    return _two_branches(task, "mlstm_fcn", recurrent, filters, squeeze_ratio, steps, branch_dropout)


def _two_branches(
    task: SequenceTask,
    name: str,
    recurrent: LSTM,
    filters: int,
    squeeze_ratio: int | None,
    steps: int | None,
    branch_dropout: float,
) -> keras.Model:
    inputs = sequence_inputs(task)
    x, mask, side = _time_axis(inputs, steps)
    branch = recurrent(x, mask=mask) if side is None else recurrent(side)
    branch = keras.layers.Dropout(branch_dropout, name="branch_dropout")(branch)
    convolved = fully_convolutional(x, mask, (filters, 2 * filters, filters), squeeze_ratio)
    both = keras.layers.Concatenate(name="both")([branch, convolved])
    return inputs.model(head(both, task), name=name)


def _time_axis(inputs: SequenceInputs, steps: int | None) -> tuple[Any, Any, Any]:
    """The input of the convolutions, its mask, and the transposed input if the time axis is fixed."""
    if steps is None:
        return inputs.normalized, inputs.mask, None
    padded = ZeroPadding(name="zero_padding")(inputs.normalized, inputs.mask)
    x = FixedLength(steps, name="fixed_length")(padded)
    return x, SequenceMask(name="fixed_mask")(x, inputs.lengths), keras.layers.Permute((2, 1), name="shuffle")(x)
