"""A recurrent layer run again one step at a time, where what happens inside a step can be seen."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from zoo.diagnostics.recording import Call, Recording, to_numpy
from zoo.diagnostics.walk import is_zoo_lstm
from zoo.kernels.reference import clip_cell, split_gates

Tensor = Any
Step = Callable[[int, Tensor, Sequence[Tensor]], tuple[Sequence[Tensor], Any]]

# In the order in which a step computes them, so that the first one that is not finite is the cause of the others.
PARTS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_state", "hidden_state")


@dataclass(frozen=True)
class Trace:
    """Everything that one call of a zoo LSTM computed. A step is a position in the sequence, whichever way it is read.

    Attributes:
        name: Path of the layer inside the model.
        layer: The layer.
        parts: For each name in `PARTS` an array (batch, steps, units). States at a masked step are those carried over.
        candidate_input: What the candidate's activation received, (batch, steps, units).
        valid: Bool (batch, steps): false where the step was masked.
        order: Positions in the order in which the layer read them.
    """

    name: str
    layer: Any
    parts: dict[str, NDArray[Any]]
    candidate_input: NDArray[Any]
    valid: NDArray[np.bool_]
    order: NDArray[np.int64]


def unroll(
    step: Step, sequences: Tensor, states: Sequence[Tensor], mask: Tensor | None, backwards: bool
) -> Iterator[tuple[int, Sequence[Tensor], Any]]:
    """Apply `step(position, inputs, states)` to every step in reading order, carrying states over masked steps.

    Args:
        step: Returns the new states and whatever else is to be kept.
        sequences: (batch, steps, channels).
        states: The states before the first step.
        mask: Bool (batch, steps) or `None`.
        backwards: Read from the last position to the first.

    Yields:
        The position, the states after it, and the rest of what `step` returned.
    """
    positions = range(sequences.shape[1])
    for position in reversed(positions) if backwards else positions:
        new, rest = step(position, sequences[:, position], states)
        if mask is not None:
            keep = ops.expand_dims(mask[:, position], -1)
            new = [ops.where(keep, after, before) for after, before in zip(new, states, strict=True)]
        states = new
        yield position, states, rest


def initial_states(layer: Any, sequences: Tensor, given: Any) -> list[Tensor]:
    """The states that `layer` starts from: those given, those kept from the last batch, or zeros."""
    if given is None:
        given = layer.states if layer.stateful else layer.get_initial_state(batch_size=sequences.shape[0])
    given = list(given) if isinstance(given, list | tuple) else [given]
    return [ops.cast(state, layer.cell.compute_dtype) for state in given]


def traces(recording: Recording) -> list[Trace]:
    """A `Trace` for every call of a zoo LSTM in `recording`, in the order of the calls."""
    return [trace(call) for call in recording.calls if is_zoo_lstm(call.layer)]


def trace(call: Call) -> Trace:
    """Run a call of a zoo LSTM again by hand with the layer's own weights and activations."""
    layer, sequences = call.layer, call.inputs
    states = initial_states(layer, sequences, call.arguments.get("initial_state"))
    kept = list(unroll(_lstm_step(layer.cell), sequences, states, call.mask, layer.go_backwards))
    order = np.array([position for position, _, _ in kept], np.int64)
    by_position = [kept[place] for place in np.argsort(order)]

    def stacked(values: Sequence[Tensor]) -> NDArray[Any]:
        return to_numpy(ops.stack(list(values), axis=1))

    parts = {gate: stacked([rest[gate] for _, _, rest in by_position]) for gate in PARTS[:4]}
    parts["cell_state"] = stacked([after[1] for _, after, _ in by_position])
    parts["hidden_state"] = stacked([after[0] for _, after, _ in by_position])
    shape = tuple(sequences.shape[:2])
    valid = np.ones(shape, bool) if call.mask is None else to_numpy(call.mask).astype(bool)
    candidate_input = stacked([rest["candidate_input"] for _, _, rest in by_position])
    return Trace(call.name, layer, parts, candidate_input, valid, order)


def _lstm_step(cell: Any) -> Step:
    kernel, recurrent_kernel = (ops.cast(w, cell.compute_dtype) for w in (cell.kernel, cell.recurrent_kernel))
    bias = ops.cast(cell.bias, cell.compute_dtype) if cell.use_bias else None
    functions = cell.functions()

    def step(position: int, inputs: Tensor, states: Sequence[Tensor]) -> tuple[Sequence[Tensor], Any]:
        hidden, cell_state = states
        z = ops.matmul(inputs, kernel) + ops.matmul(hidden, recurrent_kernel)
        z_i, z_f, z_c, z_o = split_gates(z if bias is None else z + bias)
        i, f, g, o = (
            functions.input_gate(z_i),
            functions.forget_gate(z_f),
            functions.candidate(z_c),
            functions.output_gate(z_o),
        )
        after = f * cell_state + i * g
        if cell.cell_clip is not None:
            after = clip_cell(after, cell.cell_clip)
        rest = {"input_gate": i, "forget_gate": f, "candidate": g, "output_gate": o, "candidate_input": z_c}
        return [o * functions.hidden(after), after], rest

    return step
