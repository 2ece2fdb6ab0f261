"""What the generated problems have in common."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Dataset, Examples, Spec, Split

LICENCE = "none: generated"

HOCHREITER = "S. Hochreiter and J. Schmidhuber (1997). Long short-term memory. Neural Computation 9(8), 1735-1780"
HOCHREITER_PAGE = "https://doi.org/10.1162/neco.1997.9.8.1735"
ARJOVSKY = (
    "M. Arjovsky, A. Shah and Y. Bengio (2016). Unitary evolution recurrent neural networks. ICML, arXiv:1511.06464"
)
ARJOVSKY_PAGE = "https://doi.org/10.48550/arXiv.1511.06464"

_VERSION = 1
"""Part of every seed: a problem whose rule changes must not pass for the one that earlier figures were measured on."""


class InvalidLength(ValueError):
    """A length that the problem cannot have."""

    exit_code = 2


class Synthetic(Dataset):
    """A problem made by a rule from seeded random numbers.

    The random numbers are those of `numpy.random.RandomState`, whose stream NumPy has frozen, and what is done with
    them is exact or correctly rounded (no powers, no transcendental functions), so the data is the same on every
    machine.

    A subclass sets the class attributes and implements `_describe` and `_make`.

    Args:
        length: How long; what is counted differs from problem to problem. None: the usual length.

    Attributes:
        family: The problem's name in `DATASETS` and in `FAMILIES`.
        usual_length: What `length` is under the plain name.
        shortest: The smallest `length`.
        counted: What `length` counts.
        counts: Examples per split.

    Raises:
        InvalidLength: `length` is too small.
    """

    family: ClassVar[str]
    usual_length: ClassVar[int]
    shortest: ClassVar[int]
    counted: ClassVar[str]
    counts: ClassVar[dict[str, int]] = {"train": 5000, "test": 1000}

    def __init__(self, length: int | None = None) -> None:
        if length is not None and length < self.shortest:
            raise InvalidLength(f"{self.family} has length {length}, expected at least {self.shortest} {self.counted}")
        self.length = self.usual_length if length is None else length
        self.spec = self._describe(self.family if length is None else f"{self.family}/{length}")

    @classmethod
    def of_length(cls, variant: str) -> Self:
        """The problem of the length that `variant` spells; for `FAMILIES`.

        Raises:
            InvalidLength: `variant` is not a whole number, or is too small.
        """
        if not (variant.isascii() and variant.isdecimal()):
            raise InvalidLength(
                f"{cls.family} has length {variant!r}, expected a whole number of {cls.counted}, "
                f"as in {cls.family}/{cls.usual_length}"
            )
        return cls(int(variant))

    @property
    def split_rule(self) -> str:
        """The sentence of the spec."""
        return (
            f"generated with numpy.random.RandomState([{_VERSION}, {self.length}]): the first {self.counts['train']} "
            f"are train, the next {self.counts['test']} test; no sequence is in both"
        )

    def _read(self, split: Split) -> Examples:
        train, total = self.counts["train"], sum(self.counts.values())
        chosen = slice(0, train) if split == "train" else slice(train, total)
        return self._make(np.random.RandomState([_VERSION, self.length]), total, chosen)

    @abstractmethod
    def _describe(self, name: str) -> Spec: ...

    @abstractmethod
    def _make(self, random: np.random.RandomState, total: int, chosen: slice) -> Examples:
        """Draw `total` examples, which always takes the same random numbers, and return the `chosen`."""


def distinct_rows(draw: Callable[[int], NDArray[Any]], count: int) -> NDArray[Any]:
    """Draw until there are `count` different rows; those drawn again are dropped.

    Args:
        draw: Gives that many rows.
        count: How many to draw; more than that must exist, or this never ends.

    Returns:
        The rows in the order in which each was drawn first.
    """
    rows = draw(count)
    while True:
        first = np.unique(rows, axis=0, return_index=True)[1]
        rows = rows[np.sort(first)]
        if len(rows) == count:
            return rows
        rows = np.concatenate([rows, draw(count - len(rows))])


def one_hot(rows: NDArray[np.int8], symbols: int) -> list[NDArray[np.float32]]:
    """A channel a symbol, 1 where the step is that symbol; steps marked -1 are left out.

    Example:
    >>> [sequence.tolist() for sequence in one_hot(np.array([[1, -1]], "int8"), 2)]
    [[[0.0, 1.0]]]
    """
    channels = np.eye(symbols, dtype=np.float32)
    return [channels[row[row >= 0]] for row in rows]
