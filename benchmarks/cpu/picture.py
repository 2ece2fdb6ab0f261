"""The ratio against Keras of every cell, grouped by batch."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

COLOURS = ("#0b6e99", "#c4501b", "#3f8f4f", "#8a4fa3", "#a8891c", "#5b5b5b")


def ratios(rows: Sequence[dict[str, Any]]) -> Figure:
    """A panel for each mode; a dot for each cell and activation.

    Args:
        rows: Those of the CSV file.
    """
    rows = [row for row in rows if row["side"] == "native"]
    modes = [mode for mode in ("training", "inference") if any(row["mode"] == mode for row in rows)]
    activations = list(dict.fromkeys(row["activation"] for row in rows))
    cells = sorted({_sizes(row) for row in rows})
    # A gap of one place between two batches.
    batches = list(dict.fromkeys(cell[0] for cell in cells))
    place = {cell: index + batches.index(cell[0]) for index, cell in enumerate(cells)}

    figure = Figure(figsize=(0.36 * (max(place.values()) + 1) + 2.6, 3.4 * len(modes) + 1.2), layout="constrained")
    axes = figure.subplots(len(modes), 1, sharex=True, squeeze=False)[:, 0]
    for mode, axis in zip(modes, axes, strict=True):
        for index, (activation, colour) in enumerate(zip(activations, COLOURS, strict=False)):
            mine = [row for row in rows if (row["mode"], row["activation"]) == (mode, activation)]
            shift = 0.11 * (index - (len(activations) - 1) / 2)
            xs = [place[_sizes(row)] + shift for row in mine]
            axis.plot(xs, [row["keras_over_this"] for row in mine], "o", ms=4, color=colour, label=activation)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_locator(LogLocator(base=2, subs=(1, 1.5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.axhline(1, color="black", lw=1)
        axis.grid(axis="y", lw=0.5, color="#dddddd")
        axis.set_axisbelow(True)
        axis.set_ylabel(f"{mode}:\nKeras's time over native's")
        axis.spines[["top", "right"]].set_visible(False)
        for batch in batches:
            of_batch = [place[cell] for cell in cells if cell[0] == batch]
            middle = (of_batch[0] + of_batch[-1]) / 2
            axis.text(middle, 1.01, f"batch {batch}", transform=axis.get_xaxis_transform(), ha="center", va="bottom")
            if batch != batches[0]:
                axis.axvline(of_batch[0] - 1, color="#bbbbbb", lw=0.8)
    labels = [f"{steps}, {features}, {units}" for _, steps, features, units in cells]
    axes[-1].set_xlim(-1, max(place.values()) + 1)
    axes[-1].set_xticks([place[cell] for cell in cells], labels, rotation=90, fontsize=8)
    axes[-1].set_xlabel("steps, features, units")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _sizes(row: dict[str, Any]) -> tuple[int, int, int, int]:
    return row["batch"], row["steps"], row["features"], row["units"]
