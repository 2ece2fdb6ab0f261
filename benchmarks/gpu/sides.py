"""What the sides of both frameworks share: the layers, their weights, and how their results are compared."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
from common.cells import Arrays, Cell
from common.timing import Run
from numpy.typing import NDArray

from gpu.plan import ACTIVATIONS, ENGINES, KERAS, Case, Side
from zoo import kernels
from zoo.kernels.contract import LayerSpec
from zoo.layers import LSTM
from zoo.types import Gates

# Relative to the norm of what is compared; what computes something else is 1 away. With 10 bits of mantissa (tf32,
# float16) a share of 5e-4 of all numbers lands on the other side of a kink such as relu's, where the slope is another:
# the root of it, 2e-2, is the error of a gradient. With 7 bits (bfloat16) it is three times as much.
TOLERANCE = {"float32": 1e-3, "tf32": 5e-2, "float16": 5e-2, "bfloat16": 2e-1}


@dataclass(frozen=True)
class Prepared:
    """A side that is ready to run a case.

    Attributes:
        run: Runs steps and gives their seconds.
        result: What one step computes. Training: the gradients of x, kernel, recurrent kernel and bias. Inference: the
            last output.
        note: What is worth saying of what runs, such as "cudnn"; else "".
    """

    run: Run
    result: list[NDArray[np.float32]] = field(repr=False)
    note: str = ""


class Framework(Protocol):
    """JAX or torch, as the measuring process sees it."""

    def describe(self) -> dict[str, Any]:
        """The device, the versions, and the seconds of the smallest call there is."""

    def ceilings(self, dry: bool) -> dict[str, float]:
        """Operations a second of a large matrix product by precision, and "copy", bytes a second; none if unknown."""

    def prepare(self, case: Case) -> dict[Side, "Prepared | str"]:
        """Every side of `case`, compiled and run once; or why it cannot run."""

    def check(self) -> None:
        """Raise whatever the device has to report: after some errors it runs nothing any more."""

    def release(self) -> None:
        """Let go of the memory that the last case held."""


def refusal(side: Side, cell: Cell) -> str | None:
    """Why the engine of `side` cannot run `cell` here, or `None` where it can; never of a side that is no engine.

    Example:
    >>> refusal(Side("reference"), Cell(1, 1, 1, 1)), refusal(Side(KERAS), Cell(1, 1, 1, 1))
    (None, None)
    """
    if side.name not in ENGINES:
        return None
    if side.name not in kernels.ENGINES:
        return "this version has no such engine"
    layer = LSTM(**_arguments(side, cell), engine="reference")
    spec = LayerSpec(activations=Gates(**layer.gate_activations), units=cell.units, dtype=layer.compute_dtype)
    return kernels.ENGINES[side.name].refusal(spec)


def _arguments(side: Side, cell: Cell) -> dict[str, Any]:
    activation, of_gates = ACTIVATIONS[side.activation]
    named = {"activation": activation, "recurrent_activation": of_gates, "return_sequences": True, "dtype": side.dtype}
    # The weights are replaced: initial ones that are drawn would cost a compilation each.
    zeros = dict.fromkeys(("kernel_initializer", "recurrent_initializer", "bias_initializer"), "zeros")
    return {"units": cell.units, "unit_forget_bias": False, **named, **zeros}


def layer_of(side: Side, case: Case, given: Arrays) -> Any:
    """The layer of `side`, built, with the weights that every side has."""
    named = _arguments(side, case.cell)
    layer = keras.layers.LSTM(**named) if side.name == KERAS else LSTM(**named, engine=side.name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is unbounded and the sequences have")
        layer.build(given.x.shape)
    layer.set_weights([given.kernel, given.recurrent_kernel, given.bias])
    return layer


def weight_of_outputs(cell: Cell) -> NDArray[np.float32]:
    """What sum(y * w), the loss, has as its w: (batch, steps, units)."""
    shape = (cell.batch, cell.steps, cell.units)
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def attempt(prepare: Callable[[], Any]) -> Any:
    """What `prepare` gives, or why it could not: one side that fails must not cost the others their figures."""
    try:
        return prepare()
    except Exception as error:
        return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def distances(prepared: Mapping[Side, Prepared]) -> dict[Side, float]:
    """How far each side is from the first one of its activation: the largest of its results' relative distances.

    0 for that first one; NaN where a result is not finite.
    """
    found, first = {}, dict[str, Side]()
    for side, ready in prepared.items():
        expected = prepared[first.setdefault(side.activation, side)].result
        pairs = zip(ready.result, expected, strict=True)
        found[side] = float(np.max([np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-30) for a, b in pairs]))
    return found


def wrong(side: Side, apart: float) -> str | None:
    """Why the time of `side` would mean nothing, or `None`."""
    if apart <= TOLERANCE[side.precision]:
        return None
    return f"wrong: {apart:.2g} away from the first side with this activation, more than {TOLERANCE[side.precision]:g}"
