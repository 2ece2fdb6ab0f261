"""The time of a training step for every size and side, on a logarithmic axis."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gpu.compare import Row, cell_of
from gpu.plan import ACTIVATIONS, ENGINES, KERAS, TORCH, TRAINING

COLOURS = dict(
    zip((KERAS, TORCH, *ENGINES), ("#c4501b", "#8a4fa3", "#5b5b5b", "#a8891c", "#3f8f4f", "#0b6e99"), strict=True)
)
MARKERS = dict(zip(ACTIVATIONS, ("o", "s", "^"), strict=True))


def step_times(rows: Sequence[Row], cells: Sequence[object]) -> Figure:
    """A panel for each framework; a mark for each size, side, precision and activation, a bar for the floor.

    Args:
        rows: Those of the CSV file.
        cells: The sizes to show, in order.
    """
    rows = [row for row in rows if row["mode"] == TRAINING and row["call"] == "call" and cell_of(row) in cells]
    frameworks = list(dict.fromkeys(row["framework"] for row in rows))
    figure = Figure(figsize=(1.6 + 5.2 * max(1, len(frameworks)), 5.4), layout="constrained")
    panels = figure.subplots(1, max(1, len(frameworks)), sharey=True, squeeze=False)[0]
    for axis, framework in zip(panels, frameworks, strict=False):
        _panel(axis, [row for row in rows if row["framework"] == framework], cells)
        axis.set_title(framework, loc="left")
    panels[0].set_ylabel("training step, ms")
    named: dict[str, Any] = {}
    for axis in panels:
        handles, labels = axis.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _panel(axis: Any, rows: Sequence[Row], cells: Sequence[object]) -> None:
    for place, cell in enumerate(cells):
        mine = [row for row in rows if cell_of(row) == cell]
        sides = list(dict.fromkeys((row["side"], row["precision"]) for row in mine))
        for row in mine:
            shift = 0.8 * ((sides.index((row["side"], row["precision"])) + 0.5) / len(sides) - 0.5)
            style = {"ms": 7, "color": COLOURS[row["side"]], "marker": MARKERS[row["activation"]], "ls": ""}
            filled = {"tf32": "full", "float32": "none"}.get(row["precision"], "left")
            axis.plot(place + shift, row["median_ms"], fillstyle=filled, label=_label(row), **style)
        floors = [max(row["operations_floor_ms"], row["bytes_floor_ms"]) for row in mine if row["floor_share"] != ""]
        if floors:
            axis.hlines(min(floors), place - 0.42, place + 0.42, color="black", lw=1, label="lowest of the floors")
    axis.set_yscale("log")
    axis.set_xticks(range(len(cells)), [str(cell).replace("_", "\n") for cell in cells], fontsize=9)
    axis.grid(axis="y", lw=0.5, color="#dddddd")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _label(row: Row) -> str:
    sixteen = f", {row['precision']}" if row["precision"] != "tf32" else ""
    return f"{row['side']}, {row['activation']}{sixteen}"
