"""Tasks whose answer is one of several classes: for each sequence or for each step."""

import math
from typing import Any

import keras
import numpy as np

from training.datasets import Spec
from training.run.metrics import ACCURACY
from training.run.tasks.base import Answers, Scores, TaskKind
from zoo.losses import SmoothedCrossentropy
from zoo.models import SequenceTask

# Classes up to which a confusion matrix can be read.
_READABLE = 30


class Classes(TaskKind):
    """What classification, labelling and language models share.

    Attributes:
        counts_weights: Whether weights 0 of the loss also say what the accuracy leaves out.
        has_confusion: Whether answers are counted by class; of a vocabulary that would be too many.
    """

    metric = ACCURACY
    counts_weights = False
    has_confusion = True

    def compile_arguments(self, task: SequenceTask, label_smoothing: float) -> dict[str, Any]:
        # Divide by the sum of the weights: by the number of steps, padding would count as right answers.
        reduction = "mean_with_sample_weight"
        loss = (
            SmoothedCrossentropy(label_smoothing, reduction=reduction)
            if label_smoothing
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        )
        accuracy = keras.metrics.SparseCategoricalAccuracy(name=self.metric.name)
        return {"loss": loss, "weighted_metrics" if self.counts_weights else "metrics": [accuracy]}

    def guessing(self, task: SequenceTask) -> float:
        return math.log(task.classes)

    def score(self, task: SequenceTask, answers: Answers) -> Scores:
        total, right, count = 0.0, 0, 0
        confusion = np.zeros((task.classes,) * 2, np.int64) if self.has_confusion else None
        for logits, labels, weights in answers:
            chosen = slice(None) if weights is None else weights > 0
            logits, labels = logits[chosen].astype("float64"), labels[chosen]
            logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
            # log softmax, shifted so that exp cannot overflow
            shifted = logits - logits.max(axis=1, keepdims=True)
            log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            answered = logits.argmax(axis=1)
            total -= log_probabilities[np.arange(len(labels)), labels].sum()
            right, count = right + int((answered == labels).sum()), count + len(labels)
            if confusion is not None:
                np.add.at(confusion, (labels, answered), 1)
        return Scores(total / count, {self.metric.name: right / count}, confusion)

    def pictures(self, scores: Scores, spec: Spec) -> dict[str, Any]:
        from training import pictures

        if scores.confusion is None:
            return {}
        if len(spec.classes) <= _READABLE:
            return {"confusion_matrix.png": pictures.confusion_matrix(scores.confusion, spec.classes, "test split")}
        return {"per_class.png": pictures.per_class(scores.confusion, spec.classes, "test split")}


class Classification(Classes):
    """A class for each sequence."""


class Labelling(Classes):
    """A class for each step."""

    counts_weights = True
