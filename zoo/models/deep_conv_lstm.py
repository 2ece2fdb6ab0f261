"""`deep_conv_lstm`: convolutions over each sensor channel by itself, then two LSTM layers over all of them."""

import keras

from zoo.layers import LSTM, ZeroPadding
from zoo.models.inputs import SequenceTask, head, sequence_inputs


def deep_conv_lstm(
    task: SequenceTask,
    *,
    filters: int = 64,
    kernel_size: int = 5,
    convolutions: int = 4,
    units: int = 128,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    dropout: float = 0.5,
    engine: str = "auto",
) -> keras.Model:
    """The network for wearable sensors: every channel convolved over time with shared filters, then two LSTMs.

    The paper's convolutions are unpadded and lose 16 of 24 steps; here they keep the length, so that the model takes
    short sequences too. Weights have the published shapes.

    Args:
        task: Channels, classes and input statistics.
        filters: Filters of each convolution.
        kernel_size: Number of steps, of one channel, in each convolution.
        convolutions: Number of convolutions, one after the other.
        units: Width of both LSTM layers.
        activation: Candidate and hidden activation of the LSTM layers.
        recurrent_activation: Activation of the gates.
        dropout: Share to drop of the inputs of the LSTM layers and of the head.
        engine: The engine that runs the recurrence.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: A layer refuses its arguments.

    Example:
    >>> model = deep_conv_lstm(SequenceTask(channels=113, classes=18))
    >>> [model.get_layer(f"convolution_{i}").count_params() for i in (1, 2)]  # 5 * 64 + 64, 5 * 64 * 64 + 64
    [384, 20544]
    >>> model.get_layer("lstm_1").cell.kernel.shape[0] == 113 * 64
    True

    References:
        Ordóñez and Roggen (2016), "Deep Convolutional and LSTM Recurrent Neural Networks for Multimodal Wearable
        Activity Recognition", https://doi.org/10.3390/s16010115.
    """
    # === Layers ===
    recurrent = [
        LSTM(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            dropout=dropout,
            return_sequences=index == 1,
            engine=engine,
            name=f"lstm_{index}",
        )
        for index in (1, 2)
    ]
    # === Functional model ===
    inputs = sequence_inputs(task)
    x = inputs.normalized
    for index in range(convolutions):
        x = ZeroPadding(name=f"zero_padding_{index + 1}")(x, inputs.mask)
        width = 1 if index == 0 else filters
        image = keras.layers.Reshape((-1, task.width, width), name=f"image_{index + 1}")(x)
        image = keras.layers.Conv2D(
            filters, (kernel_size, 1), padding="same", activation="relu", name=f"convolution_{index + 1}"
        )(image)
        x = keras.layers.Reshape((-1, task.width * filters), name=f"rows_{index + 1}")(image)
    for layer in recurrent:
        x = layer(x, mask=inputs.mask)
    return inputs.model(head(x, task, dropout), name="deep_conv_lstm")
