"""What a model is built for, and the first and last layers that every model shares."""

from dataclasses import dataclass
from typing import Any

import keras

from zoo.layers import SequenceMask

Tensor = Any


@dataclass(frozen=True)
class SequenceTask:
    """A classification of sequences: what goes in, what comes out.

    Args:
        channels: Values a step.
        classes: Number of classes.
        mean: Mean of each channel over the training steps, or `None` to leave inputs as they are.
        variance: Variance of each channel, given with `mean`.

    Raises:
        ValueError: A count is not positive, or the statistics do not fit the channels.
    """

    channels: int
    classes: int
    mean: tuple[float, ...] | None = None
    variance: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.channels < 1 or self.classes < 2:
            raise ValueError(
                f"a task needs at least 1 channel and 2 classes; received {self.channels} and {self.classes}"
            )
        for name in ("mean", "variance"):
            values = getattr(self, name)
            if (values is None) != (self.mean is None) or (values is not None and len(values) != self.channels):
                raise ValueError(f"`{name}` must have {self.channels} values, one a channel; received {values!r}")


@dataclass(frozen=True)
class SequenceInputs:
    """The symbolic inputs of a model: raw `features`, their `lengths`, and what the body works on."""

    features: Tensor
    lengths: Tensor
    mask: Tensor
    normalized: Tensor

    def model(self, outputs: Tensor, name: str) -> keras.Model:
        """Close the model over these inputs."""
        return keras.Model({"features": self.features, "lengths": self.lengths}, outputs, name=name)


def sequence_inputs(task: SequenceTask) -> SequenceInputs:
    """Inputs `features` (batch, steps, channels) and `lengths` (batch,), mask and normalisation.

    The statistics live in the model, so that whoever loads it sends raw values.
    """
    features = keras.Input((None, task.channels), dtype="float32", name="features")
    lengths = keras.Input((), dtype="int32", name="lengths")
    mask = SequenceMask(name="mask")(features, lengths)
    normalized = features
    if task.mean is not None:
        normalize = keras.layers.Normalization(mean=task.mean, variance=task.variance, name="normalize")
        normalized = normalize(features)
    return SequenceInputs(features, lengths, mask, normalized)


def classification_head(x: Tensor, task: SequenceTask, dropout: float = 0.0) -> Tensor:
    """From (batch, features) to `logits` (batch, classes), in float32 whatever the precision of the body."""
    if dropout:
        x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    return keras.layers.Dense(task.classes, dtype="float32", name="logits")(x)
