"""Where the first NaN or infinity of a model comes from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from zoo.diagnostics.recording import Call, Recording, record, to_numpy
from zoo.diagnostics.replay import PARTS, Trace, trace
from zoo.diagnostics.walk import is_zoo_lstm

REMEDIES = {
    "input": "check the data and its normalisation before training",
    "weight": "an earlier update destroyed the weights: go back to the last good ones and lower the learning rate "
    "or clip the gradient",
    "value": "the numbers overflowed: bound the activation (relu6, hard_tanh), set cell_clip, or scale the inputs",
}


@dataclass(frozen=True)
class NonFinite:
    """The first value that is not finite.

    Attributes:
        origin: "input", "weight" or "value" (computed from finite inputs and weights).
        layer: Path of the layer inside the model, or the name of the input.
        part: "input_gate", "forget_gate", "candidate", "output_gate", "cell_state" or "hidden_state" of an LSTM;
            "output" of another layer; "features" of an input.
        step: Position in the sequence, from 0; `None` where there is no time axis.
        row: Row of the batch; `None` for a weight of a layer without steps.
        unit: Unit of the layer, or channel of the input.
        value: NaN or an infinity.
        weight: Name and index of the weight, "kernel[2, 13]", where it is one.
    """

    origin: str
    layer: str
    part: str
    step: int | None
    row: int | None
    unit: int | None
    value: float
    weight: str | None = None

    @property
    def advice(self) -> str:
        """What to do about it."""
        return REMEDIES[self.origin]

    def __str__(self) -> str:
        where = [f"{name} {value}" for name in ("step", "row", "unit") if (value := getattr(self, name)) is not None]
        cause = f", from weight {self.weight}" if self.weight else ""
        place = f"{self.part} of {self.layer} ({', '.join(where)})"
        return f"first non-finite value: {self.value} in {place}{cause}; {self.advice}"


def find_non_finite(
    model: keras.layers.Layer, inputs: Any, call_arguments: Mapping[str, Any] | None = None
) -> NonFinite | None:
    """Find the first NaN or infinity on the way of a batch through a model, on any backend.

    First means: an input before any layer; then layers in the order they run; in a layer its weights, then its steps
    in reading order; in a step of a zoo LSTM the gates i, f, c, o, then the cell state, then the hidden state. Steps
    that a mask hides are skipped, and so are inputs that no layer reads because of it.

    Args:
        model: A built model or layer.
        inputs: A batch as the model takes it.
        call_arguments: Further arguments of the call, such as `{"mask": mask}`.

    Returns:
        The finding, or `None` where everything is finite.

    Raises:
        ValueError: The model is not built.

    Example:
    >>> from zoo.layers import LSTM
    >>> model = keras.Sequential([keras.Input((None, 1)), LSTM(2, name="lstm")])
    >>> batch = np.zeros((3, 4, 1), "float32")
    >>> find_non_finite(model, batch) is None
    True
    >>> batch[1, 2, 0] = np.nan
    >>> finding = find_non_finite(model, batch)
    >>> finding.origin, finding.step, finding.row
    ('input', 2, 1)
    """
    recording = record(model, inputs, call_arguments)
    return non_finite_of(recording, inputs)


def non_finite_of(recording: Recording, inputs: Any) -> NonFinite | None:
    """The first value that is not finite in a pass that was already recorded."""
    return next(_findings(recording, inputs), None)


def _findings(recording: Recording, inputs: Any) -> Iterator[NonFinite]:
    for name, array in _named(inputs):
        yield from _in_array(array, "input", name, "features", _visible(recording, array.shape))
    for call in recording.calls:
        if is_zoo_lstm(call.layer):
            yield from _in_lstm(call)
        else:
            yield from _in_layer(call, recording)


def _named(inputs: Any) -> list[tuple[str, NDArray[Any]]]:
    leaves = keras.tree.flatten_with_path(inputs)
    return [("/".join(map(str, path)) or "input", np.asarray(leaf)) for path, leaf in leaves]


def _visible(recording: Recording, shape: Sequence[int]) -> NDArray[np.bool_] | None:
    """The mask of the first masked recurrent layer over the same rows and steps: what it hides, no one reads."""
    for call in recording.calls:
        if isinstance(call.layer, keras.layers.RNN) and call.mask is not None:
            mask = to_numpy(call.mask).astype(bool)
            if tuple(shape[:2]) == mask.shape:
                return mask
    return None


def _bad(array: NDArray[Any]) -> NDArray[np.bool_]:
    return ~np.isfinite(array) if np.issubdtype(array.dtype, np.inexact) else np.zeros(array.shape, bool)


def _in_array(
    array: NDArray[Any], origin: str, layer: str, part: str, visible: NDArray[np.bool_] | None
) -> Iterator[NonFinite]:
    bad = _bad(array)
    if visible is not None and array.ndim >= 2:
        bad &= visible.reshape(visible.shape + (1,) * (array.ndim - 2))
    if not bad.any():
        return
    has_steps = array.ndim >= 3
    places = np.argwhere(bad)
    # The earliest step, not the first row.
    place = tuple(places[np.lexsort((places[:, 0], places[:, 1]))[0]] if has_steps else places[0])
    yield NonFinite(
        origin,
        layer,
        part,
        step=int(place[1]) if has_steps else None,
        row=int(place[0]),
        unit=int(place[-1]) if array.ndim >= 2 else None,
        value=float(array[place]),
    )


def _bad_weights(layer: Any) -> Iterator[tuple[Any, NDArray[Any], tuple[int, ...]]]:
    for weight in layer.weights:
        array = to_numpy(weight)
        bad = _bad(array)
        if bad.any():
            yield weight, array, tuple(int(i) for i in np.argwhere(bad)[0])


def _in_layer(call: Call, recording: Recording) -> Iterator[NonFinite]:
    for weight, array, place in _bad_weights(call.layer):
        unit = place[-1] if place else None
        label = f"{weight.name}{list(place)}"
        yield NonFinite("weight", call.name, "output", None, None, unit, float(array[place]), label)
    for output in keras.tree.flatten(call.outputs):
        array = to_numpy(output)
        yield from _in_array(array, "value", call.name, "output", _visible(recording, array.shape))


def _in_lstm(call: Call) -> Iterator[NonFinite]:
    # Always run again: an output may be finite although a state overflowed, since tanh turns infinity into 1.
    replayed = trace(call)
    for weight, array, place in _bad_weights(call.layer):
        part, unit = _gate_of(weight.name, place, call.layer.cell.units)
        step, row = _first_read(replayed)
        label = f"{weight.name}{list(place)}"
        yield NonFinite("weight", call.name, part, step, row, unit, float(array[place]), label)
    yield from _in_trace(replayed)


def _gate_of(weight: str, place: tuple[int, ...], units: int) -> tuple[str, int]:
    if weight in ("kernel", "recurrent_kernel", "bias"):
        return PARTS[place[-1] // units], place[-1] % units
    # The parameter of an activation is named after the gate that owns it: "candidate_slope".
    owner = next((part for part in PARTS[:4] if weight.startswith(part)), "hidden_state")
    return owner, place[-1] if place else 0


def _first_read(replayed: Trace) -> tuple[int | None, int | None]:
    """The first step in reading order that some row does not skip, and that row."""
    for position in replayed.order:
        rows = np.flatnonzero(replayed.valid[:, position])
        if len(rows):
            return int(position), int(rows[0])
    return None, None


def _in_trace(replayed: Trace) -> Iterator[NonFinite]:
    for position in replayed.order:
        for part in PARTS:
            values = replayed.parts[part][:, position]
            bad = _bad(values) & replayed.valid[:, position, None]
            if bad.any():
                row, unit = (int(i) for i in np.argwhere(bad)[0])
                yield NonFinite("value", replayed.name, part, int(position), row, unit, float(values[row, unit]))
                return
