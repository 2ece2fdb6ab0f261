"""`gru`: stacked GRU layers, a baseline for the LSTMs."""

import keras

from zoo.checks import positive_integer
from zoo.models.inputs import SequenceTask, check_direction, head, sequence_inputs


def gru(
    task: SequenceTask,
    *,
    units: int = 100,
    layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    head_dropout: float = 0.3,
) -> keras.Model:
    """Stacked `keras.layers.GRU` and a dense head.

    Args:
        task: Channels, classes and input statistics.
        units: Width of each layer, or of each direction.
        layers: Number of layers, one above the other.
        bidirectional: Whether every layer reads forwards and backwards, with concatenated outputs.
        dropout: Share of each layer's inputs to drop.
        head_dropout: Share of the head's inputs to drop.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: `layers` is below 1, or a layer refuses its arguments.

    Example:
    >>> model = gru(SequenceTask(channels=12, classes=9), units=100)
    >>> model.count_params() == 3 * 100 * (12 + 100 + 2) + 100 * 9 + 9  # two biases a gate, as Keras and cuDNN have
    True

    References:
        Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder", https://arxiv.org/abs/1406.1078.
    """
    check_direction(task, bidirectional)
    positive_integer("layers", layers)
    # === Layers ===
    stack = []
    for index in range(layers):
        # Without cuDNN, which refuses some masks and cannot be exported to a CPU.
        layer = keras.layers.GRU(
            units,
            dropout=dropout,
            return_sequences=task.each_step or index < layers - 1,
            stateful=task.stateful,
            use_cudnn=False,
            name=f"gru_{index + 1}",
        )
        stack.append(keras.layers.Bidirectional(layer, name=f"bidirectional_{index + 1}") if bidirectional else layer)
    # === Functional model ===
    inputs = sequence_inputs(task)
    x = inputs.normalized
    for layer in stack:
        x = layer(x, mask=inputs.mask)
    return inputs.model(head(x, task, head_dropout), name="gru")
