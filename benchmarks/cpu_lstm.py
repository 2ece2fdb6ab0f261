"""The native CPU engine against our reference, Keras (graph and XLA), torch and onnxruntime.

    pip install -c constraints.txt -e ".[bench]"
    python benchmarks/cpu_lstm.py

About half an hour on 2 cores that have nothing else to do. For each cell, activation and mode all sides run in turn,
round after round, on the same weights; before that their results are compared. A training step is the forward pass of
layer and head, the cross-entropy and the gradient of all weights, not that of the input. Writes a CSV file, a page of
tables and a picture to docs/results/, named by machine and versions.
"""

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
from common.cells import Cell
from common.progress import console, progress
from cpu.cells import ACTIVATIONS, CELLS, MEMORY_CELLS, MODES, QUICK_CELLS, QUICK_MEMORY, Case

from zoo.quiet import import_keras

WHATS = ("training", "inference", "memory", "all")


def _cells(_: Any, __: Any, text: str | None) -> tuple[Cell, ...]:
    try:
        return tuple(Cell.parse(name) for name in text.split(",")) if text else ()
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _activations(_: Any, __: Any, text: str | None) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else ()
    for name in names:
        if name not in ACTIVATIONS:
            raise click.BadParameter(f"{name!r} is not timed here; choose from {', '.join(ACTIVATIONS)}")
    return names


@click.command()
@click.option(
    "--cells", callback=_cells, help="Only these, as b8_t32_d64_h128,b1_t32_d8_h64; any size may be asked for."
)
@click.option("--activations", callback=_activations, help=f"Only these of {','.join(ACTIVATIONS)}.")
@click.option("--what", type=click.Choice(WHATS), default="all", show_default=True)
@click.option("--seconds", type=float, default=2.5, show_default=True, help="Rounds of a case start for so long.")
@click.option("--quick", is_flag=True, help="Tiny cells, tanh and prelu, few rounds: to see that it works.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder; docs/results where left out.")
def main(
    cells: tuple[Cell, ...],
    activations: tuple[str, ...],
    what: str,
    seconds: float,
    quick: bool,
    output: Path | None,
) -> None:
    """Time the native CPU engine of zoo.layers.LSTM against the others."""
    import_keras()
    from common import machine
    from common.tables import write_csv
    from cpu import memory, peaks, picture, report

    load, size = machine.load(), 256 if quick else 2048
    if quick:
        cells, activations, seconds = cells or QUICK_CELLS, activations or ("tanh", "prelu"), 0.0
    memory_cells, memory_sides = (QUICK_MEMORY, memory.SIDES[:3:2]) if quick else (MEMORY_CELLS, memory.SIDES)
    cells, activations = cells or CELLS, activations or tuple(ACTIVATIONS)
    modes = [mode for mode in MODES if what in (mode, "all")]
    cases = [Case(cell, activation, mode) for mode in modes for activation in activations for cell in cells]
    peak = peaks.matmul_peak(size)
    rows = timed_rows(cases, seconds)
    held: list[dict[str, Any]] = []
    if what in ("memory", "all"):
        with progress("memory", len(memory_cells) * len(memory_sides)) as done:
            held = memory.rows(memory_cells, memory_sides, lambda: done("memory"))
    peak = max(peak, peaks.matmul_peak(size))
    rows = [row | {"share_of_matmul": float(f"{1e9 * row['gflops'] / peak:.4g}")} for row in rows]

    folder, name = output or machine.RESULTS, f"cpu_lstm_{machine.slug()}"
    folder.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python benchmarks/cpu_lstm.py", *machine.plain(sys.argv[1:], "--output")])
    product = f"- product of two matrices of {size} x {size}, float32: {peak / 1e9:.0f} GFLOP/s"
    floor = f"- calling a tf.function that adds 1: {1e3 * peaks.call_floor():.2f} ms"
    text = report.summary(rows, held, [*machine.header(command, load), product, floor])
    if rows:
        write_csv(folder / f"{name}.csv", rows)
        picture.ratios(rows).savefig(folder / f"{name}.png", dpi=110)
        text += f"\n![Keras's time over native's, every cell]({name}.png)\n"
    (folder / f"{name}_summary.md").write_text(text)
    print(text)


def timed_rows(cases: Sequence[Case], seconds: float) -> list[dict[str, Any]]:
    """Time all sides on every case."""
    import keras
    from common.timing import alternate
    from cpu.report import rows_of
    from cpu.sides import check, sides

    if not cases:
        return []
    rows, able = [], sides(console.print)
    with ExitStack() as stack:
        for side in able:
            stack.callback(side.close)
        done = stack.enter_context(progress("timing", len(cases)))
        for case in cases:
            prepared = {side.name: side.prepare(case) for side in able if side.takes(case)}
            check(case, prepared)
            rows += rows_of(case, alternate({name: side.run for name, side in prepared.items()}, seconds))
            del prepared
            keras.backend.clear_session()
            gc.collect()
            done(str(case))
    return rows


if __name__ == "__main__":
    main()
