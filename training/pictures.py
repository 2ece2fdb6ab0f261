"""Pictures of runs. Figures are made without pyplot, so that nothing depends on a screen or on global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

GOOD, BAD, TRAIN = "#1b6ca8", "#c0392b", "#8a8a8a"


def learning_curves(history: Sequence[Mapping[str, float]], best_epoch: int | None) -> Figure:
    """Loss and accuracy over epochs, training and validation, with the chosen epoch marked.

    Args:
        history: As in `training.loop.Result`.
        best_epoch: Index of the epoch whose weights were kept, or `None`.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=130)
    epochs = np.arange(1, len(history) + 1)
    for axes, metric, scale in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("log", "linear"), strict=True):
        for part, colour in (("train", TRAIN), ("validation", GOOD)):
            values = np.array([row.get(f"{part}/{metric}", np.nan) for row in history])
            # A single epoch is a point, not an invisible line; a log axis has no place for 0 or infinity.
            shown = np.where(np.isfinite(values) & ((values > 0) | (scale == "linear")), values, np.nan)
            axes.plot(epochs, shown, colour, label=part, marker="o" if len(history) < 3 else None, linewidth=1.6)
            if not np.isfinite(shown).any():
                axes.set_yscale("linear")
        if any(row.get(f"train/{metric}", 0) > 0 for row in history):
            axes.set_yscale(scale)
        if best_epoch is not None:
            axes.axvline(best_epoch + 1, color=GOOD, linestyle=":", label=f"kept: epoch {best_epoch + 1}")
        axes.set(xlabel="epoch", ylabel="cross-entropy (nats)" if metric == "loss" else metric)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """Counts of answers against truth, shaded by the share of each true class.

    Args:
        counts: (classes, classes), row the truth.
        classes: Their names.
        title: What the counts are of.
    """
    size = max(4.0, 0.5 * len(classes) + 2)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained", dpi=130)
    axes: Any = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    axes.set_xticks(range(len(classes)), classes, rotation=45 if max(map(len, classes)) > 3 else 0)
    axes.set_yticks(range(len(classes)), classes)
    right = np.trace(counts) / max(counts.sum(), 1)
    axes.set(xlabel="answer", ylabel="truth", title=f"{title}: {right:.1%} right")
    return figure


def comparison(labels: Sequence[str], validation: Sequence[float], test: Sequence[float]) -> Figure:
    """Accuracy of several runs side by side, best validation on top.

    Args:
        labels: One a run, in the order to show from the top.
        validation: Validation accuracy; NaN where the run diverged.
        test: Test accuracy; NaN where there is none.
    """
    figure = Figure(figsize=(9, 1.2 + 0.38 * len(labels)), layout="constrained", dpi=130)
    axes: Any = figure.subplots()
    places = np.arange(len(labels))[::-1]
    axes.scatter(validation, places, s=60, color=GOOD, label="validation", zorder=3)
    axes.scatter(test, places, s=60, facecolors="none", edgecolors="black", label="test", zorder=3)
    for place, value in zip(places, validation, strict=True):
        if not np.isfinite(value):
            axes.text(0.5, place, "diverged", color=BAD, va="center", ha="center", transform=axes.get_yaxis_transform())
    axes.set_yticks(places, labels)
    axes.set(xlabel="accuracy", ylim=(-0.6, len(labels) - 0.4))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
