"""Time several sides in turn, so that a slow moment of the machine falls on all of them."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WARM_UP = 2
ROUNDS = 5  # at the least
TURN = 0.02  # seconds: shorter steps are run several times a turn
PAUSE = 0.002  # seconds after a turn, for threads that still spin to go to sleep

Run = Callable[[int], float]
"""Runs so many steps, one after the other, and gives the seconds they took together."""


def timed(step: Callable[[], object]) -> Run:
    """A `Run` from one step that returns when its work is done."""

    def run(repeats: int) -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            step()
        return time.perf_counter() - started

    return run


@dataclass(frozen=True)
class Times:
    """What was measured of one side.

    Attributes:
        seconds: Of a step, (rounds,).
        repeats: Steps in each round, of which `seconds` is the mean.
    """

    seconds: NDArray[np.float64] = field(repr=False)
    repeats: int

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """The interquartile range over the median."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float((high - low) / self.median)


def alternate(runs: Mapping[str, Run], seconds: float, pause: float = PAUSE) -> dict[str, Times]:
    """Time `runs` round by round, each round beginning with another one.

    Args:
        runs: A side each.
        seconds: No new round after so long; there are `ROUNDS` in any case.
        pause: Seconds between two sides.

    Returns:
        What was measured of each side.
    """
    repeats = {}
    for name, run in runs.items():
        once = [run(1) for _ in range(WARM_UP)][-1]
        repeats[name] = int(np.clip(round(TURN / max(once, 1e-9)), 1, 200))
    names, spent = list(runs), {name: list[float]() for name in runs}
    started, turn = time.perf_counter(), 0
    while turn < ROUNDS or time.perf_counter() - started < seconds:
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            runs[name](1)  # finds others' data in the caches; in training, a step follows one like it
            spent[name].append(runs[name](repeats[name]) / repeats[name])
            time.sleep(pause)
        turn += 1
    return {name: Times(np.array(values), repeats[name]) for name, values in spent.items()}
