"""The process that measures one framework: writes a line of JSON for all that it learns, as soon as it knows it.

JAX and torch each take the GPU's memory for themselves, and an error of a kernel can end the process: so each framework
has its own, and what was measured before is kept.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from common.progress import progress

from gpu.machine import NO_GPU
from gpu.plan import FRAMEWORKS, Case, Side, cases, spared
from gpu.sides import Framework, Prepared, distances, wrong
from gpu.turns import DRY, Effort, in_turn

BROKEN = 3  # exit code: the device runs nothing any more
Emit = Callable[..., None]


@click.command()
@click.argument("name", type=click.Choice(FRAMEWORKS))
@click.option("--lines", type=click.Path(path_type=Path), required=True)
@click.option("--seconds", type=float, required=True)
@click.option("--start", default=0)
@click.option("--spare", default="")
@click.option("--dry", is_flag=True)
def main(name: str, lines: Path, seconds: float, start: int, spare: str, dry: bool) -> None:
    """Measure one framework."""
    until = time.monotonic() + seconds
    with lines.open("a") as file:

        def emit(kind: str, **what: Any) -> None:
            print(json.dumps({"kind": kind, "framework": name} | what), file=file, flush=True)

        framework = open_framework(name)
        device = framework.describe()
        if device["gpu"] == NO_GPU and not dry:
            emit("left_out", case="every case", side=name, reason="it sees no GPU here")
            return
        emit("device", **device, ceilings=framework.ceilings(dry))
        found = spared(cases(name, dry), [int(number) for number in spare.split(",") if number])
        if not measure(framework, found, start, until, DRY if dry else Effort(), emit):
            sys.exit(BROKEN)


def open_framework(name: str) -> Framework:
    if name == "torch":
        from gpu.torch_sides import Torch

        return Torch()
    from gpu.jax_sides import Jax

    return Jax()


def measure(framework: Framework, found: Sequence[Case], start: int, until: float, effort: Effort, emit: Emit) -> bool:
    """Measure the cases from number `start` on, and say which were skipped for want of time.

    Args:
        framework: What runs them.
        found: All cases, the most important first.
        start: The first to measure.
        until: No case begins after this moment of `time.monotonic`.
        effort: How much to run of each.
        emit: Called with the kind of a line and what it says.

    Returns:
        Whether the device still runs.
    """
    with progress(type(framework).__name__.lower(), len(found)) as done:
        for number, case in enumerate(found):
            if number >= start and time.monotonic() > until:
                emit("skipped", case=str(case))
            elif number >= start and case.sides:
                emit("begins", number=number, case=str(case))
                try:
                    _measure_case(framework, case, effort, emit)
                    framework.check()
                except Exception as error:
                    emit("broken", case=str(case), reason=f"{type(error).__name__}: {str(error)[:300]}")
                    return False
                framework.release()
            done(str(case))
    return True


def _measure_case(framework: Framework, case: Case, effort: Effort, emit: Emit) -> None:
    prepared: dict[Side, Prepared] = {}
    for side, ready in framework.prepare(case).items():
        if isinstance(ready, str):
            emit("left_out", case=str(case), side=side.name, of=str(side), reason=ready)
        else:
            prepared[side] = ready
    apart = distances(prepared)
    for side in list(prepared):
        reason = wrong(side, apart[side])
        if reason:
            emit("left_out", case=str(case), side=side.name, of=str(side), reason=reason)
            del prepared[side]
    times = in_turn({str(side): ready.run for side, ready in prepared.items()}, effort) if prepared else {}
    for side, ready in prepared.items():
        measured, cell = times[str(side)], case.cell
        emit(
            "row",
            mode=case.mode,
            activation=side.activation,
            batch=cell.batch,
            steps=cell.steps,
            features=cell.features,
            units=cell.units,
            side=side.name,
            precision=side.precision,
            call="graph" if side.graph else "call",
            note=ready.note,
            apart=_digits(apart[side], 3),
            rounds=len(measured.seconds),
            steps_a_round=measured.repeats,
            median_ms=_digits(1e3 * measured.median, 6),
            min_ms=_digits(1e3 * measured.seconds.min(), 6),
            spread=_digits(measured.spread, 3),
        )


def _digits(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


if __name__ == "__main__":
    main()
