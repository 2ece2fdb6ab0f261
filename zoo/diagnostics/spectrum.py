"""Spectral radius and norm of the recurrent weights, gate by gate."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from zoo.activations import Activation
from zoo.diagnostics.cells import Cell, cells_of
from zoo.diagnostics.recording import to_numpy
from zoo.interception import require_built


@dataclass(frozen=True)
class GateSpectrum:
    """The block of the recurrent kernel that feeds one gate.

    Attributes:
        layer: Name of the layer, and of the cell if it has several: "rnn/lstm_cell_1".
        gate: "input_gate", "forget_gate", "candidate" or "output_gate".
        radius: Largest absolute eigenvalue: the long-run growth factor of h at each step, if only this block acted.
        norm: Largest singular value: the largest factor by which one step can stretch h.
        unbounded: Whether large values pass the gate: its activation is unbounded, and the recurrence is not
            normalised.
    """

    layer: str
    gate: str
    radius: float
    norm: float
    unbounded: bool


@dataclass(frozen=True)
class Spectrum:
    """The spectra of every gate of a layer, for both directions and every cell."""

    gates: tuple[GateSpectrum, ...]

    @property
    def advice(self) -> tuple[str, ...]:
        """A sentence for every gate whose recurrence can grow without bound or has weights that are not finite."""
        sentences = []
        for gate in self.gates:
            if not np.isfinite(gate.radius):
                sentences.append(
                    f"the recurrent kernel of {gate.layer} has values that are not finite in its {gate.gate} block: "
                    "training has diverged; go back to the last good weights"
                )
            elif gate.unbounded and gate.radius > 1:
                sentences.append(
                    f"the {gate.gate} of {gate.layer} is unbounded and its recurrent weights have spectral radius "
                    f"{gate.radius:.3g} > 1, so the state can grow with every step: bound the activation (relu6, "
                    f"hard_tanh) or scale these weights by {0.9 / gate.radius:.2g}"
                )
        return tuple(sentences)

    def __str__(self) -> str:
        rows = [f"{'layer':<24} {'gate':<12} {'radius':>8} {'norm':>8}"]
        rows += [f"{g.layer:<24} {g.gate:<12} {g.radius:8.3f} {g.norm:8.3f}" for g in self.gates]
        return "\n".join([*rows, *self.advice])


def spectral_radius(layer: keras.layers.Layer) -> Spectrum:
    """Measure the recurrent kernel of an LSTM, one square block (units, units) for each gate.

    With a recurrent projection P the block is U @ P, from the projected state to itself. The kernels of a cell that
    normalises its recurrence are measured before normalisation. Further recurrent weights of a variant ("FGR",
    peepholes) are not included.

    Args:
        layer: A built `LSTM` of the zoo or of Keras, a recurrent layer with cells of the zoo's family, or a
            `Bidirectional` of one.

    Raises:
        TypeError: `layer` has no cell with the gates of an LSTM.
        ValueError: `layer` is not built.

    Example:
    >>> from zoo.layers import LSTM
    >>> layer = LSTM(3, recurrent_initializer=keras.initializers.Identity(0.5), name="lstm")
    >>> layer.build((None, None, 2))
    >>> [round(gate.radius, 3) for gate in spectral_radius(layer).gates]
    [0.5, 0.0, 0.0, 0.0]
    """
    if isinstance(layer, keras.layers.Bidirectional):
        parts = (layer.forward_layer, layer.backward_layer)
        return Spectrum(tuple(gate for part in parts for gate in spectral_radius(part).gates))
    cells = [cell for cell in cells_of(layer, layer.name) if cell.gated]
    if not cells:
        raise TypeError(
            f"spectral_radius received {type(layer).__name__} {layer.name!r}; expected an LSTM, a recurrent layer with "
            "LSTM cells or a Bidirectional of one: pass model.get_layer(...)"
        )
    require_built(layer)
    return Spectrum(tuple(spectrum for cell in cells for spectrum in _of_cell(cell)))


def _of_cell(cell: Cell) -> list[GateSpectrum]:
    kernel = to_numpy(cell.core.recurrent_kernel).astype("float64")
    blocks = np.split(kernel, len(cell.kernel_gates), 1)
    if cell.described.projection_kernel is not None:
        projection = to_numpy(cell.described.projection_kernel).astype("float64")
        blocks = [block @ projection for block in blocks]
    return [_measure(cell, gate, block) for gate, block in zip(cell.kernel_gates, blocks, strict=True)]


def _measure(cell: Cell, gate: str, block: Any) -> GateSpectrum:
    activation = cell.activation(gate)
    normalized = cell.described.normalizes_recurrence
    unbounded = isinstance(activation, Activation) and not activation.bounded and not normalized
    if not np.isfinite(block).all():
        return GateSpectrum(cell.name, gate, float("nan"), float("nan"), unbounded)
    radius = float(np.abs(np.linalg.eigvals(block)).max())
    return GateSpectrum(cell.name, gate, radius, float(np.linalg.norm(block, 2)), unbounded)
