"""The interface of the kinds of tasks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.batches import augmentation
from training.batches.batches import Batches
from training.batches.statistics import class_weights
from training.batches.windows import Windows
from training.config import Config
from training.datasets import Examples, Spec
from training.run.metrics import Metric
from zoo.models import SequenceTask

# For each batch the outputs of the model, the targets, and weights 0 or 1 of the targets, or None.
Answers = Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]]

# Examples on which the gates are watched while a run trains.
_PROBE_ROWS = 16


@dataclass(frozen=True)
class Scores:
    """How well a model does on one set of examples.

    Attributes:
        loss: Mean cross-entropy in nats, over sequences or, where every step has an answer, over steps; of numbers the
            mean squared error in units of the training targets' variance.
        metrics: By name, such as "accuracy"; or, of numbers, "mean_absolute_error" and "root_mean_squared_error" in the
            data's units.
        confusion: Counts (classes, classes): row the truth, column the answer. Classification and labelling only.
        truth: Of numbers: the targets of the first examples, (at most 512, ...).
        predictions: The model's predictions for them.
    """

    loss: float
    metrics: Mapping[str, float]
    confusion: NDArray[Any] | None = field(default=None, repr=False)
    truth: NDArray[Any] | None = field(default=None, repr=False)
    predictions: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def accuracy(self) -> float:
        """Share of right answers; NaN where the task predicts numbers."""
        return self.metrics.get("accuracy", math.nan)

    @property
    def figures(self) -> dict[str, float]:
        """The loss and all metrics, by name."""
        return {"loss": self.loss, **self.metrics}


class TaskKind(ABC):
    """One kind of task: its metric, loss, batches, scores and pictures.

    Attributes:
        metric: The metric by which its runs are judged.
        keeps_states: Whether a model is trained with states that continue from batch to batch.
        guesses_from_data: Whether the loss of guessing is known only once the data has been read.
    """

    metric: Metric
    keeps_states = False
    guesses_from_data = False

    def statistics(self, train: Examples) -> dict[str, Any]:
        """Statistics of the training targets that the model's task needs."""
        return {}

    @abstractmethod
    def compile_arguments(self, task: SequenceTask, label_smoothing: float) -> dict[str, Any]:
        """Loss and metrics for `compile`."""

    @abstractmethod
    def guessing(self, task: SequenceTask) -> float:
        """The loss of a model that ignores its inputs."""

    @abstractmethod
    def score(self, task: SequenceTask, answers: Answers) -> Scores:
        """Score a model, batch by batch."""

    def trained_as(self, task: SequenceTask, batch_size: int) -> SequenceTask:
        """The task that the model is built for while it trains."""
        return task

    def training_batches(
        self, config: Config, task: SequenceTask, examples: Examples, longest: int | None
    ) -> Batches | Windows:
        """The batches that the model is trained on.

        Args:
            config: The run.
            task: What the model answers.
            examples: The training part.
            longest: Where sequences are cropped, or `None`.
        """
        section = config.dataset
        return Batches(
            examples,
            section.batch_size,
            section.buckets,
            seed=config.seed,
            max_length=longest,
            class_weights=class_weights(examples, task.classes) if section.class_weights else None,
            augment=augmentation.chain(section.augment, examples) if section.augment else None,
        )

    def batches_in_order(self, config: Config, examples: Examples, longest: int | None) -> Batches | Windows:
        """The batches that a model is scored on: every example once, in order."""
        section = config.dataset
        return Batches(examples, section.batch_size, section.buckets, seed=0, shuffle=False, max_length=longest)

    def probe(self, config: Config, examples: Examples, longest: int | None) -> Any:
        """One small batch on which diagnostics watch a model while it trains."""
        rows = np.unique(np.linspace(0, len(examples) - 1, _PROBE_ROWS).astype(int))
        return Batches(examples.subset(rows), _PROBE_ROWS, buckets=1, shuffle=False, max_length=longest)[0]

    def sequences_per_epoch(self, examples: Examples, batches: Batches | Windows, batch_size: int) -> int:
        """How many sequences go through the model in an epoch."""
        return len(examples)

    def pictures(self, scores: Scores, spec: Spec) -> dict[str, Any]:
        """Figures of the scores on the test split, by the names of their files."""
        return {}

    def write_more(self, folder: Path, model: keras.Model, vocabulary: tuple[str, ...]) -> None:
        """Write further files about a trained model to `folder`; most kinds have none."""
        return
