"""`cnn_lstm_parallel`: a two-dimensional convolutional branch beside an LSTM branch."""

import keras
from keras import ops

from zoo.layers import LSTM, FixedLength, SequenceMask, ZeroPadding
from zoo.models.inputs import SequenceTask, head, sequence_inputs


def cnn_lstm_parallel(
    task: SequenceTask,
    *,
    steps: int = 40,
    filters: int = 32,
    blocks: int = 2,
    kernel_size: int = 3,
    negative_slope: float = 0.33,
    convolution_dropout: float = 0.25,
    units: int = 64,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    dense_units: int = 64,
    head_dropout: float = 0.5,
    engine: str = "auto",
) -> keras.Model:
    """One branch reads the sequence as an image, the other as a sequence; both feed a dense head.

    The classifier of 6 emotions from 40 time steps of 80 mel bands has this shape. The time axis is fixed: sequences
    are padded with zeros or cropped at the end to `steps`.

    Args:
        task: Channels, classes and input statistics.
        steps: Length of the time axis.
        filters: Filters of the first block; each further block has twice as many.
        blocks: Number of blocks of convolution, LeakyReLU, 2 x 2 max-pooling and dropout.
        kernel_size: Height and width of each convolution.
        negative_slope: Slope of the LeakyReLU for negative values.
        convolution_dropout: Share to drop after each block.
        units: Width of the LSTM branch.
        activation: Candidate and hidden activation of the LSTM.
        recurrent_activation: Activation of the gates.
        dense_units: Width of the dense layer over both branches.
        head_dropout: Share of the head's inputs to drop.
        engine: The engine that runs the recurrence.

    Returns:
        A functional model from `{"features": (batch, any, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: A layer refuses its arguments.

    Example:
    >>> model = cnn_lstm_parallel(SequenceTask(channels=80, classes=6))
    >>> model.get_layer("both").output.shape  # 10 x 20 x 64 from the image, 64 from the LSTM
    (None, 12864)
    """
    # === Layers ===
    fixed = FixedLength(steps, name="fixed_length")
    recurrent = LSTM(units, activation, recurrent_activation, engine=engine, name="lstm")
    # === Functional model ===
    inputs = sequence_inputs(task)
    x = fixed(ZeroPadding(name="zero_padding")(inputs.normalized, inputs.mask))
    mask = SequenceMask(name="fixed_mask")(x, inputs.lengths)

    image = ops.expand_dims(x, -1)
    for index in range(blocks):
        image = keras.layers.Conv2D(filters * 2**index, kernel_size, padding="same", name=f"convolution_{index + 1}")(
            image
        )
        image = keras.layers.LeakyReLU(negative_slope=negative_slope, name=f"leaky_relu_{index + 1}")(image)
        image = keras.layers.MaxPooling2D(2, padding="same", name=f"pool_{index + 1}")(image)
        image = keras.layers.Dropout(convolution_dropout, name=f"dropout_{index + 1}")(image)
    image = keras.layers.Flatten(name="flatten")(image)

    both = keras.layers.Concatenate(name="both")([image, recurrent(x, mask=mask)])
    both = keras.layers.Dense(dense_units, name="dense")(both)
    both = keras.layers.LeakyReLU(negative_slope=negative_slope, name="leaky_relu_dense")(both)
    return inputs.model(head(both, task, head_dropout), name="cnn_lstm_parallel")
