"""`fcn`: three convolutions and a mean over time; no recurrence at all."""

import keras

from zoo.models.blocks import fully_convolutional
from zoo.models.inputs import SequenceTask, head, sequence_inputs


def fcn(task: SequenceTask, *, filters: int = 128, head_dropout: float = 0.0) -> keras.Model:
    """The fully convolutional network, a baseline that any recurrent model should beat before it is chosen.

    Args:
        task: Channels, classes and input statistics.
        filters: Filters of the first and third block; the second has twice as many.
        head_dropout: Share of the head's inputs to drop.

    Returns:
        A functional model from `{"features": (batch, steps, channels), "lengths": (batch,)}` to logits
        (batch, classes).

    Raises:
        ValueError: A layer refuses its arguments.

    Example:
    >>> model = fcn(SequenceTask(channels=1, classes=2))
    >>> sum(int(w.shape.num_elements()) for w in model.trainable_weights)  # the published layers
    264962

    References:
        Wang, Yan and Oates (2017), "Time series classification from scratch with deep neural networks",
        https://doi.org/10.1109/IJCNN.2017.7966039.
    """
    inputs = sequence_inputs(task)
    x = fully_convolutional(inputs.normalized, inputs.mask, (filters, 2 * filters, filters), squeeze_ratio=None)
    return inputs.model(head(x, task, head_dropout), name="fcn")
