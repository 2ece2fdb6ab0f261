"""What is timed: the sizes, the activations, and the numbers that every side computes with. NumPy only."""

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

CLASSES = 6
SLOPE = 0.1
# Our name of each activation; the gates are sigmoids throughout.
ACTIVATIONS = {
    "tanh": "tanh",
    "relu": "relu",
    "leaky_relu": f"leaky_relu({SLOPE})",
    "prelu": f"prelu({SLOPE})",
    "hard_tanh": "hard_tanh",
    "silu": "silu",
}
MODES = ("training", "inference")


@dataclass(frozen=True)
class Cell:
    """One size of the problem.

    Args:
        batch: Sequences.
        steps: Of each sequence.
        features: Channels of the input.
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
class Case:
    """A cell with an activation, in training or inference."""

    cell: Cell
    activation: str
    mode: str

    def __str__(self) -> str:
        return f"{self.mode} {self.activation} {self.cell}"


# A fifth of all combinations of batch 1, 8, 32, 64, 128; steps 32, 128, 512; features 8, 64; units 32, 64, 128, 256.
# Every pair of batch and units stands here at least once, every pair of steps and features four times, and what would
# take more than 14 GFLOP a training step (long, wide and in large batches at once) not at all.
CELLS = tuple(
    Cell.parse(name)
    for name in [
        "b1_t32_d64_h32",
        "b1_t128_d8_h64",
        "b1_t512_d64_h128",
        "b1_t32_d8_h256",
        "b1_t512_d8_h32",
        "b8_t512_d8_h32",
        "b8_t32_d64_h64",
        "b8_t128_d8_h128",
        "b8_t512_d64_h256",
        "b8_t128_d64_h256",
        "b32_t128_d64_h32",
        "b32_t512_d8_h64",
        "b32_t32_d64_h128",
        "b32_t128_d8_h256",
        "b32_t512_d64_h64",
        "b64_t512_d64_h32",
        "b64_t32_d8_h64",
        "b64_t128_d64_h128",
        "b64_t32_d8_h256",
        "b64_t512_d8_h128",
        "b128_t32_d8_h32",
        "b128_t128_d64_h64",
        "b128_t128_d8_h128",
        "b128_t32_d64_h256",
    ]
)
QUICK_CELLS = (Cell(1, 6, 3, 5), Cell(32, 5, 4, 8))
QUICK_MEMORY = (Cell(32, 64, 4, 64),)
MEMORY_CELLS = (Cell(128, 128, 64, 256), Cell(64, 512, 64, 128), Cell(128, 512, 8, 64), Cell(32, 512, 64, 256))


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
