"""What is timed on a GPU: sizes, sides, and the order in which they are given up when time runs short. NumPy only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from common.cells import Cell

FRAMEWORKS = ("torch", "jax")
KERAS, TORCH = "keras", "torch.nn.LSTM"
ENGINES = ("reference", "loop", "cudnn", "cuda")
# Of candidate and hidden state; of the three gates.
ACTIVATIONS = {"tanh": ("tanh", "sigmoid"), "relu": ("relu", "sigmoid"), "custom": ("silu", "hard_sigmoid")}
PRECISIONS = ("tf32", "float32", "float16", "bfloat16")
TRAINING, INFERENCE = "training", "inference"
NARROW = 128  # units up to which the persistent kernel runs
SHORT = 128  # steps up to which the reference is timed: it is slow, and its time is proportional to them

MAIN = (Cell(64, 128, 32, 128), Cell(32, 4096, 16, 64), Cell(256, 512, 64, 256), Cell(128, 1024, 64, 512))
# 1056 rows are 8 for each of 132 multiprocessors: one more, and a kernel of 8 rows a block begins a second wave.
WAVE = Cell(1056, 128, 32, 128)
_GRID = (
    *(Cell(batch, 128, 32, units) for batch in (64, 1024, 8) for units in (128, 64, 32, 96)),
    WAVE,
    *(Cell(batch, 1024, 32, units) for batch in (64, 1024, 8) for units in (128, 64, 32, 96)),
)
SWEEP = tuple(cell for cell in _GRID if cell not in MAIN)
DRY_MAIN, DRY_SWEEP = (Cell(2, 3, 3, 4),), (Cell(2, 2, 2, 136),)


@dataclass(frozen=True)
class Side:
    """One implementation, at one precision, with one activation.

    Attributes:
        name: `KERAS`, `TORCH`, or an engine of `zoo.kernels`.
        activation: A key of `ACTIVATIONS`.
        precision: Of `PRECISIONS`. "tf32" and "float32" are both layers in float32, with and without the matrix units'
            tf32.
        graph: Recorded once as a CUDA graph and replayed: what the device needs, without Python and the launches.
    """

    name: str
    activation: str = "tanh"
    precision: str = "tf32"
    graph: bool = False

    @property
    def dtype(self) -> str:
        return "float32" if self.precision == "tf32" else self.precision

    @property
    def bytes(self) -> int:
        """Of a number."""
        return 4 if self.dtype == "float32" else 2

    def __str__(self) -> str:
        return f"{self.name} {self.activation} {self.precision}{' graph' if self.graph else ''}"


@dataclass(frozen=True)
class Case:
    """What is timed in turn, in one process."""

    cell: Cell
    mode: str
    sides: tuple[Side, ...]

    def __str__(self) -> str:
        return f"{self.mode} {self.cell}{' graph' if self.sides[0].graph else ''}"


def operations(cell: Cell, mode: str) -> int:
    """Of the matrix products of a step; in training the gradients of both kernels, of h and of x are among it."""
    return cell.operations(INFERENCE) * (3 if mode == TRAINING else 1)


def numbers_moved(cell: Cell, mode: str) -> int:
    """Numbers that a step reads from and writes to the GPU's memory, if each product reads and writes once.

    Forward, the product with x reads it and writes 4 units, which the recurrence reads, to put out one: 9 units + d.
    Training keeps four gates, c and h and reads them again, reads the gradient of h, and writes that of the four
    gates, which three products read: 33 units + 3 d in all.
    """
    of_units, of_features = (33, 3) if mode == TRAINING else (9, 1)
    return cell.batch * cell.steps * (of_units * cell.units + of_features * cell.features)


def cases(framework: str, dry: bool = False) -> list[Case]:
    """All cases of a framework, the most important first.

    Args:
        framework: Of `FRAMEWORKS`.
        dry: Tiny sizes for a CPU, every kind of side once.
    """
    main, sweep = (DRY_MAIN, DRY_SWEEP) if dry else (MAIN, SWEEP)
    found = [Case(cell, TRAINING, _main_sides(framework, cell)) for cell in main]
    found += [Case(c.cell, INFERENCE, tuple(s for s in c.sides if s.activation != "custom")) for c in found]
    found += [Case(cell, TRAINING, _sweep_sides(framework)) for cell in sweep]
    if framework == "torch":  # last, because a graph that cannot be recorded may spoil what follows
        narrow = [cell for cell in (*main, *sweep[:3]) if cell.units <= NARROW]
        found += [Case(cell, TRAINING, _graph_sides()) for cell in narrow]
    return found


def _main_sides(framework: str, cell: Cell) -> tuple[Side, ...]:
    """Peers first: what the others' results are held against."""
    if framework == "torch":
        sides = [Side(TORCH, precision=precision) for precision in ("float32", "tf32", "float16", "bfloat16")]
    else:
        sides = [Side(KERAS), Side(KERAS, "relu")]
    if cell.steps <= SHORT:
        sides.append(Side("reference"))
    sides += [Side("loop", activation) for activation in ACTIVATIONS]
    sides += [Side("cudnn"), *(Side("cuda", activation) for activation in ACTIVATIONS)]
    return (*sides, *(Side(name, precision="bfloat16") for name in ("cudnn", "cuda")))


def _sweep_sides(framework: str) -> tuple[Side, ...]:
    if framework == "torch":
        peers = [Side(TORCH, precision=precision) for precision in ("tf32", "float16", "bfloat16")]
        return (*peers, Side("cuda"), Side("cuda", "relu"), Side("cuda", precision="bfloat16"))
    return Side(KERAS), Side(KERAS, "relu"), Side("cuda"), Side("cuda", "relu")


def _graph_sides() -> tuple[Side, ...]:
    peers = [Side(TORCH, precision=precision, graph=True) for precision in ("tf32", "float16", "bfloat16")]
    return (*peers, *(Side("cuda", precision=precision, graph=True) for precision in ("tf32", "bfloat16")))


def spared(found: Sequence[Case], numbers: Collection[int]) -> list[Case]:
    """The cases, those of these numbers without our kernels; their number stays what it was."""
    return [
        replace(case, sides=tuple(side for side in case.sides if side.name != "cuda" or number not in numbers))
        for number, case in enumerate(found)
    ]
