"""Pictures of studies, made without pyplot, as those of runs in `training.pictures`."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.pictures import BAD, GOOD, TRAIN
from training.study.comparison import Board
from training.study.results import Row
from training.study.statistics import Ranking, bootstrap_interval

_DPI = 130


def short(label: str, width: int = 40) -> str:
    """The label, cut where it is too long for a picture.

    Example:
    >>> short("gates relu, candidate tanh", 12)
    'gates relu,…'
    """
    return label if len(label) <= width else label[: width - 1] + "…"


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def scores(test: Board, validation: Board, baseline: str) -> Figure:
    """Test scores of the conditions on one dataset: mean, 95 % interval and every seed; best by validation on top.

    The axis shows the runs that converged. A mean that dead runs pull off it is an arrow at its edge.

    Args:
        test: Scores on the test split.
        validation: On the validation split, by which the conditions are ordered.
        baseline: Its mean is a line through the picture.
    """
    order = validation.by_score()
    figure = Figure(figsize=(9, 1.5 + 0.34 * len(order)), layout="constrained", dpi=_DPI)
    axes: Any = figure.subplots()
    alive = [score for each in (test, validation) for score in each.scores.values() if score is not None]
    if not alive:
        axes.text(0.5, 0.5, "no run converged", color=BAD, ha="center", transform=axes.transAxes)
    margin = max(0.06 * (max(alive) - min(alive)), 1e-6 * max(map(abs, alive)), 1e-12) if alive else 1.0
    low, high = (min(alive) - margin, max(alive) + margin) if alive else (0.0, 1.0)
    for place, condition in zip(range(len(order))[::-1], order, strict=True):
        seeds, counted = test.converged(condition), test.counted(condition)
        axes.scatter(seeds, [place] * len(seeds), s=14, color=TRAIN, alpha=0.7, linewidths=0, zorder=2)
        mean = float(np.mean(counted))
        if alive:
            _mean(axes, mean, bootstrap_interval(counted), place, (low, high))
            shown = np.clip(np.mean(validation.counted(condition)), low, high)
            axes.scatter(shown, place, s=46, facecolors="none", edgecolors="black", linewidths=0.9, zorder=4)
            if condition == baseline and low <= mean <= high:
                axes.axvline(mean, color=GOOD, linestyle=":", linewidth=1.2, zorder=1)
        dead = len(counted) - len(seeds)
        if dead:
            axes.text(
                1.01,
                place,
                f"{dead} of {len(counted)} died",
                color=BAD,
                va="center",
                transform=_at_edge(axes),
                fontsize=9,
            )
    axes.set_yticks(range(len(order))[::-1], [short(label) for label in order])
    for tick, condition in zip(axes.get_yticklabels(), order, strict=True):
        tick.set_fontweight("bold" if condition == baseline else "normal")
    better = "higher" if test.sign > 0 else "lower"
    axes.set(
        xlim=(low, high), ylim=(-0.6, len(order) - 0.4), xlabel=f"{test.metric.replace('_', ' ')}, {better} is better"
    )
    axes.set_title(test.dataset, loc="left", fontsize=11)
    axes.grid(axis="x", alpha=0.25)
    _plain(axes)
    _legend(figure, axes)
    return figure


def _at_edge(axes: Any) -> Any:
    return axes.get_yaxis_transform()


def _mean(
    axes: Any, mean: float, interval: tuple[float, float] | None, place: int, limits: tuple[float, float]
) -> None:
    low, high = limits
    if low <= mean <= high:
        axes.scatter(mean, place, s=46, color=GOOD, linewidths=0, zorder=3)
    else:
        axes.scatter(
            np.clip(mean, low, high), place, s=60, color=BAD, marker="<" if mean < low else ">", zorder=5, clip_on=False
        )
    if interval:
        axes.plot(np.clip(interval, low, high), [place, place], color=GOOD, linewidth=2.2, zorder=2.5)


def _legend(figure: Figure, axes: Any) -> None:
    from matplotlib.lines import Line2D

    def dot(colour: str, filled: bool, label: str) -> Line2D:
        face = colour if filled else "none"
        return Line2D([], [], color=colour, marker="o", linestyle="", markerfacecolor=face, label=label)

    handles = [
        Line2D([], [], color=GOOD, marker="o", linewidth=2.2, label="test: mean and 95 % interval"),
        Line2D([], [], color=TRAIN, marker="o", markersize=4, linestyle="", label="test: one seed"),
        dot("black", False, "validation: mean"),
        Line2D([], [], color=GOOD, linestyle=":", label="baseline"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def ranks(ranking: Ranking, baseline: str) -> Figure:
    """The critical-difference diagram of Demšar (2006): mean ranks on a line, bars over what is not told apart.

    Args:
        ranking: Of two conditions or more.
        baseline: In bold.
    """
    means, labels = ranking.mean_ranks, ranking.conditions
    groups = ranking.alike()
    left = math.ceil(len(means) / 2)
    first_label = 0.9 + 0.32 * len(groups)
    depth = first_label + left
    figure = Figure(figsize=(9, 1.1 + 0.3 * depth), layout="constrained", dpi=_DPI)
    axes: Any = figure.subplots()
    lowest, highest = 1.0, float(len(means))
    span = highest - lowest
    axes.plot([lowest, highest], [0, 0], color="black", linewidth=1.2)
    step = max(1, math.ceil(span / 12))
    for tick in range(1, len(means) + 1, step):
        axes.plot([tick, tick], [0, -0.2], color="black", linewidth=1)
        axes.text(tick, -0.35, str(tick), ha="center", va="bottom", fontsize=9)
    shown = min(ranking.critical_difference, span)
    axes.plot([lowest, lowest + shown], [-1.6, -1.6], color=BAD, linewidth=2.2)
    wide = " (all of it and more)" if ranking.critical_difference > span else ""
    axes.text(
        lowest, -1.8, f"critical difference {ranking.critical_difference:.2f}{wide}", color=BAD, va="bottom", fontsize=9
    )
    for index, (mean, label) in enumerate(zip(means, labels, strict=True)):
        on_left = index < left
        row = first_label + (index if on_left else len(means) - 1 - index)
        edge = lowest - 0.03 * span if on_left else highest + 0.03 * span
        colour = GOOD if label == baseline else "black"
        axes.plot([mean, mean, edge], [0, row, row], color=colour, linewidth=0.9)
        text = f"{short(label)}  {mean:.2f}" if on_left else f"{mean:.2f}  {short(label)}"
        weight = "bold" if label == baseline else "normal"
        side = "right" if on_left else "left"
        axes.text(edge, row, f" {text} ", ha=side, va="center", fontsize=9, color=colour, fontweight=weight)
    for height, (first, last) in enumerate(groups):
        y = 0.45 + 0.32 * height
        axes.plot([means[first] - 0.008 * span, means[last] + 0.008 * span], [y, y], color=TRAIN, linewidth=4)
    axes.set(xlim=(lowest - 0.03 * span, highest + 0.03 * span), ylim=(depth, -3.2))
    axes.set_axis_off()
    return figure


def training_curves(rows: Sequence[Row], validation: Board, baseline: str) -> Figure:
    """The validation metric over epochs, a panel a condition: median and range over seeds.

    The baseline's median is in every panel, in grey. Curves end where fewer than half of the condition's converged runs
    go on; a dead run is a line of its own that ends in a cross.

    Args:
        rows: The study's runs; those on the board's dataset are drawn.
        validation: The order of the panels, best first.
        baseline: Its median is drawn in every panel.
    """
    order = validation.by_score()
    columns = min(4, len(order))
    lines = math.ceil(len(order) / columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 1.9 * lines + 0.7), layout="constrained", dpi=_DPI)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    mine = [row for row in rows if row.dataset == validation.dataset]
    name = f"validation/{validation.metric}"
    curves: dict[str, list[NDArray[np.float64]]] = {}
    lost: dict[str, list[NDArray[np.float64]]] = {}
    for row in mine:
        values = np.array([epoch.get(name, math.nan) for epoch in row.history])
        (curves if row.outcome == "converged" else lost).setdefault(row.condition, []).append(values)
    for index, axes in enumerate(grid.flat):
        if index >= len(order):
            axes.set_axis_off()
            continue
        condition = order[index]
        _curve(axes, curves.get(baseline, []), TRAIN, band=False)
        _curve(axes, curves.get(condition, []), GOOD, band=True)
        for values in lost.get(condition, []):
            _dead_curve(axes, values)
        dead = len(lost.get(condition, []))
        title = "\n".join(textwrap.wrap(short(condition, 52), 28)) + (f"\n{dead} died" if dead else "")
        weight = "bold" if condition == baseline else "normal"
        axes.set_title(title, fontsize=8.5, color=BAD if dead else "black", fontweight=weight)
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8, labelbottom=index + columns >= len(order))
        _plain(axes)
    if validation.sign < 0 and any(np.any(each > 0) for group in curves.values() for each in group):
        grid[0, 0].set_yscale("log")
    _limit(grid[0, 0], [each for group in curves.values() for each in group])
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(f"validation {validation.metric.replace('_', ' ')}", fontsize=9)
    figure.suptitle(validation.dataset, fontsize=11)
    return figure


def _curve(axes: Any, runs: Sequence[NDArray[np.float64]], colour: str, band: bool) -> None:
    runs = [values for values in runs if len(values)]
    if not runs:
        return
    # Epochs that at least half of the runs have: beyond, the line would be about other runs than before.
    length = sorted(map(len, runs))[(len(runs) - 1) // 2]
    table = np.full((len(runs), length), math.nan)
    for row, values in zip(table, runs, strict=True):
        row[: len(values)] = values[:length]
    known = np.flatnonzero(np.isfinite(table).any(axis=0))
    if not known.size:
        return
    epochs, table = known + 1, table[:, known]
    marker = "o" if len(known) < 3 else None
    axes.plot(epochs, np.nanmedian(table, axis=0), color=colour, linewidth=1.5, marker=marker, markersize=3)
    if band:
        axes.fill_between(
            epochs, np.nanmin(table, axis=0), np.nanmax(table, axis=0), color=colour, alpha=0.2, linewidth=0
        )


def _dead_curve(axes: Any, values: NDArray[np.float64]) -> None:
    known = np.flatnonzero(np.isfinite(values))
    if known.size:
        axes.plot(known + 1, values[known], color=BAD, linewidth=0.9, alpha=0.8)
        axes.plot(known[-1] + 1, values[known[-1]], color=BAD, marker="x", markersize=5)


def _limit(axes: Any, runs: Sequence[NDArray[np.float64]]) -> None:
    """Limit the axis to the converged runs without their worst 2 %, so that a spike does not flatten the rest."""
    values = np.concatenate([np.zeros(0), *(each[np.isfinite(each)] for each in runs)])
    if axes.get_yscale() == "log":
        values = values[values > 0]
    if values.size < 2:
        return
    low, high = np.quantile(values, [0.02, 0.98])
    if axes.get_yscale() == "log":
        axes.set_ylim(low / 1.15, high * 1.15)
    elif high > low:
        axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))


def deaths(
    counts: Mapping[tuple[str, str], tuple[int, int]], conditions: Sequence[str], datasets: Sequence[str]
) -> Figure:
    """How many runs died, conditions by datasets.

    Args:
        counts: By (condition, dataset): dead runs, and all of them.
        conditions: From the top.
        datasets: From the left.
    """
    shares = np.full((len(conditions), len(datasets)), math.nan)
    for (condition, dataset), (dead, runs) in counts.items():
        shares[conditions.index(condition), datasets.index(dataset)] = dead / runs
    names = ["\n".join(textwrap.wrap(short(label), 20)) for label in datasets]
    column = max(1.0, *(0.1 * len(line) for name in names for line in name.split("\n")))
    size = (3 + column * len(datasets), 1.2 + 0.32 * len(conditions))
    figure = Figure(figsize=size, layout="constrained", dpi=_DPI)
    axes: Any = figure.subplots()
    axes.imshow(shares, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        found = counts.get((conditions[row], datasets[column]))
        text = f"{found[0]} of {found[1]}" if found else "not run"
        colour = "white" if share > 0.6 else "black" if share > 0 else TRAIN
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_yticks(range(len(conditions)), [short(label) for label in conditions])
    axes.set_xticks(range(len(datasets)), names)
    axes.tick_params(length=0, labelsize=9, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure
