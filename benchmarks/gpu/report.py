"""The page of tables, from the lines that the measuring processes wrote."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.tables import table

from gpu.compare import (
    CUSTOM_COST,
    OURS,
    Comparison,
    Row,
    activation_costs,
    cell_of,
    comparisons,
    floors_ms,
    grouped,
    with_floors,
)
from gpu.plan import DRY_MAIN, INFERENCE, KERAS, MAIN, TORCH, TRAINING, Side

Line = dict[str, Any]
MAIN_CELLS = (*MAIN, *DRY_MAIN)


def read(path: Path) -> list[Line]:
    """The lines of a file of measurements; one that was cut off, as its process was killed, is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def rows_of(lines: Iterable[Line]) -> list[Row]:
    """The rows among the lines, with their floors."""
    lines = list(lines)
    return with_floors([_without(line, "kind") for line in lines if line["kind"] == "row"], ceilings_of(lines))


def ceilings_of(lines: Iterable[Line]) -> dict[str, float]:
    """The rates of the card, from whichever process measured them."""
    found: dict[str, float] = {}
    for line in lines:
        found |= line.get("ceilings", {})
    return found


def page(lines: Sequence[Line], header: Sequence[str]) -> str:
    """The tables as a page of Markdown."""
    rows, ceilings = rows_of(lines), ceilings_of(lines)
    found = comparisons(rows)
    steps = [c for c in found if c.ours["mode"] == TRAINING and c.ours["call"] == "call"]
    text = ["# The LSTM engines on a GPU", "", *header, *_devices(lines), *_rates(ceilings), "", *ABOUT, ""]
    sections = {
        "Where we lose": _lost(rows, found),
        "Training step, the four sizes": _ratios(c for c in steps if cell_of(c.ours) in MAIN_CELLS),
        "Training step, the sweep over units, batch and steps": _ratios(
            c for c in steps if cell_of(c.ours) not in MAIN_CELLS
        ),
        "Inference": _ratios(c for c in found if c.ours["mode"] == INFERENCE),
        "Training step replayed as a CUDA graph: the device alone": _ratios(
            c for c in found if c.ours["call"] == "graph"
        ),
        "Custom activation (silu, gates hard_sigmoid) over tanh": _costs(rows),
        "The two floors of a training step": _floors(rows, ceilings),
        "Every side, training step, milliseconds": _overview(rows, TRAINING),
        "Every side, inference, milliseconds": _overview(rows, INFERENCE),
        "Left out": _left_out(lines),
        "Skipped for want of time": _skipped(lines),
    }
    for title, part in sections.items():
        text += [f"## {title}", "", *part] if part else []
    return "\n".join(text).rstrip() + "\n"


ABOUT = (
    "A training step is the forward pass of the layer and the gradients of sum(y * w): of x, of all weights. Inference "
    "is the layer alone. Every output is asked for. A ratio is the peer's median over ours: above 1 ours is the faster "
    "one. tf32 and float32 are layers in float32, with and without the matrix units' tf32. Times are medians; "
    "their spread and the smallest of each are in the table of all rows.",
)


def _devices(lines: Iterable[Line]) -> list[str]:
    found = {}
    for line in lines:
        if line["kind"] == "device":
            named = [
                f"{title} {line[name]}" for name, title in (("cuda", "CUDA"), ("cudnn", "cuDNN")) if line.get(name)
            ]
            of = ", ".join([line["gpu"], *named])
            smallest = f"the smallest call takes {line['call_us']:.1f} us"
            found[line["framework"]] = f"- {line['framework']} on {of}: {smallest}"
    return list(found.values())


def _rates(ceilings: Mapping[str, float]) -> list[str]:
    if not ceilings:
        return ["- rates of the card: not measured, so that there are no floors"]
    products = ", ".join(f"{ceilings[name] / 1e12:.4g} in {name}" for name in ("bfloat16", "tf32", "float32"))
    copied = f"copy {ceilings['copy'] / 1e12:.3g} TB/s, bytes read and written"
    return [f"- rates measured on this card: large matrix product, TFLOP/s, {products}; {copied}"]


def _ms(row: Row) -> str:
    return f"{row['median_ms']:.4g}"


def _ratios(found: Iterable[Comparison]) -> list[str]:
    columns = ["framework", "cell", "activation", "ours", "ms", "against", "ms", "times as fast", "target", "met"]
    lines = []
    for c in found:
        ours, peer = c.ours, c.peer
        note = f" ({peer['note']})" if peer["note"] else ""
        line: list[object] = [ours["framework"], str(cell_of(ours)), ours["activation"]]
        line += [f"{ours['side']} {ours['precision']}", _ms(ours)]
        line += [f"{peer['side']} {peer['precision']}{note}", _ms(peer), f"**{c.ratio:.2f}**"]
        verdict = ["-", "-"] if c.target is None else [f"{c.target:g}", "yes" if c.met else "no"]
        lines.append([*line, *verdict])
    return table(columns, lines)


