"""A doubt about what data means: what was seen, what was assumed, and how to say otherwise."""

import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOST = 0.01


@dataclass(frozen=True)
class Doubt:
    """One thing that the data leaves open.

    Attributes:
        seen: What in the data gives rise to it.
        assumed: What is done unless a person says otherwise.
        otherwise: How to say so or otherwise, as options of the command; "" where there is nothing to say.
        stops: Whether it changes what is learned (identity, clock, label, order), so that nothing is trained before
            it is answered.

    Example:
    >>> print(Doubt("column 'k' only grows", "a channel", "--time k", stops=True))
    column 'k' only grows; assumed: a channel; to say otherwise: --time k
    """

    seen: str
    assumed: str
    otherwise: str = ""
    stops: bool = False

    def __str__(self) -> str:
        otherwise = f"; to say otherwise: {self.otherwise}" if self.otherwise else ""
        return f"{self.seen}; assumed: {self.assumed}{otherwise}"


def answer(role: str, *columns: str) -> str:
    """The option that says which columns have a role.

    Example:
    >>> answer("time", "day", "hour of day")
    "--time 'day,hour of day'"
    """
    return f"--{role.replace('_', '-')} {shlex.quote(','.join(columns))}"


def lost_in_float32(name: str, numbers: NDArray[Any]) -> Doubt | None:
    """A doubt about a channel whose changes from step to step float32 cannot hold, as models compute in it.

    Args:
        name: Of the channel.
        numbers: Its values, in the order of the data.

    Example:
    >>> lost_in_float32("ms", np.array([1.7e12, 1.7e12 + 20, 1.7e12 + 40])).seen
    "float32 loses 100% of the changes of 'ms', whose values are near 1.7e+12"
    """
    changes = np.diff(numbers) != 0
    with np.errstate(over="ignore", invalid="ignore"):
        lost = changes & (np.diff(numbers.astype(np.float32)) == 0)
    if not changes.any() or lost.sum() <= _LOST * changes.sum():
        return None
    return Doubt(
        f"float32 loses {lost.sum() / changes.sum():.0%} of the changes of {name!r}, whose values are near "
        f"{np.median(numbers):.6g}",
        "a channel as it is",
        f"subtract a constant from it, or {answer('ignore', name)}",
    )
