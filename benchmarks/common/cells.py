"""A size that is timed, and the numbers that every side computes with. NumPy only."""

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CLASSES = 6


@dataclass(frozen=True)
class Cell:
    """One size of the problem.

    Args:
        batch: Number of sequences.
        steps: Number of steps in each sequence.
        features: Number of input channels.
        units: Width of the LSTM.

    Example:
    >>> str(Cell(8, 32, 64, 128)), Cell.parse("b8_t32_d64_h128") == Cell(8, 32, 64, 128)
    ('b8_t32_d64_h128', True)
    """

    batch: int
    steps: int
    features: int
    units: int

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """The cell that `text` names. Raises `ValueError` where it is not such a name."""
        found = re.fullmatch(r"b([1-9]\d*)_t([1-9]\d*)_d([1-9]\d*)_h([1-9]\d*)", text.strip())
        if not found:
            raise ValueError(
                f"cell {text!r} is not understood; write batch, steps, features and units as b8_t32_d64_h128"
            )
        return cls(*(int(number) for number in found.groups()))

    def __str__(self) -> str:
        return f"b{self.batch}_t{self.steps}_d{self.features}_h{self.units}"

    def operations(self, mode: str) -> int:
        """Floating-point operations of the matrix products of one step, a multiplication and an addition being two."""
        per_column = 2 * self.batch * self.steps * 4 * self.units
        forward = per_column * (self.features + self.units)
        # Backward, the gradients of both kernels and of h; the one of x is not asked for.
        return forward if mode == "inference" else 3 * forward - per_column * self.features


@dataclass(frozen=True)
class Arrays:
    """The numbers of a cell, the same for every side.

    Attributes:
        x: (batch, steps, features).
        labels: (batch,), classes.
        kernel: (features, 4 * units), gates in the order i, f, c, o.
        recurrent_kernel: (units, 4 * units); small, so that an unbounded activation does not blow up.
        bias: (4 * units,), 1 for the forget gate and else 0.
        head_kernel: (units, CLASSES).
        head_bias: (CLASSES,).
    """

    x: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.int32]
    kernel: NDArray[np.float32]
    recurrent_kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    head_kernel: NDArray[np.float32]
    head_bias: NDArray[np.float32]


def arrays(cell: Cell) -> Arrays:
    """The numbers of `cell`: always the same ones."""
    random, units = np.random.default_rng(0), cell.units

    def normal(*shape: int, deviation: float = 1.0) -> NDArray[np.float32]:
        return (deviation * random.standard_normal(shape)).astype("float32")

    bias = np.zeros(4 * units, "float32")
    bias[units : 2 * units] = 1.0
    return Arrays(
        x=normal(cell.batch, cell.steps, cell.features),
        labels=random.integers(CLASSES, size=cell.batch, dtype=np.int32),
        kernel=normal(cell.features, 4 * units, deviation=cell.features**-0.5),
        recurrent_kernel=normal(units, 4 * units, deviation=0.2 * units**-0.5),
        bias=bias,
        head_kernel=normal(units, CLASSES, deviation=units**-0.5),
        head_bias=np.zeros(CLASSES, "float32"),
    )
