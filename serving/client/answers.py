"""Turns the output arrays of an exported model into one answer for each sequence."""

import http.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.client.errors import ServerError
from serving.runtime.model import Array


@dataclass(frozen=True)
class Prediction:
    """The answer for one sequence. Fields that the model does not give stay empty.

    Attributes:
        label: The name of the likeliest class; empty where the model had no finite answer.
        class_id: The number of that class; -1 where the model had no finite answer.
        probabilities: The probability of every class.
        values: The numbers that a regression gives.
        steps: One answer for each step of the sequence, from a model that labels steps; for each step of the future,
            from a forecast.
    """

    label: str = ""
    class_id: int = -1
    probabilities: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    steps: tuple["Prediction", ...] = ()


def predictions(outputs: Mapping[str, Array], lengths: Sequence[int | None]) -> list[Prediction]:
    """One answer for each row of a batch.

    Args:
        outputs: As `zoo export` names them: `label`, `class_id` and `probabilities`, with or without an axis of steps;
            or `predictions` of shape (batch, outputs) or (batch, horizon, outputs).
        lengths: The steps of each row, of which the rest is padding; None where only the model knows (text): what it
            did not answer at the end is left out then.

    Raises:
        ServerError: The outputs have other names, or not one row for each sequence.
    """
    if "predictions" in outputs:
        values = outputs["predictions"]
        _check(values.ndim in (2, 3) and values.dtype.kind == "f" and len(values) == len(lengths), outputs, lengths)
        return [_numbers(row) for row in values]
    missing = {"label", "class_id", "probabilities"} - set(outputs)
    _check(not missing, outputs, lengths)
    labels, class_ids, probabilities = outputs["label"], outputs["class_id"], outputs["probabilities"]
    fits = (
        labels.shape == class_ids.shape == probabilities.shape[:-1]
        and labels.ndim in (1, 2)
        and len(labels) == len(lengths)
        and (labels.dtype.kind, class_ids.dtype.kind, probabilities.dtype.kind) == ("O", "i", "f")
        and bool(((class_ids >= -1) & (class_ids < probabilities.shape[-1])).all())
    )
    _check(fits, outputs, lengths)
    rows = zip(labels, class_ids, probabilities, lengths, strict=True)
    if labels.ndim == 1:
        return [_class(label, class_id, row) for label, class_id, row, _ in rows]
    return [Prediction(steps=_steps(*row)) for row in rows]


def _steps(labels: Array, class_ids: Array, probabilities: Array, length: int | None) -> tuple[Prediction, ...]:
    if length is None:
        answered = np.flatnonzero(class_ids >= 0)
        length = int(answered[-1]) + 1 if len(answered) else 0
    return tuple(_class(*step) for step in zip(labels[:length], class_ids, probabilities, strict=False))


def _class(label: Any, class_id: Any, probabilities: Array) -> Prediction:
    return Prediction(label.decode(), int(class_id), tuple(probabilities.tolist()))


def _numbers(row: Array) -> Prediction:
    if row.ndim == 1:
        return Prediction(values=tuple(row.tolist()))
    return Prediction(steps=tuple(_numbers(step) for step in row))


def _check(fits: bool, outputs: Mapping[str, Array], lengths: Sequence[Any]) -> None:
    if not fits:
        shapes = {name: array.shape for name, array in outputs.items()}
        raise ServerError(
            http.client.OK,
            f"outputs that do not answer {len(lengths)} sequences (shapes {shapes}); expected a row of label, "
            "class_id and probabilities, or of predictions, for each: serve a model that `zoo export` wrote",
        )
