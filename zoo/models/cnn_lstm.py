"""`cnn_lstm`: one-dimensional convolutions with LeakyReLU in front of an LSTM."""

from typing import Any

import keras

from zoo.layers import LSTM, ZeroPadding
from zoo.models.inputs import SequenceTask, head, sequence_inputs


def convolution_front(
    x: Any, mask: Any, *, filters: int, kernel_size: int, convolutions: int, negative_slope: float, causal: bool
) -> Any:
    """Convolutions over time that never see padding: (batch, steps, channels) to (batch, steps, filters)."""
    for index in range(convolutions):
        # Biases make padded steps non-zero, so they are cleared before every convolution, not only the first.
        x = ZeroPadding(name=f"zero_padding_{index + 1}")(x, mask)
        x = keras.layers.Conv1D(
            filters, kernel_size, padding="causal" if causal else "same", name=f"convolution_{index + 1}"
        )(x)
        x = keras.layers.LeakyReLU(negative_slope=negative_slope, name=f"leaky_relu_{index + 1}")(x)
    return x


def cnn_lstm(
    task: SequenceTask,
    *,
    filters: int = 64,
    kernel_size: int = 5,
    convolutions: int = 2,
    negative_slope: float = 0.33,
    causal: bool = False,
    units: int = 100,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    head_dropout: float = 0.3,
    engine: str = "auto",
) -> keras.Model:
    """Convolutions over neighbouring steps, then an LSTM over their features.

    Args:
        task: Channels, classes and input statistics.
        filters: Filters of each convolution.
        kernel_size: Steps that each convolution sees.
        convolutions: How many, one after the other.
        negative_slope: Slope of the LeakyReLU after each convolution, for negative values.
        causal: Convolutions see no later step, so that the model can run on a stream.
        units: Width of the LSTM.
        activation: Candidate and hidden activation of the LSTM.
        recurrent_activation: Activation of its gates.
        head_dropout: Share of the head's inputs dropped.
        engine: Which code runs the recurrence.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes). Padding changes nothing: it is zero wherever a convolution could see it.

    Raises:
        ValueError: A layer refuses its arguments.

    Example:
    >>> model = cnn_lstm(SequenceTask(channels=3, classes=2), filters=4, convolutions=1, units=5)
    >>> [layer.name for layer in model.layers if "conv" in layer.name or "lstm" in layer.name]
    ['convolution_1', 'lstm']
    """
    # === Layers ===
    recurrent = LSTM(
        units, activation=activation, recurrent_activation=recurrent_activation, engine=engine, name="lstm"
    )
    # === Functional model ===
    inputs = sequence_inputs(task)
    x = convolution_front(
        inputs.normalized,
        inputs.mask,
        filters=filters,
        kernel_size=kernel_size,
        convolutions=convolutions,
        negative_slope=negative_slope,
        causal=causal,
    )
    x = recurrent(x, mask=inputs.mask)
    return inputs.model(head(x, task, head_dropout), name="cnn_lstm")
