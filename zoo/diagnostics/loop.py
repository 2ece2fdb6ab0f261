"""Runs the loop of a recurrent layer in Keras and records the values of each step as extra columns of the output."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from zoo.diagnostics.cells import Cell, noting
from zoo.interception import replaced
from zoo.types import Tensor


@dataclass(frozen=True)
class Trace:
    """The values that one call of a cell computed. A step is a position in the sequence, in either direction.

    Attributes:
        cell: The cell.
        parts: An array (batch, steps, width) for each part of the cell, in the order of a step; values at masked steps
            are meaningless.
        received: The arguments of the activations "candidate" and "hidden", as arrays of the same shape.
        valid: Bool (batch, steps), false where the step was masked.
        order: Positions in the order in which the layer read them.
    """

    cell: Cell
    parts: dict[str, NDArray[Any]]
    received: dict[str, NDArray[Any]]
    valid: NDArray[np.bool_]
    order: NDArray[np.int64]


@dataclass
class WideLoop:
    """Replaces `inner_loop` of a recurrent layer.

    Keras's loop has one output for each step on every backend, so notes are appended to the output as columns, and
    offsets for the hidden states to the inputs.

    Attributes:
        cells: All cells of the layer.
        notes: Whether to record the values of the steps.
        columns: Index of the cell, part and width of each note, after the loop has run.
    """

    cells: tuple[Cell, ...]
    notes: bool = True
    columns: list[tuple[int, str, int]] = field(default_factory=list)

    def __call__(self, arguments: dict[str, Any], added: Tensor | None = None) -> tuple[Any, Tensor]:
        """Run the loop.

        Args:
            arguments: Arguments of `inner_loop`, by name.
            added: Offsets for the hidden states after each step, (batch, steps, sum of their widths), or `None`.

        Returns:
            The result of `inner_loop`, and the notes (batch, steps, columns) in reading order.
        """
        layer, sequences, states = self.cells[0].layer, arguments["sequences"], list(arguments["initial_state"])
        channels, width = sequences.shape[-1], 0
        if added is not None:
            sequences = ops.concatenate([sequences, ops.cast(added, sequences.dtype)], axis=-1)
        counted = self.cells[0].counted
        if counted:  # batch normalisation has separate statistics for each step of a row
            states.append(ops.zeros((ops.shape(sequences)[0], 1), dtype="int32"))

        def step(inputs: Tensor, before: Any) -> tuple[Tensor, Any]:
            nonlocal width
            features, offsets = (inputs, None) if added is None else (inputs[:, :channels], inputs[:, channels:])
            output, after, noted = self._step(features, before, offsets)
            width = output.shape[-1]
            return ops.concatenate([output, *noted], axis=-1), after

        mask = arguments.get("mask")
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        run = _keras_loop if mask is None or keras.backend.backend() != "jax" else _keras_loop_on_jax
        last, every, states = run(layer, step, sequences, states, mask)
        result = last[..., :width], every[..., :width], states[:-1] if counted else states
        return result, every[..., width:]

    def _step(self, inputs: Tensor, before: Any, offsets: Tensor | None) -> tuple[Tensor, Any, list[Tensor]]:
        """One step of every cell, in which the output of each is the input of the next."""
        states = before if self.cells[0].stacked else [before]
        after: list[Any] = []
        noted: list[Tensor] = []
        self.columns, start = [], 0
        for index, (cell, state) in enumerate(zip(self.cells, states, strict=True)):
            inputs, new, values = self._one(cell, inputs, state)
            if offsets is not None and cell.known:
                inputs = inputs + offsets[:, start : start + cell.width]
                new, start = [inputs, *new[1:]], start + cell.width
            if self.notes and cell.known:
                values |= dict(zip(("hidden_state", "cell_state")[: 2 if cell.gated else 1], new, strict=False))
            self.columns += [(index, part, int(tensor.shape[-1])) for part, tensor in values.items()]
            noted += values.values()
            after.append(new if keras.tree.is_nested(state) else new[0])
        return inputs, after if self.cells[0].stacked else after[0], noted

    def _one(self, cell: Cell, inputs: Tensor, states: Any) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        values: dict[str, Tensor] = {}
        states = list(states) if keras.tree.is_nested(states) else [states]
        if self.notes and cell.gated:
            with noting(cell, values.__setitem__):
                output, new = _advance(cell, inputs, states)
        else:
            output, new = _advance(cell, inputs, states)
        return output, list(new) if keras.tree.is_nested(new) else [new], values

    def traces(self, notes: NDArray[Any], mask: NDArray[np.bool_] | None) -> tuple[Trace, ...]:
        """Cut the notes into a `Trace` for each known cell."""
        backwards = bool(self.cells[0].layer.go_backwards)
        if backwards:
            notes = notes[:, ::-1]
        steps = np.arange(notes.shape[1])
        by_cell: list[dict[str, NDArray[Any]]] = [{} for _ in self.cells]
        start = 0
        for index, part, width in self.columns:
            by_cell[index][part] = notes[..., start : start + width]
            start += width
        valid = np.ones(notes.shape[:2], bool) if mask is None else mask
        order = steps[::-1] if backwards else steps
        return tuple(
            Trace(cell, {part: values[part] for part in cell.parts if part in values}, _received(values), valid, order)
            for cell, values in zip(self.cells, by_cell, strict=True)
            if cell.known
        )


def _received(by_part: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {part.removesuffix("_input"): values for part, values in by_part.items() if part.endswith("_input")}


def _advance(cell: Cell, inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, Any]:
    """One step of a cell at inference."""
    outer = cell.outer
    if cell.counted:
        *states, count = states
        new = outer.numbered_step(inputs, states, count[:, 0])
        return new[0], [*new, count + 1]
    output, new = (outer if callable(outer) else outer.call)(inputs, states)
    return output, new


def _keras_loop(layer: Any, step: Any, sequences: Tensor, states: Any, mask: Tensor | None) -> Any:
    """Run Keras's loop over `step` and return every output; without unrolling, which would only be slower."""
    with replaced(layer, "cell", step), replaced(layer, "return_sequences", True), replaced(layer, "unroll", False):
        return keras.layers.RNN.inner_loop(layer, sequences, states, mask)


def _keras_loop_on_jax(layer: Any, step: Any, sequences: Tensor, states: Any, mask: Tensor) -> Any:
    """The same on JAX, where the output has to be the first state, which Keras repeats at a masked step."""
    import jax

    output, _ = jax.eval_shape(step, sequences[:, 0], states)
    hidden = keras.tree.flatten(states[-1] if keras.tree.is_nested(states[-1]) else states)[0]
    rest = ops.zeros((output.shape[0], output.shape[-1] - hidden.shape[-1]), dtype=output.dtype)

    def with_output(inputs: Tensor, before: Any) -> tuple[Tensor, Any]:
        output, after = step(inputs, before[1:])
        return output, [output, *after]

    states = [ops.concatenate([ops.cast(hidden, output.dtype), rest], axis=-1), *states]
    last, every, states = _keras_loop(layer, with_output, sequences, states, mask)
    return last, every, states[1:]
