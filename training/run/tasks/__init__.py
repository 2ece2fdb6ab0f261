"""The kinds of tasks: a class for each kind, and one line here."""

from typing import Any

from training.batches.statistics import channel_statistics
from training.datasets import Examples, Spec, Task
from training.run.tasks.base import Answers, Scores as Scores, TaskKind as TaskKind
from training.run.tasks.classes import Classification, Labelling
from training.run.tasks.language_model import LanguageModel
from training.run.tasks.numbers import Forecasting, Regression
from zoo.models import SequenceTask

TASKS: dict[Task, TaskKind] = {
    "classification": Classification(),
    "labelling": Labelling(),
    "regression": Regression(),
    "forecasting": Forecasting(),
    "language_model": LanguageModel(),
}


def model_task(spec: Spec, train: Examples | None = None, embedding: int = 64) -> SequenceTask:
    """Describe the task of a model for this dataset.

    Args:
        spec: The description of the dataset.
        train: The training part, for its statistics and vocabulary. Without it the task has no statistics and a
            vocabulary of 3, which is enough to check the arguments of a model.
        embedding: Width of the embedding of tokens.
    """
    statistics: dict[str, Any] = {}
    vocabulary = 3 if spec.text else None
    if train is not None and train.vocabulary is not None:
        vocabulary = len(train.vocabulary)
    elif train is not None:
        mean, variance = channel_statistics(train)
        statistics = {"mean": tuple(mean.tolist()), "variance": tuple(variance.tolist())}
    if train is not None:
        statistics |= TASKS[spec.task].statistics(train)
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
    return TASKS[task.kind].compile_arguments(task, label_smoothing)


def guessing(task: SequenceTask) -> float:
    """The loss of a model that ignores its inputs."""
    return TASKS[task.kind].guessing(task)


def score(task: SequenceTask, answers: Answers) -> Scores:
    """Score a model, batch by batch.

    Args:
        task: What the model was built for.
        answers: For each batch the outputs of the model, the targets, and weights 0 or 1 of the targets, or None.
    """
    return TASKS[task.kind].score(task, answers)
