"""`cnn_lstm`: one-dimensional convolutions with LeakyReLU in front of an LSTM."""

import keras

from zoo.layers import LSTM, ZeroPadding
from zoo.models.inputs import SequenceTask, head, sequence_inputs


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
        kernel_size: Number of steps in each convolution.
        convolutions: Number of convolutions, one after the other.
        negative_slope: Slope for negative values of the LeakyReLU after each convolution.
        causal: Whether convolutions see no later steps, so that the model can run on a stream.
        units: Width of the LSTM.
        activation: Candidate and hidden activation of the LSTM.
        recurrent_activation: Activation of the gates.
        head_dropout: Share of the head's inputs to drop.
        engine: The engine that runs the recurrence.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes). Padding has no effect: it is zero wherever a convolution could see it.

    Raises:
        ValueError: A layer refuses its arguments.

    Example:
    >>> model = cnn_lstm(SequenceTask(channels=3, classes=2), filters=4, convolutions=1, units=5)
    >>> [layer.name for layer in model.layers if "conv" in layer.name or "lstm" in layer.name]
    ['convolution_1', 'lstm']
    """
    # === Layers ===
    recurrent = LSTM(units, activation, recurrent_activation, engine=engine, name="lstm")
    # === Functional model ===
    inputs = sequence_inputs(task)
    x, padding = inputs.normalized, "causal" if causal else "same"
    for index in range(convolutions):
        # Biases make padded steps non-zero, so they are cleared before every convolution, not only the first.
        x = ZeroPadding(name=f"zero_padding_{index + 1}")(x, inputs.mask)
        x = keras.layers.Conv1D(filters, kernel_size, padding=padding, name=f"convolution_{index + 1}")(x)
        x = keras.layers.LeakyReLU(negative_slope=negative_slope, name=f"leaky_relu_{index + 1}")(x)
    x = recurrent(x, mask=inputs.mask)
    return inputs.model(head(x, task, head_dropout), name="cnn_lstm")
