"""The behaviour of an LSTM's gates on a batch: saturation, dead units, growth of the cell state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from zoo.activations import Activation
from zoo.diagnostics.loop import Trace
from zoo.diagnostics.recording import Recording, record, to_numpy, unknown_cells
from zoo.layers._gate_activations import KERNEL_GATES

CLOSED, OPEN = 0.05, 0.95  # beyond these a sigmoid has less than a fifth of its largest slope
MOSTLY = 0.9  # share of saturated values above which a gate is reported
ASLEEP = 1e-3  # slope below which practically no gradient passes
LARGE = 100.0  # a cell state that a bounded LSTM reaches only by counting for a hundred steps
ADVICE = {
    True: "lower its cell_clip",
    False: "bound it with cell_clip, or with the activation relu6",
    None: "bound its activations (relu6, hard_tanh), or use zoo.layers.LSTM, which has cell_clip",
}
GROWTH = 1.02  # a factor for each step: 7 times in 100 steps, 19 times in 150


@dataclass(frozen=True)
class GateStatistics:
    """One gate over every valid (row, step, unit).

    Attributes:
        gate: "input_gate", "forget_gate", "candidate" or "output_gate".
        activation: Its name.
        closed: Share below 0.05, or `None` for an activation whose values are not within [0, 1].
        open: Share above 0.95, or `None` likewise.
        minimum: Smallest finite value; NaN where there is none.
        maximum: Largest finite value.
        non_finite: Share of values that are NaN or infinite.
    """

    gate: str
    activation: str
    closed: float | None
    open: float | None
    minimum: float
    maximum: float
    non_finite: float


@dataclass(frozen=True)
class LayerGates:
    """The report on one LSTM layer, or on one LSTM cell in a stack of cells.

    Attributes:
        layer: Path of the layer inside the model, and of the cell if the layer has several.
        gates: One entry for each gate of the cell, in Keras's order i, f, c, o.
        dead_candidate: Units whose candidate passes no gradient at any step of this batch.
        dead_hidden: Units whose hidden activation passes no gradient at any step of this batch.
        units: Width of the layer.
        cell_maximum: Largest |c| at each position of the sequence, (steps,); NaN where every row is masked.
        growth: Factor by which that maximum grows at each step in the second half of the steps, in reading order.
        cell_non_finite: Share of cell states that are NaN or infinite.
        backwards: Whether the layer reads from the last position to the first.
        clipped: Whether `cell_clip` is set; `None` for a cell without that argument.
    """

    layer: str
    gates: tuple[GateStatistics, ...]
    dead_candidate: tuple[int, ...]
    dead_hidden: tuple[int, ...]
    units: int
    cell_maximum: NDArray[np.float64]
    growth: float
    cell_non_finite: float
    backwards: bool
    clipped: bool | None

    @property
    def cell_peak(self) -> tuple[float, int]:
        """Largest |c| and its position; if the state overflowed, infinity and the first such position read."""
        order = range(len(self.cell_maximum))
        for position in reversed(order) if self.backwards else order:
            if np.isinf(self.cell_maximum[position]):
                return float("inf"), position
        if np.isnan(self.cell_maximum).all():
            return float("nan"), 0
        position = int(np.nanargmax(self.cell_maximum))
        return float(self.cell_maximum[position]), position

    @property
    def findings(self) -> dict[str, str]:
        """A sentence with numbers for each problem, by its subject."""
        about = {"cell state": self._about_cell()}
        about |= {gate.gate: self._about_gate(gate) for gate in self.gates}
        about |= {f"dead {what}": self._about_dead(what, dead) for what, dead in self._dead_units.items()}
        return {subject: sentence for subject, sentence in about.items() if sentence}

    @property
    def advice(self) -> tuple[str, ...]:
        """The sentences of `findings`."""
        return tuple(self.findings.values())

    @property
    def _dead_units(self) -> dict[str, tuple[int, ...]]:
        return {"candidate": self.dead_candidate, "hidden activation": self.dead_hidden}

    def _about_cell(self) -> str | None:
        peak, position = self.cell_peak
        # Linear growth is counting, which is normal for an LSTM; only exponential growth runs away.
        if peak <= LARGE or (self.growth < GROWTH and peak < LARGE**2):
            return None
        advice = ADVICE[self.clipped]
        pace = f", growing {self.growth:.3g}-fold a step" if np.isfinite(self.growth) else ""
        return f"cell state of layer {self.layer} reached {peak:.2g} at step {position}{pace}: {advice}"

    def _about_gate(self, gate: GateStatistics) -> str | None:
        if gate.non_finite:
            return (
                f"{gate.gate} of layer {self.layer} is not finite in {gate.non_finite:.1%} of its values: "
                "find_non_finite(model, inputs) names the first"
            )
        if gate.closed is None or gate.open is None or max(gate.closed, gate.open) < MOSTLY:
            return None
        side, share = ("closed", gate.closed) if gate.closed > gate.open else ("open", gate.open)
        return (
            f"{gate.gate} of layer {self.layer} is {side} in {share:.0%} of its values, where it hardly learns: "
            "scale the inputs to unit variance, or start from a smaller bias"
        )

    def _about_dead(self, what: str, dead: tuple[int, ...]) -> str | None:
        if len(dead) <= self.units / 10:
            return None
        return (
            f"{len(dead)} of {self.units} units of layer {self.layer} are dead: their {what} passes no gradient on "
            "this batch; use leaky_relu or a smaller learning rate"
        )

    def __str__(self) -> str:
        peak, position = self.cell_peak
        rows = [
            f"{self.layer}: {self.units} units, max |c| {peak:.3g} at step {position}, growth {self.growth:.3f} a step"
        ]
        for gate in self.gates:
            share = (
                f"closed {gate.closed:6.1%}  open {gate.open:6.1%}"
                if gate.closed is not None and gate.open is not None
                else " " * 28
            )
            rows.append(
                f"  {gate.gate:<12} {gate.activation:<12} {share}  range {gate.minimum:.3g} .. {gate.maximum:.3g}"
            )
        rows.append(f"  dead units: candidate {len(self.dead_candidate)}, hidden {len(self.dead_hidden)}")
        return "\n".join([*rows, *(f"  ! {sentence}" for sentence in self.advice)])


@dataclass(frozen=True)
class GateReport:
    """The gates of every LSTM in a model.

    Attributes:
        layers: One entry a cell and call.
        skipped: Recurrent layers and cells without the gates of an LSTM, or of an unknown kind.
    """

    layers: tuple[LayerGates, ...]
    skipped: tuple[str, ...]

    @property
    def advice(self) -> tuple[str, ...]:
        """The sentences of all layers."""
        return tuple(sentence for layer in self.layers for sentence in layer.advice)

    def __str__(self) -> str:
        skipped = [f"not examined: {', '.join(self.skipped)}"] if self.skipped else []
        return "\n".join([*map(str, self.layers), *skipped])


def gate_report(model: keras.layers.Layer, inputs: Any, call_arguments: Mapping[str, Any] | None = None) -> GateReport:
    """Measure the gates of every LSTM in `model`, of the zoo, of its family or of Keras, on any backend.

    Args:
        model: A built model or layer.
        inputs: A batch as the model takes it; masked steps are left out of every figure.
        call_arguments: Further arguments of the call, such as `{"mask": mask}`.

    Raises:
        ValueError: The model is not built.

    Example:
    >>> from zoo.layers import LSTM
    >>> model = keras.Sequential([keras.Input((5, 1)), LSTM(3, activation="relu", name="lstm")])
    >>> report = gate_report(model, np.zeros((2, 5, 1), "float32"))
    >>> report.layers[0].dead_candidate, report.layers[0].cell_peak
    ((0, 1, 2), (0.0, 0))
    """
    return gates_of(record(model, inputs, call_arguments))


def gates_of(recording: Recording) -> GateReport:
    """The report on a pass that was recorded already."""
    gated = [trace for trace in recording.traces if trace.cell.gated]
    return GateReport(tuple(_layer_gates(trace) for trace in gated), unknown_cells(recording, gated=True))


def _layer_gates(trace: Trace) -> LayerGates:
    core = trace.cell.core
    states = trace.parts["cell_state"].astype("float64")
    # The largest |c| of each step: infinity counts as the largest, and NaN as missing.
    sizes = np.where(trace.valid[..., None] & ~np.isnan(states), np.abs(states), -1.0).max(axis=(0, 2))
    maximum = np.where(sizes < 0, np.nan, sizes)
    valid_states = states[trace.valid]
    return LayerGates(
        layer=trace.cell.name,
        gates=tuple(_statistics(trace, gate) for gate in KERNEL_GATES if gate in trace.parts),
        dead_candidate=_dead(trace, "candidate"),
        dead_hidden=_dead(trace, "hidden"),
        units=core.units,
        cell_maximum=maximum,
        growth=_growth(maximum[trace.order]),
        cell_non_finite=float(np.mean(~np.isfinite(valid_states))) if valid_states.size else 0.0,
        backwards=trace.cell.layer.go_backwards,
        clipped=core.cell_clip is not None if trace.cell.described.takes_cell_clip else None,
    )


def _statistics(trace: Trace, gate: str) -> GateStatistics:
    activation = trace.cell.activation(gate)
    values = trace.parts[gate][trace.valid].astype("float64")
    finite = values[np.isfinite(values)]
    between = isinstance(activation, Activation) and activation.lower >= 0 and activation.upper <= 1 and finite.size > 0
    return GateStatistics(
        gate=gate,
        activation=str(getattr(activation, "__name__", type(activation).__name__)),
        closed=float(np.mean(finite < CLOSED)) if between else None,
        open=float(np.mean(finite > OPEN)) if between else None,
        minimum=float(finite.min()) if finite.size else float("nan"),
        maximum=float(finite.max()) if finite.size else float("nan"),
        non_finite=1 - finite.size / values.size if values.size else 0.0,
    )


def _dead(trace: Trace, gate: str) -> tuple[int, ...]:
    """Units whose activation is asleep on its left side at every valid step."""
    activation = trace.cell.activation(gate)
    if not isinstance(activation, Activation) or not activation.definition.elementwise:
        return ()  # it is not known where its slope is zero
    sleeps = activation.definition.saturates == "left" or activation.lower == 0
    if not sleeps or activation.definition.learnable or not trace.valid.any():
        return ()
    values = trace.received[gate][trace.valid]
    slope = to_numpy(activation.derivative(keras.ops.convert_to_tensor(values)))
    asleep = (np.abs(slope) < ASLEEP) & (values <= 0)
    return tuple(int(unit) for unit in np.flatnonzero(asleep.all(axis=0)))


def _growth(maxima: NDArray[np.float64]) -> float:
    """The growth factor of each step, by a line fitted to the logarithm of the second half of the finite maxima."""
    places = np.flatnonzero(np.isfinite(maxima) & (maxima > 0))
    places = places[len(places) // 2 :]
    if len(places) < 3:
        return float("nan")
    return float(np.exp(np.polyfit(places, np.log(maxima[places]), 1)[0]))
