"""The files that a run leaves: the model, what an export needs to know, pictures and tables."""

import csv
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from training import pictures
from training.run.loop import Data, Result
from training.run.tasks import TASKS, Scores
from training.tracking.files import GOLDEN_FILE, MODEL_FOLDER, NOTES_FILE, TASK_FILE
from training.tracking.model_folder import write_model
from zoo.devices import computing
from zoo.diagnostics import Health
from zoo.export import ExportError, golden


def write_artifacts(folder: Path, run_id: str, result: Result, data: Data, health: Health | None) -> None:
    """Write all of them to `folder`, which becomes the run's artifacts as it is."""
    write_model(folder / MODEL_FOLDER, result.model, run_id)
    spec = data.spec
    task = {
        "dataset": spec.name,
        "kind": spec.task,
        "classes": spec.classes,
        "channels": spec.channels,
        "outputs": spec.outputs,
        "horizon": spec.horizon,
        "vocabulary": data.train.vocabulary,
        "tokens": getattr(data.dataset, "tokens", None),
        "columns": _columns(data),
    }
    (folder / TASK_FILE).write_text(json.dumps(task, indent=2) + "\n")
    if result.outcome == "finished":
        with suppress(ExportError):  # nothing that can be exported
            golden.write(folder / GOLDEN_FILE, result.model, task, computing())
    if notes := getattr(data.dataset, "notes", ()):
        (folder / NOTES_FILE).write_text("".join(f"{note}\n" for note in notes))
    if result.history:
        metric = TASKS[spec.task].metric
        figure = pictures.learning_curves(result.history, result.best_epoch, metric.name, metric.is_share)
        pictures.save(figure, folder / "learning_curves.png")
    if health is not None:
        _write_health(folder, health)
    if result.test is not None:
        _write_test(folder, result.test, data)
    if result.outcome == "finished":
        TASKS[spec.task].write_more(folder, result.model, data.train.vocabulary or ())


def _columns(data: Data) -> dict[str, list[str]] | None:
    """The columns of a person's own data by what they are, for whoever has more of such data; None of other data."""
    columns = getattr(data.dataset, "columns", None)
    if columns is None:
        return None
    named = {role: list(names) for role, names in columns.items()}
    return {**named, "channels": list(data.dataset.channels)}  # type: ignore[attr-defined]


def _write_health(folder: Path, health: Health) -> None:
    (folder / "health.txt").write_text(f"{health}\n")
    flows = [(checkup.epoch, checkup.flow) for checkup in health.history if checkup.flow is not None]
    if flows:
        epochs, reports = zip(*flows, strict=True)
        figure = pictures.gradient_history(epochs, reports[0].layers, np.stack([report.norms for report in reports]))
        pictures.save(figure, folder / "gradient_flow.png")


def _write_test(folder: Path, scores: Scores, data: Data) -> None:
    spec = data.spec
    for name, figure in TASKS[spec.task].pictures(scores, spec).items():
        pictures.save(figure, folder / name)
    if scores.confusion is not None:
        rows = [[name, *map(int, counts)] for name, counts in zip(spec.classes, scores.confusion, strict=True)]
        _write_csv(folder / "confusion_matrix.csv", [["truth \\ answer", *spec.classes], *rows])
        _write_csv(folder / "per_class.csv", per_class(scores.confusion, spec.classes))


def per_class(counts: Any, classes: Any) -> list[list[Any]]:
    """A header and a row a class: how many there are, precision, recall, F1; empty where nothing was to be divided.

    Example:
    >>> per_class(np.array([[3, 1], [0, 0]]), ["up", "down"])[1:]
    [['up', 4, 1.0, 0.75, 0.857143], ['down', 0, 0.0, '', 0.0]]
    """
    rows: list[list[Any]] = [["class", "examples", "precision", "recall", "f1"]]
    right, said, there = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    for index, name in enumerate(classes):
        rows.append(
            [
                name,
                int(there[index]),
                _share(right[index], said[index]),
                _share(right[index], there[index]),
                _share(2 * right[index], said[index] + there[index]),
            ]
        )
    return rows


def _share(part: int, whole: int) -> float | str:
    return round(float(part / whole), 6) if whole else ""


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
