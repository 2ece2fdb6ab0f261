"""Time sides in turn on a GPU: twenty rounds of each, fewer of one that is slow."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from common.timing import Run, Times

LEAST = 3  # rounds of the slowest side
SLOW = 0.1  # seconds: what other sides left in the caches does not matter to a step that takes so long


@dataclass(frozen=True)
class Effort:
    """How much is run.

    Attributes:
        rounds: Of a side that is not slow.
        limit: Seconds that one side may take in all.
        turn: Seconds: shorter steps are run several times a turn, 50 times at most.
        warm_up: Steps before the first round; the last of them says how long one takes.
    """

    rounds: int = 20
    limit: float = 4.0
    turn: float = 0.01
    warm_up: int = 3


DRY = Effort(rounds=2, turn=0.0, warm_up=1)


def in_turn(runs: Mapping[str, Run], effort: Effort) -> dict[str, Times]:
    """Time `runs` round by round, each round beginning with another one, without pauses.

    On a CPU (`common.timing.alternate`) all sides run equally many rounds. Here one side may take a thousand times as
    long as another, so a slow one leaves when its `limit` is used up, after `LEAST` rounds at the earliest.

    Args:
        runs: A side each; compiled, but not yet warm.
        effort: How much to run.

    Returns:
        What was measured of each side.
    """
    once, repeats, allowed = {}, {}, {}
    for name, run in runs.items():
        once[name] = max(_warm(run, effort.warm_up), 1e-9)
        repeats[name] = int(np.clip(math.ceil(effort.turn / once[name]), 1, 50))
        turn = once[name] * (repeats[name] + (once[name] < SLOW))
        allowed[name] = int(np.clip(effort.limit / turn, min(LEAST, effort.rounds), effort.rounds))
    names, spent = list(runs), {name: list[float]() for name in runs}
    for turn in range(effort.rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if turn < allowed[name]:
                if once[name] < SLOW:
                    runs[name](1)  # not timed: it finds others' data in the caches
                spent[name].append(runs[name](repeats[name]) / repeats[name])
    return {name: Times(np.array(values), repeats[name]) for name, values in spent.items()}


def _warm(run: Run, steps: int) -> float:
    """Run up to so many steps, one where a step is slow, and give the seconds of the last."""
    for _ in range(steps):
        once = run(1)
        if once > SLOW:
            break
    return once
