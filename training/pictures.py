"""Pictures of runs. Figures are made without pyplot, so that nothing depends on a screen or on global state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

GOOD, BAD, TRAIN = "#1b6ca8", "#c0392b", "#8a8a8a"
_SHOWN = 40  # classes in one picture
_LINES = 8  # channels in one picture


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, in half the time of `savefig`, which lays it out and draws it twice."""
    FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]


def learning_curves(
    history: Sequence[Mapping[str, float]], best_epoch: int | None, metric: str = "accuracy", is_share: bool = True
) -> Figure:
    """Loss and another metric over epochs, training and validation, with the chosen epoch marked.

    Args:
        history: As in `training.run.loop.Result`.
        best_epoch: Index of the epoch whose weights were kept, or `None`.
        metric: The name of the other metric.
        is_share: Whether that is a share; an error is drawn on a log scale, as the loss is.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=130)
    epochs = np.arange(1, len(history) + 1)
    loss = "cross-entropy (nats)" if is_share else "squared error / variance"
    shown_metrics = (("loss", "log", loss), (metric, "linear" if is_share else "log", metric.replace("_", " ")))
    for axes, (name, scale, label) in zip(figure.subplots(1, 2), shown_metrics, strict=True):
        for part, colour in (("train", TRAIN), ("validation", GOOD)):
            values = np.array([row.get(f"{part}/{name}", np.nan) for row in history])
            # A single epoch is a point, not an invisible line; a log axis has no place for 0 or infinity.
            shown = np.where(np.isfinite(values) & ((values > 0) | (scale == "linear")), values, np.nan)
            axes.plot(epochs, shown, colour, label=part, marker="o" if len(history) < 3 else None, linewidth=1.6)
            if not np.isfinite(shown).any():
                axes.set_yscale("linear")
        if any(row.get(f"train/{name}", 0) > 0 for row in history):
            axes.set_yscale(scale)
        if best_epoch is not None:
            axes.axvline(best_epoch + 1, color=GOOD, linestyle=":", label=f"kept: epoch {best_epoch + 1}")
        axes.set(xlabel="epoch", ylabel=label)
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
                in_layout=False,  # it lies within the axes, and measuring it takes time
            )
    axes.set_xticks(range(len(classes)), classes, rotation=45 if max(map(len, classes)) > 3 else 0)
    axes.set_yticks(range(len(classes)), classes)
    right = np.trace(counts) / max(counts.sum(), 1)
    axes.set(xlabel="answer", ylabel="truth", title=f"{title}: {right:.1%} right")
    return figure


def per_class(counts: NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """Precision and recall of the classes that are found least often, at most 40: for more classes than a matrix shows.

    Args:
        counts: (classes, classes), row the truth.
        classes: Their names.
        title: What the counts are of.
    """
    there, said, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    recall = np.where(there > 0, right / np.maximum(there, 1), np.nan)
    precision = np.where(said > 0, right / np.maximum(said, 1), np.nan)
    shown = np.argsort(recall, kind="stable")[:_SHOWN]
    figure = Figure(figsize=(8, 1.4 + 0.22 * len(shown)), layout="constrained", dpi=130)
    axes: Any = figure.subplots()
    places = np.arange(len(shown))[::-1]
    axes.scatter(recall[shown], places, s=36, color=GOOD, label="recall: of those there, found", zorder=3)
    axes.scatter(
        precision[shown], places, s=36, facecolors="none", edgecolors="black", label="precision: of those said, right"
    )
    axes.set_yticks(places, [f"{classes[index]} ({there[index]})" for index in shown], fontsize=8)
    which = f", the {len(shown)} classes found least" if len(shown) < len(classes) else ""
    total = f"{right.sum() / max(counts.sum(), 1):.1%} right"
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(shown) - 0.4), title=f"{title}: {total}{which}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    return figure


def sequences(shown: Sequence[tuple[str, NDArray[np.float32]]], channels: Sequence[str]) -> Figure:
    """Sequences below one another, a line a channel, of at most eight channels.

    Args:
        shown: What each is called, and its values `[steps, channels]`.
        channels: Their names.
    """
    figure = Figure(figsize=(9, 1.0 + 1.6 * len(shown)), layout="constrained", dpi=130)
    for axes, (name, values) in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        for index, channel in enumerate(channels[:_LINES]):
            axes.plot(values[:, index], label=channel, linewidth=1.0)
        axes.set_title(name, loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    axes.set_xlabel("step")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def gradient_history(epochs: Sequence[int], layers: Sequence[str], norms: NDArray[np.float64]) -> Figure:
    """How far back the loss's gradient reached, as training went on: a panel a layer, a row an examination.

    Args:
        epochs: Epochs finished before each examination.
        layers: Names of the recurrent layers.
        norms: |dL/dh|, (examinations, layers, steps); NaN where a step is masked.
    """
    smallest = 1e-12  # a colour scale cannot reach zero
    shown = np.where(np.isfinite(norms), np.maximum(norms, smallest), np.nan)
    known = shown[np.isfinite(shown)]
    lowest, highest = (known.min(), known.max()) if known.size else (smallest, 1.0)
    scale = LogNorm(lowest, max(highest, 10 * lowest))
    rows = 0.6 + min(0.25 * len(epochs), 2.4)
    figure = Figure(figsize=(9, 0.7 + rows * len(layers)), layout="constrained", dpi=130)
    panels: Any = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
    for index, axes in enumerate(panels):
        image = axes.imshow(shown[:, index], aspect="auto", cmap="viridis", norm=scale, interpolation="nearest")
        axes.set_facecolor("#d9d9d9")  # masked steps
        places = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), 6)).astype(int))
        axes.set_yticks(places, [str(epochs[place]) for place in places])
        axes.set(ylabel="after epoch")
        axes.set_title(layers[index], fontsize=9)
    panels[-1].set(xlabel="step of the sequence")
    figure.colorbar(image, ax=panels, label="|dL/dh|")
    return figure


def predictions(truth: NDArray[np.float32], said: NDArray[np.float32], outputs: Sequence[str], title: str) -> Figure:
    """What a regression said against the truth, a panel an output; on the line it is right.

    Args:
        truth: (examples, outputs).
        said: The same of the model.
        outputs: Their names.
        title: What the examples are of.
    """
    figure = Figure(figsize=(4.2 * len(outputs) + 0.4, 4.2), layout="constrained", dpi=130)
    for index, axes in enumerate(figure.subplots(1, len(outputs), squeeze=False)[0]):
        limits = [np.nanmin([truth[:, index], said[:, index]]), np.nanmax([truth[:, index], said[:, index]])]
        axes.plot(limits, limits, color=TRAIN, linewidth=1)
        axes.scatter(truth[:, index], said[:, index], s=12, color=GOOD, alpha=0.6, linewidths=0)
        error = np.abs(truth[:, index] - said[:, index]).mean()
        axes.set(xlabel=f"truth: {outputs[index]}", ylabel="prediction", title=f"{title}: mean error {error:.3g}")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def forecasts(truth: NDArray[np.float32], said: NDArray[np.float32], outputs: Sequence[str], title: str) -> Figure:
    """Six forecasts of the first output against what came, and the mean error by how far ahead.

    Args:
        truth: (examples, horizon, outputs).
        said: The same of the model.
        outputs: Their names.
        title: What the examples are of.
    """
    ahead = np.arange(1, truth.shape[1] + 1)
    figure = Figure(figsize=(11, 5.2), layout="constrained", dpi=130)
    grid = figure.add_gridspec(2, 4)
    for place, index in enumerate(np.linspace(0, len(truth) - 1, 6).astype(int)):
        axes = figure.add_subplot(grid[place // 3, place % 3])
        marker = "o" if len(ahead) < 4 else None
        axes.plot(ahead, truth[index, :, 0], color="black", label="truth", linewidth=1.4, marker=marker)
        axes.plot(ahead, said[index, :, 0], color=GOOD, label="forecast", linewidth=1.4, marker=marker)
        axes.set_title(f"example {index}", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        if place == 0:
            axes.set(ylabel=outputs[0], xlabel="steps ahead")
            axes.legend(frameon=False, fontsize=8)
    axes = figure.add_subplot(grid[:, 3])
    for index, name in enumerate(outputs):
        error = np.abs(truth[:, :, index] - said[:, :, index]).mean(axis=0)
        axes.plot(ahead, error, label=name, marker="o" if len(ahead) < 4 else None)
    axes.set(xlabel="steps ahead", ylabel="mean absolute error", title=title, ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@dataclass(frozen=True)
class Scored:
    """Runs on one dataset, in the order to show from the top.

    Attributes:
        title: The dataset.
        metric: What the scores are.
        labels: One a run.
        validation: Validation scores; NaN where there is none.
        test: The same on the test split.
        outcomes: What came of each run, such as "finished" or "diverged": shown where it has no score.
    """

    title: str
    metric: str
    labels: Sequence[str]
    validation: Sequence[float]
    test: Sequence[float]
    outcomes: Sequence[str]


def comparison(panels: Sequence[Scored]) -> Figure:
    """Scores of several runs side by side, best validation on top, a panel for each dataset."""
    rows = [len(panel.labels) for panel in panels]
    figure = Figure(figsize=(9, 1.2 * len(panels) + 0.38 * sum(rows)), layout="constrained", dpi=130)
    heights = [count + 1.5 for count in rows]
    grid: Any = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        _scored(axes, panel)
    grid[0].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _scored(axes: Any, panel: Scored) -> None:
    places = np.arange(len(panel.labels))[::-1]
    axes.scatter(panel.validation, places, s=60, color=GOOD, label="validation", zorder=3)
    axes.scatter(panel.test, places, s=60, facecolors="none", edgecolors="black", label="test", zorder=3)
    for place, score, outcome in zip(places, panel.validation, panel.outcomes, strict=True):
        if not np.isfinite(score):
            style = {"color": BAD if outcome in ("diverged", "failed") else TRAIN, "va": "center", "ha": "center"}
            shown = "no score" if outcome == "finished" else outcome
            axes.text(0.5, place, shown, transform=axes.get_yaxis_transform(), **style)
    axes.set_yticks(places, panel.labels)
    axes.set(xlabel=panel.metric, ylim=(-0.6, len(panel.labels) - 0.4))
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
