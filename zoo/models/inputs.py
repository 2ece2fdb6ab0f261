"""The task of a model, and the first and last layers that all models share."""

from dataclasses import dataclass
from typing import Literal, get_args

import keras

from zoo.layers import SequenceMask
from zoo.types import Tensor

Kind = Literal["classification", "labelling", "regression", "forecasting", "language_model"]


@dataclass(frozen=True)
class SequenceTask:
    """The inputs and outputs of a model.

    Args:
        channels: Number of values for each step; not used if steps are tokens.
        classes: Number of classes, for classification and labelling.
        mean: Mean of each channel over the training steps, or `None` for no normalisation.
        variance: Variance of each channel, together with `mean`.
        kind: "classification": logits (batch, classes). "labelling": logits (batch, steps, classes). "regression":
            (batch, outputs). "forecasting": (batch, horizon, outputs). "language_model": logits
            (batch, steps, vocabulary) of the next token.
        outputs: Number of predicted numbers, for regression and forecasting.
        horizon: Number of steps to forecast.
        output_mean: Mean of each output over the training targets, or `None`. With it, the head computes standardised
            values, and the last layer converts them to the units of the data.
        output_variance: Variance of each output, together with `output_mean`.
        vocabulary: Number of tokens, if steps are tokens: then `features` is int32 (batch, steps), and the first layer
            an embedding.
        embedding: Width of that embedding.
        stateful_batch: Number of sequences in every batch, if each batch continues the one before it; `None` if every
            sequence starts anew.

    Raises:
        ValueError: A count is not positive, the statistics do not fit, or a kind is unknown.

    Example:
    >>> SequenceTask(channels=3, kind="regression", outputs=2).width
    3
    """

    channels: int
    classes: int = 0
    mean: tuple[float, ...] | None = None
    variance: tuple[float, ...] | None = None
    kind: Kind = "classification"
    outputs: int = 0
    horizon: int = 1
    output_mean: tuple[float, ...] | None = None
    output_variance: tuple[float, ...] | None = None
    vocabulary: int | None = None
    embedding: int = 64
    stateful_batch: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"`kind` must be one of {', '.join(get_args(Kind))}; received {self.kind!r}")
        if self.channels < 1 or self.horizon < 1 or self.embedding < 1:
            raise ValueError(
                "a task needs at least 1 channel, horizon and width of the embedding; received "
                f"{self.channels}, {self.horizon} and {self.embedding}"
            )
        if self.kind in ("classification", "labelling") and self.classes < 2:
            raise ValueError(f"a {self.kind} needs at least 2 classes; received {self.classes}")
        if self.kind in ("regression", "forecasting") and self.outputs < 1:
            raise ValueError(f"a {self.kind} needs at least 1 output; received {self.outputs}")
        if self.kind == "language_model" and self.vocabulary is None:
            raise ValueError("a language_model needs a `vocabulary`; received None")
        for mean, variance, width in (
            ("mean", "variance", self.channels),
            ("output_mean", "output_variance", self.outputs),
        ):
            for name in (mean, variance):
                values = getattr(self, name)
                if (values is None) != (getattr(self, mean) is None) or (values is not None and len(values) != width):
                    raise ValueError(f"`{name}` must have {width} values, as its counterpart; received {values!r}")

    @property
    def width(self) -> int:
        """Number of values for each step in the body of a model."""
        return self.channels if self.vocabulary is None else self.embedding

    @property
    def each_step(self) -> bool:
        """Whether there is an answer for every step, not one for a sequence."""
        return self.kind in ("labelling", "language_model")

    @property
    def stateful(self) -> bool:
        """Whether recurrent layers keep their states from batch to batch."""
        return self.stateful_batch is not None


@dataclass(frozen=True)
class SequenceInputs:
    """The symbolic inputs of a model: raw `features` and their `lengths`, and the mask and inputs of its body."""

    features: Tensor
    lengths: Tensor
    mask: Tensor
    normalized: Tensor

    def model(self, outputs: Tensor, name: str) -> keras.Model:
        """The model from these inputs to `outputs`."""
        return keras.Model({"features": self.features, "lengths": self.lengths}, outputs, name=name)


def sequence_inputs(task: SequenceTask) -> SequenceInputs:
    """Make the inputs, with mask and normalisation or embedding.

    `features` is (batch, steps, channels), or int32 (batch, steps) for tokens; `lengths` is (batch,). The statistics
    are part of the model, which therefore takes raw values.
    """
    text = task.vocabulary is not None
    features = keras.Input(
        (None,) if text else (None, task.channels),
        batch_size=task.stateful_batch,
        dtype="int32" if text else "float32",
        name="features",
    )
    lengths = keras.Input((), batch_size=task.stateful_batch, dtype="int32", name="lengths")
    mask = SequenceMask(name="mask")(features, lengths)
    normalized = features
    if text:
        normalized = keras.layers.Embedding(task.vocabulary, task.embedding, name="embedding")(features)
    elif task.mean is not None:
        # Always in float32, because raw values may be large and far from 0.
        normalize = keras.layers.Normalization(
            mean=task.mean, variance=task.variance, dtype="float32", name="normalize"
        )
        normalized = normalize(features)
    return SequenceInputs(features, lengths, mask, normalized)


def check_direction(task: SequenceTask, bidirectional: bool) -> None:
    """Raise `ValueError` for a language model that reads backwards, and so sees the token to predict."""
    if bidirectional and (task.kind == "language_model" or task.stateful):
        raise ValueError(
            "`bidirectional` must be False for a language model, which would see the token to predict; received True"
        )


def head(x: Tensor, task: SequenceTask, dropout: float = 0.0) -> Tensor:
    """Add the last layers, in float32, for the output of the task.

    Args:
        x: The output of the body, (batch, width), or (batch, steps, width) for an answer at every step.
        task: The task.
        dropout: Share of `x` to drop.

    Raises:
        ValueError: The task needs an answer for every step, and `x` has one for a sequence.
    """
    if task.each_step and len(x.shape) != 3:
        raise ValueError(
            f"this model has one answer for a sequence, and a {task.kind} needs one for every step: choose lstm, gru, "
            "irnn or tcn"
        )
    if dropout:
        x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    if task.kind in ("classification", "labelling"):
        return keras.layers.Dense(task.classes, dtype="float32", name="logits")(x)
    if task.kind == "language_model":
        return keras.layers.Dense(task.vocabulary, dtype="float32", name="logits")(x)
    x = keras.layers.Dense(task.horizon * task.outputs, dtype="float32", name="standardized")(x)
    if task.kind == "forecasting":
        x = keras.layers.Reshape((task.horizon, task.outputs), dtype="float32", name="horizon")(x)
    if task.output_mean is None:
        return x
    return keras.layers.Normalization(
        mean=task.output_mean, variance=task.output_variance, invert=True, dtype="float32", name="predictions"
    )(x)
