"""Tasks whose answer is a number: of each sequence, or of each step after it."""

import math
from typing import Any

import keras
import numpy as np

from training.batches.statistics import target_statistics
from training.datasets import Examples, Spec
from training.run.metrics import MEAN_ABSOLUTE_ERROR, ROOT_MEAN_SQUARED_ERROR
from training.run.tasks.base import Answers, Scores, TaskKind
from zoo.losses import StandardizedMeanSquaredError
from zoo.models import SequenceTask

# Predictions that are kept for a picture.
_KEPT = 512


class Regression(TaskKind):
    """Numbers for each sequence."""

    metric = MEAN_ABSOLUTE_ERROR

    def statistics(self, train: Examples) -> dict[str, Any]:
        mean, variance = target_statistics(train)
        return {"output_mean": tuple(mean.tolist()), "output_variance": tuple(variance.tolist())}

    def compile_arguments(self, task: SequenceTask, label_smoothing: float) -> dict[str, Any]:
        loss = StandardizedMeanSquaredError(task.output_variance or (1.0,) * task.outputs)
        return {"loss": loss, "metrics": [keras.metrics.MeanAbsoluteError(name=self.metric.name)]}

    def guessing(self, task: SequenceTask) -> float:
        return 1.0

    def score(self, task: SequenceTask, answers: Answers) -> Scores:
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
        truth, predicted = (np.concatenate(parts)[:_KEPT] for parts in zip(*kept, strict=True))
        metrics = {
            MEAN_ABSOLUTE_ERROR.name: absolute / count,
            ROOT_MEAN_SQUARED_ERROR.name: math.sqrt(squared / count),
        }
        return Scores(standardized / count, metrics, truth=truth, predictions=predicted)

    def pictures(self, scores: Scores, spec: Spec) -> dict[str, Any]:
        if scores.truth is None or scores.predictions is None:
            return {}
        return {"predictions.png": self.picture(scores.truth, scores.predictions, spec.outputs)}

    def picture(self, truth: Any, predictions: Any, outputs: tuple[str, ...]) -> Any:
        """Predictions against the truth."""
        from training import pictures

        return pictures.predictions(truth, predictions, outputs, "test split")


class Forecasting(Regression):
    """Numbers for each of the steps after each sequence."""

    def picture(self, truth: Any, predictions: Any, outputs: tuple[str, ...]) -> Any:
        from training import pictures

        return pictures.forecasts(truth, predictions, outputs, "test split")
