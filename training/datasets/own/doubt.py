"""A doubt about what data means: what was seen, what was assumed, and how to say otherwise."""

import shlex
from dataclasses import dataclass


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
