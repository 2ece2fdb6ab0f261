"""From what was measured to rows, tables and files."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from common.cells import Cell
from common.tables import Row, geometric_mean, table
from common.timing import Times

from cpu.cells import Case

KERAS = ("keras graph", "keras xla")
AGAINST = ("torch", "onnxruntime", "reference")


def rows_of(case: Case, times: Mapping[str, Times]) -> list[Row]:
    """A row for each side. A ratio is the other's median over this side's: above 1 this side is the faster one.

    Args:
        case: What was timed.
        times: What was measured of each side.
    """
    milliseconds = {name: float(f"{1e3 * measured.median:.6g}") for name, measured in times.items()}
    others = {"keras": min(milliseconds[name] for name in KERAS)} | {
        name: milliseconds[name] for name in AGAINST if name in milliseconds
    }
    cell, rows = case.cell, []
    for name, measured in times.items():
        rate = case.cell.operations(case.mode) / (milliseconds[name] / 1e3)
        row: Row = {"mode": case.mode, "activation": case.activation}
        row |= {"batch": cell.batch, "steps": cell.steps, "features": cell.features, "units": cell.units}
        row |= {"side": name, "rounds": len(measured.seconds), "steps_a_round": measured.repeats}
        row |= {"median_ms": milliseconds[name], "spread": float(f"{measured.spread:.3g}")}
        for other in ("keras", *AGAINST):
            row[f"{other}_over_this"] = float(f"{others[other] / milliseconds[name]:.5g}") if other in others else ""
        rows.append(row | {"gflops": float(f"{rate / 1e9:.4g}")})
    return rows


def _cell(row: Row) -> Cell:
    return Cell(row["batch"], row["steps"], row["features"], row["units"])


def _grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def ratio_lines(rows: Sequence[Row], other: str) -> list[list[object]]:
    """For each activation: its cells, the mean ratio in small and in large batches, and the smallest of all."""
    column, lines = f"{other}_over_this", []
    rows = [row for row in rows if row["side"] == "native" and row[column] != ""]
    for activation, mine in _grouped(rows, lambda row: row["activation"]).items():
        least = min(mine, key=lambda row: row[column])
        small = geometric_mean(row[column] for row in mine if row["batch"] <= 8)
        large = geometric_mean(row[column] for row in mine if row["batch"] >= 32)
        lines.append([activation, len(mine), small, large, least[column], str(_cell(least))])
    return lines


def cost_lines(rows: Sequence[Row]) -> list[list[object]]:
    """For each activation but tanh: the mean over the cells of native's time over its time with tanh."""
    medians = {
        (row["mode"], row["activation"], _cell(row)): row["median_ms"] for row in rows if row["side"] == "native"
    }
    ratios: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (mode, activation, cell), median in medians.items():
        if activation != "tanh" and (mode, "tanh", cell) in medians:
            ratios[activation][mode].append(median / medians[mode, "tanh", cell])
    return [[name, geometric_mean(of["training"]), geometric_mean(of["inference"])] for name, of in ratios.items()]


def share_lines(rows: Sequence[Row]) -> list[list[object]]:
    """Native's and Keras's share of the matrix product's rate, for each wide cell in a large batch."""
    wide = [row for row in rows if row["units"] >= 128 and row["batch"] >= 64]
    lines = []
    for (mode, cell), mine in _grouped(wide, lambda row: (row["mode"], _cell(row))).items():
        native = [row["share_of_matmul"] for row in mine if row["side"] == "native"]
        keras = _grouped((row for row in mine if row["side"] in KERAS), lambda row: row["activation"])
        best = [max(row["share_of_matmul"] for row in both) for both in keras.values()]
        shares = (min(native), geometric_mean(native), geometric_mean(best))
        lines.append([mode, str(cell), *(f"{value:.0%}" for value in shares)])
    return lines


def torch_lines(rows: Sequence[Row]) -> list[list[object]]:
    """Where torch itself is above half of the matrix product's rate, so that no ratio of 2 can be had."""
    fast = [
        row for row in rows if row["side"] == "torch" and row["mode"] == "training" and row["share_of_matmul"] > 0.5
    ]
    return [[str(_cell(row)), f"{row['share_of_matmul']:.0%}", 1 / row["share_of_matmul"]] for row in fast]


def batch_one_lines(rows: Sequence[Row]) -> list[list[object]]:
    """Inference at batch 1, cell by cell."""
    ones = [row for row in rows if row["mode"] == "inference" and row["batch"] == 1 and row["activation"] == "tanh"]
    lines = []
    for cell, mine in _grouped(ones, _cell).items():
        times = {row["side"]: row["median_ms"] for row in mine}
        native, keras = times["native"], min(times[name] for name in KERAS)
        if "onnxruntime" in times:
            line = [str(cell), *(f"{t:.3f}" for t in (native, times["onnxruntime"], keras))]
            lines.append([*line, times["onnxruntime"] / native, keras / native])
    return lines


def memory_lines(rows: Sequence[Row]) -> list[list[object]]:
    """Megabytes of each side, and the smaller of Keras's two over native's."""
    lines = []
    for cell, mine in _grouped(rows, lambda row: row["cell"]).items():
        held = {row["side"]: row["megabytes"] for row in mine}
        figures = [f"{held[name]:.0f}" if name in held else "-" for name in ("native", "reference", *KERAS)]
        lines.append([cell, *figures, min(held[name] for name in KERAS if name in held) / held["native"]])
    return lines


def summary(rows: Sequence[Row], memory: Sequence[Row], header: Sequence[str]) -> str:
    """The tables as a page of Markdown."""
    of = ["activation", "cells", "batch 8 and less", "batch 32 and more", "smallest", "in cell"]
    text = ["# The native LSTM engine on a CPU", "", *header]
    text += [
        "",
        "A ratio is the other side's median over ours: above 1 ours is the faster one. Means are geometric.",
        "",
    ]
    for mode in ("training", "inference"):
        chosen = [row for row in rows if row["mode"] == mode]
        for other, title in (
            ("keras", "the faster of Keras's two"),
            ("torch", "torch"),
            ("onnxruntime", "onnxruntime"),
            ("reference", "our reference engine"),
        ):
            lines = table(of, ratio_lines(chosen, other))
            text += [f"## {mode.capitalize()} against {title}", "", *lines] if lines else []
    sections = {
        "Time of each activation over that of tanh, native": table(
            ["activation", "training", "inference"], cost_lines(rows)
        ),
        "Share of the matrix product's rate, wide cells in large batches": table(
            ["mode", "cell", "native, its lowest activation", "native, mean", "Keras, mean"], share_lines(rows)
        ),
        "Cells in which torch trains at more than half of the matrix product's rate": table(
            ["cell", "torch's share of it", "ratio of an engine that reached all of it"], torch_lines(rows)
        ),
        "Inference at batch 1, tanh, milliseconds": table(
            ["cell", "native", "onnxruntime", "Keras", "onnxruntime over native", "Keras over native"],
            batch_one_lines(rows),
        ),
        "Peak memory of training, tanh, MB": table(
            ["cell", "native", "reference", *KERAS, "smaller of Keras's over native"], memory_lines(memory)
        ),
    }
    for title, lines in sections.items():
        text += [f"## {title}", "", *lines] if lines else []
    return "\n".join(text)