def _costs(rows: Sequence[Row]) -> list[str]:
    lines = []
    for cost in activation_costs(rows):
        tanh, custom = cost.tanh, cost.custom
        of = [tanh["framework"], str(cell_of(tanh)), tanh["side"], _ms(tanh), _ms(custom)]
        lines.append([*of, f"{cost.share:+.0%}", "yes" if cost.met else "no"])
    met = f"at most {CUSTOM_COST:+.0%}"
    return table(["framework", "cell", "engine", "tanh, ms", "custom, ms", "cost", met], lines)


def _floors(rows: Sequence[Row], ceilings: Mapping[str, float]) -> list[str]:
    chosen = [row for row in rows if row["mode"] == TRAINING and row["call"] == "call" and cell_of(row) in MAIN_CELLS]
    lines = []
    for (cell, precision), mine in grouped(chosen, lambda row: (cell_of(row), row["precision"])).items():
        floors = floors_ms(cell, TRAINING, Side(KERAS, precision=precision), ceilings)
        if not floors:
            continue
        best = [
            min((row for row in mine if row["side"] in names), key=lambda row: row["median_ms"], default=None)
            for names in (OURS, (KERAS, TORCH))
        ]
        shares = [f"{row['framework']} {row['side']}: {row['floor_share']:.1%}" if row else "-" for row in best]
        lines.append([str(cell), precision, *(f"{floors[name]:.3g}" for name in ("operations", "bytes")), *shares])
    columns = ["cell", "precision", "operations, ms", "bytes, ms"]
    return table([*columns, "larger floor over our best time", "over the best peer's"], lines)


def _overview(rows: Sequence[Row], mode: str) -> list[str]:
    chosen = [row for row in rows if row["mode"] == mode and row["call"] == "call" and cell_of(row) in MAIN_CELLS]
    cells = list(dict.fromkeys(cell_of(row) for row in chosen))
    lines = []
    for side, mine in grouped(chosen, lambda r: (r["framework"], r["side"], r["activation"], r["precision"])).items():
        times = {cell_of(row): _ms(row) for row in mine}
        lines.append([*side, *(times.get(cell, "-") for cell in cells)])
    return table(["framework", "side", "activation", "precision", *map(str, cells)], lines)


def _lost(rows: Sequence[Row], found: Sequence[Comparison]) -> list[str]:
    """What a reader should know first: the targets that are missed, and where the peer is the faster one."""
    if not found:
        return ["Nothing could be compared in this run.", ""]
    hoped, costs = [c for c in found if c.target is not None], activation_costs(rows)
    missed = [
        f"- {_ours(c)}: {c.ratio:.2f} times as fast as {_peer(c)}, and the target is {c.target:g}"
        for c in hoped
        if not c.met
    ]
    for cost in costs:
        if not cost.met:
            where = f"training, {cost.tanh['framework']}, {cell_of(cost.tanh)}: `{cost.tanh['side']}`"
            missed.append(f"- {where}, custom over tanh: {cost.share:+.0%}, and the target is {CUSTOM_COST:+.0%}")
    slower = sorted((c for c in found if c.ratio < 1), key=lambda c: c.ratio)
    lost = [f"- {_ours(c)}: {1 / c.ratio:.2f} times as long as {_peer(c)}" for c in slower]
    said = f"{len(missed)} of {len(hoped) + len(costs)} targets are missed; "
    text = [f"{said}in {len(lost)} of {len(found)} comparisons the peer is the faster one.", ""]
    for title, lines in (("Missed:", missed), ("Slower:", lost)):
        text += [title, "", *lines, ""] if lines else []
    return text


def _ours(c: Comparison) -> str:
    how = "training, as a graph" if c.ours["call"] == "graph" else c.ours["mode"]
    named = f"`{c.ours['side']}` {c.ours['precision']}, {c.ours['activation']}"
    return f"{how}, {c.ours['framework']}, {cell_of(c.ours)}: {named}"


def _peer(c: Comparison) -> str:
    return f"`{c.peer['side']}` {c.peer['precision']}"


def _left_out(lines: Sequence[Line]) -> list[str]:
    """A line for each side and reason, with how often it was given and where first."""
    said = [line for line in lines if line["kind"] in ("left_out", "broken")]
    found = []
    for (framework, side, reason), mine in grouped(
        said, lambda line: (line["framework"], line.get("side", "the process"), line["reason"])
    ).items():
        first = ", ".join(mine[0][name] for name in ("of", "case") if name in mine[0])
        often = f"{len(mine)} times, first {first}" if len(mine) > 1 else first
        found.append(f"- {framework}, {side} ({often}): {reason}")
    return [*found, ""] if found else []


def _skipped(lines: Sequence[Line]) -> list[str]:
    found = grouped((line for line in lines if line["kind"] == "skipped"), lambda line: line["framework"])
    return [f"- {name}: {', '.join(line['case'] for line in mine)}" for name, mine in found.items()]


def _without(line: Line, *names: str) -> Line:
    return {name: value for name, value in line.items() if name not in names}
