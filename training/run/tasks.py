"""What each kind of task means for training: the model's task, the loss, the metrics, the score of a model."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.batches.batches import channel_statistics, target_statistics
from training.datasets import Examples, Spec
from training.datasets.base import NUMBERS
from zoo.losses import SmoothedCrossentropy, StandardizedMeanSquaredError
from zoo.models import SequenceTask

_KEPT = 512  # predictions kept for a picture


@dataclass(frozen=True)
class Scores:
    """How well a model does on one set of examples.

    Attributes:
        loss: Mean cross-entropy in nats, over sequences or, where every step has an answer, over steps; of numbers the
            mean squared error in units of the training targets' variance.
        metrics: "accuracy"; or, of numbers, "mean_absolute_error" and "root_mean_squared_error" in the data's units.
        confusion: Counts (classes, classes): row the truth, column the answer. Classification and labelling only.
        truth: Of numbers: the targets of the first examples, (at most 512, ...).
        predictions: What the model said of them.
    """

    loss: float
    metrics: Mapping[str, float]
    confusion: NDArray[np.int64] | None = field(default=None, repr=False)
    truth: NDArray[np.float32] | None = field(default=None, repr=False)
    predictions: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def accuracy(self) -> float:
        """Share of right answers; NaN of numbers."""
        return self.metrics.get("accuracy", math.nan)

    @property
    def figures(self) -> dict[str, float]:
        """The loss and all metrics, by name."""
        return {"loss": self.loss, **self.metrics}


def model_task(spec: Spec, train: Examples | None = None, embedding: int = 64) -> SequenceTask:
    """What a model for this dataset is built for.

    Args:
        spec: Of the dataset.
        train: The training part, for its statistics and vocabulary. Without it the task has none and a vocabulary of
            3: enough to see whether a model takes its arguments.
        embedding: Width of the embedding of tokens.
    """
    statistics: dict[str, Any] = {}
    vocabulary = 3 if spec.text else None
    if train is not None and train.vocabulary is not None:
        vocabulary = len(train.vocabulary)
    elif train is not None:
        mean, variance = channel_statistics(train)
        statistics = {"mean": tuple(mean.tolist()), "variance": tuple(variance.tolist())}
    if train is not None and spec.task in NUMBERS:
        mean, variance = target_statistics(train)
        statistics |= {"output_mean": tuple(mean.tolist()), "output_variance": tuple(variance.tolist())}
    return SequenceTask(
        channels=spec.channels,
        classes=len(spec.classes),
        kind=spec.task,
        outputs=len(spec.outputs),
        horizon=spec.horizon,
        vocabulary=vocabulary,
        embedding=embedding,
        **statistics,
    )


def compile_arguments(task: SequenceTask, label_smoothing: float = 0.0) -> dict[str, Any]:
    """Loss and metrics for `compile`.

    Args:
        task: What the model answers.
        label_smoothing: Share of every label that is spread over all classes, in the loss.
    """
    if task.kind in NUMBERS:
        loss = StandardizedMeanSquaredError(task.output_variance or (1.0,) * task.outputs)
        return {"loss": loss, "metrics": [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]}
    # Divided by the sum of the weights, not by the number of steps, of which padding would count as right answers.
    reduction = "mean_with_sample_weight"
    loss = (
        SmoothedCrossentropy(label_smoothing, reduction=reduction)
        if label_smoothing
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    )
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    return {"loss": loss, "weighted_metrics" if task.kind == "labelling" else "metrics": [accuracy]}


def guessing(task: SequenceTask) -> float:
    """The loss of a model that knows nothing but how often each class occurs, or the mean."""
    if task.kind in NUMBERS:
        return 1.0
    return math.log(task.vocabulary if task.kind == "language_model" and task.vocabulary else task.classes)


def score(task: SequenceTask, answers: Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]]) -> Scores:
    """Score a model, batch by batch.

    Args:
        task: What the model was built for.
        answers: Of each batch what the model gave, the targets, and weights 0 or 1 of the targets or None.
    """
    return _score_numbers(task, answers) if task.kind in NUMBERS else _score_classes(task, answers)


def _score_classes(task: SequenceTask, answers: Iterator[Any]) -> Scores:
    total, right, count = 0.0, 0, 0
    confusion = np.zeros((task.classes,) * 2, np.int64) if task.kind != "language_model" else None
    for logits, labels, weights in answers:
        chosen = slice(None) if weights is None else weights > 0
        logits, labels = logits[chosen].astype("float64"), labels[chosen]
        logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
        # log softmax, shifted so that exp cannot overflow
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        said = logits.argmax(axis=1)
        total -= log_probabilities[np.arange(len(labels)), labels].sum()
        right, count = right + int((said == labels).sum()), count + len(labels)
        if confusion is not None:
            np.add.at(confusion, (labels, said), 1)
    return Scores(total / count, {"accuracy": right / count}, confusion)


def _score_numbers(task: SequenceTask, answers: Iterator[Any]) -> Scores:
    variance = np.array(task.output_variance or (1.0,) * task.outputs)
    squared, absolute, standardized, count = 0.0, 0.0, 0.0, 0
    kept: list[tuple[Any, Any]] = []
    for predictions, targets, _ in answers:
        difference = predictions.astype("float64") - targets
        squared += np.square(difference).sum()
        absolute += np.abs(difference).sum()
        standardized += (np.square(difference) / variance).sum()
        count += difference.size
        if sum(len(part) for part, _ in kept) < _KEPT:
            kept.append((targets, predictions))
    truth, said = (np.concatenate(parts)[:_KEPT] for parts in zip(*kept, strict=True))
    metrics = {"mean_absolute_error": absolute / count, "root_mean_squared_error": math.sqrt(squared / count)}
    return Scores(standardized / count, metrics, truth=truth, predictions=said)
