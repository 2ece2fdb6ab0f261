"""Finds the origin of the first NaN or infinity in a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from zoo.diagnostics.cells import gate_of_weight
from zoo.diagnostics.loop import Trace
from zoo.diagnostics.recording import Call, Recording, record, to_numpy

ADVICE = {
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
            "hidden_state" of another recurrent layer that is known; "output" of any other; "features" of an input.
        step: Position in the sequence, from 0; `None` without a time axis.
        row: Row of the batch; `None` for a weight of a layer without steps.
        unit: Unit of the layer, or channel of the input.
        value: NaN or an infinity.
        weight: Name and index of the weight, such as "kernel[2, 13]", if the origin is one.
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
        """The remedy."""
        return ADVICE[self.origin]

    def __str__(self) -> str:
        where = [f"{name} {value}" for name in ("step", "row", "unit") if (value := getattr(self, name)) is not None]
        cause = f", from weight {self.weight}" if self.weight else ""
        place = f"{self.part} of {self.layer} ({', '.join(where)})"
        return f"first non-finite value: {self.value} in {place}{cause}; {self.advice}"


def find_non_finite(
    model: keras.layers.Layer, inputs: Any, call_arguments: Mapping[str, Any] | None = None
) -> NonFinite | None:
    """Find the first NaN or infinity in a batch's pass through a model, on any backend.

    The order is: inputs before layers; layers in the order of their calls; in a layer its weights, then its steps in
    reading order; in a step of an LSTM the gates i, f, c, o, then the cell state, then the hidden state; with peepholes
    the cell state comes before o, which depends on it. In a stack of cells each step runs through all of them. Masked
    steps are skipped, and so are inputs that no layer reads because of a mask.

    Args:
        model: A built model or layer.
        inputs: A batch in the form that the model takes.
        call_arguments: Further arguments of the call, such as `{"mask": mask}`.

    Returns:
        The finding, or `None` if everything is finite.

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
    """The first value that is not finite in a pass that was recorded already."""
    return next(_findings(recording, inputs), None)


def _findings(recording: Recording, inputs: Any) -> Iterator[NonFinite]:
    for name, array in _named(inputs):
        yield from _in_array(array, "input", name, "features", _visible(recording, array.shape))
    for call in recording.calls:
        yield from _in_gates_weights(call.traces)
        yield from _in_weights(call)
        # An output may be finite although a state overflowed, since tanh turns infinity into 1.
        yield from _in_steps(call.traces)
        for output in call.outputs:
            array = to_numpy(output)
            yield from _in_array(array, "value", call.name, "output", _visible(recording, array.shape))


def _named(inputs: Any) -> list[tuple[str, NDArray[Any]]]:
    leaves = keras.tree.flatten_with_path(inputs)
    return [("/".join(map(str, path)) or "input", np.asarray(leaf)) for path, leaf in leaves]


def _visible(recording: Recording, shape: Sequence[int]) -> NDArray[np.bool_] | None:
    """The mask of the first masked recurrent layer over the same rows and steps; no layer reads what it hides."""
    for call in recording.calls:
        if call.mask is not None and tuple(shape[:2]) == call.mask.shape:
            return call.mask
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


def _in_weights(call: Call) -> Iterator[NonFinite]:
    for weight, array, place in _bad_weights(call.layer):
        unit = place[-1] if place else None
        label = f"{weight.name}{list(place)}"
        yield NonFinite("weight", call.name, "output", None, None, unit, float(array[place]), label)


def _in_gates_weights(traces: Sequence[Trace]) -> Iterator[NonFinite]:
    for trace in traces:
        for weight, array, place in _bad_weights(trace.cell.core) if trace.cell.gated else ():
            part, unit = gate_of_weight(trace.cell, weight, place[-1] if place else 0)
            step, row = _first_read(trace, place[0] if trace.cell.described.rows_are_steps(weight) else 0)
            label = f"{weight.name}{list(place)}"
            yield NonFinite("weight", trace.cell.name, part, step, row, unit, float(array[place]), label)


def _in_steps(traces: Sequence[Trace]) -> Iterator[NonFinite]:
    for position in traces[0].order if traces else ():
        for trace in traces:  # of one layer, so that all have the same steps
            yield from _in_step(trace, int(position))


def _first_read(trace: Trace, skip: int) -> tuple[int | None, int | None]:
    """The first step in reading order that is any row's valid step number `skip`, from 0, and that row."""
    count = np.cumsum(trace.valid[:, trace.order], axis=1)
    reads = trace.valid[:, trace.order] & (count == skip + 1)
    if not reads.any():
        return None, None
    place = int(np.flatnonzero(reads.any(axis=0))[0])
    return int(trace.order[place]), int(np.flatnonzero(reads[:, place])[0])


def _in_step(trace: Trace, position: int) -> Iterator[NonFinite]:
    for part, values in trace.parts.items():
        bad = _bad(values[:, position]) & trace.valid[:, position, None]
        if bad.any():
            row, unit = (int(i) for i in np.argwhere(bad)[0])
            value = float(values[row, position, unit])
            yield NonFinite("value", trace.cell.name, part, position, row, unit, value)
