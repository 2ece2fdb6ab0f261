"""`conv_lstm`: an LSTM whose products with input and state are convolutions over the channels."""

import keras
from keras import ops

from zoo import activations
from zoo.layers import LastStep, ZeroPadding
from zoo.models.inputs import SequenceTask, head, sequence_inputs


def conv_lstm(
    task: SequenceTask,
    *,
    filters: int = 16,
    kernel_size: int = 3,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    dropout: float = 0.0,
    head_dropout: float = 0.3,
) -> keras.Model:
    """`keras.layers.ConvLSTM1D` over neighbouring channels, for ordered channels such as mel bands.

    Args:
        task: Channels, classes and input statistics.
        filters: Filters of every gate.
        kernel_size: Number of neighbouring channels in each filter.
        activation: Candidate and hidden activation, elementwise and without learned or random slopes.
        recurrent_activation: Activation of the gates, with the same limits.
        dropout: Share of the inputs to drop.
        head_dropout: Share of the head's inputs to drop.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: A layer refuses its arguments.

    Example:
    >>> model = conv_lstm(SequenceTask(channels=8, classes=2), filters=4)
    >>> model.get_layer("conv_lstm").output.shape
    (None, None, 8, 4)

    References:
        Shi et al. (2015), "Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting",
        https://arxiv.org/abs/1506.04214.
    """
    # === Layers ===
    recurrent = keras.layers.ConvLSTM1D(
        filters,
        kernel_size,
        padding="same",
        activation=activations.get(activation),
        recurrent_activation=activations.get(recurrent_activation),
        dropout=dropout,
        return_sequences=True,
        name="conv_lstm",
    )
    # === Functional model ===
    inputs = sequence_inputs(task)
    x = ZeroPadding(name="zero_padding")(inputs.normalized, inputs.mask)
    # The last valid step is taken by length, because Keras's loop on JAX cannot mask a state of this rank.
    x = keras.layers.Reshape((-1, task.width * filters), name="rows")(recurrent(ops.expand_dims(x, -1)))
    x = LastStep(name="last_step")(x, inputs.lengths)
    return inputs.model(head(x, task, head_dropout), name="conv_lstm")
