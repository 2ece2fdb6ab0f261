"""Finds the cells inside recurrent layers, and watches the computations of their steps."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from zoo import activations
from zoo.interception import replaced
from zoo.layers import LSTM, BatchNormLSTM, ZoneoutCell
from zoo.layers._gate_activations import GATES, GateActivations
from zoo.types import Gates, Tensor

Note = Callable[[str, Tensor], None]

# The loops that run a cell step by step exactly as Keras's own loop does.
_LOOPS = (
    keras.layers.RNN.inner_loop,
    keras.layers.LSTM.inner_loop,
    keras.layers.GRU.inner_loop,
    LSTM.inner_loop,
    BatchNormLSTM.inner_loop,
)
_KERAS_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)


@dataclass(frozen=True)
class Cell:
    """A cell of a recurrent layer.

    Attributes:
        name: Path of the layer, and with several cells in it the name of this one: "rnn/lstm_cell_1".
        layer: The layer.
        outer: The cell that a step calls.
        core: The cell with the gates: `outer`, or the cell inside zoneout.
        stacked: Whether the layer has a stack of cells.
    """

    name: str
    layer: keras.layers.Layer
    outer: Any
    core: Any
    stacked: bool

    @property
    def known(self) -> bool:
        """Whether its output is known to be its first state, a matrix (batch, units)."""
        return isinstance(self.core, (*_KERAS_CELLS, GateActivations))

    @property
    def gated(self) -> bool:
        """Whether its gates can be watched: an LSTM of the zoo or of Keras."""
        if isinstance(self.core, keras.layers.LSTMCell):
            return type(self.core).call is keras.layers.LSTMCell.call  # another step may use the activations otherwise
        return isinstance(self.core, GateActivations)

    @property
    def described(self) -> Any:
        """The description of a gated cell: a cell of the zoo itself, or an adapter for one of Keras."""
        return self.core if isinstance(self.core, GateActivations) else _KerasLSTM(self.core)

    @property
    def counted(self) -> bool:
        """Whether a step depends on its number, and needs it as an argument."""
        return isinstance(self.outer, GateActivations) and self.outer.counts_steps

    @property
    def width(self) -> int:
        """Width of the hidden state."""
        size = self.outer.state_size
        return int(size[0] if isinstance(size, list | tuple) else size)

    @property
    def parts(self) -> tuple[str, ...]:
        """Its parts in the order of computation, so that the first one that is not finite causes the others."""
        return tuple(self.described.parts) if self.gated else ("hidden_state",)

    @property
    def kernel_gates(self) -> tuple[str, ...]:
        """The gates that have columns in the kernels, in their order."""
        return tuple(self.described.kernel_gates)

    def activation(self, gate: str) -> Any:
        """The activation of `gate`, an `Activation` where the table of the zoo has it."""
        return self.described.gate_activations.get(gate, activations.get("linear"))


class _KerasLSTM(GateActivations):
    """Describes Keras's LSTM cell like a cell of the zoo."""

    def __init__(self, cell: Any) -> None:
        self.kernel, self.recurrent_kernel, self.bias = cell.kernel, cell.recurrent_kernel, cell.bias
        gates, others = _normalized(cell.recurrent_activation), _normalized(cell.activation)
        self._by_gate = dict(zip(GATES, (gates, gates, others, gates, others), strict=True))

    @property
    def gate_activations(self) -> Mapping[str, Any]:
        return self._by_gate


def _normalized(activation: Any) -> Any:
    try:
        return activations.get(activation)
    except ValueError:  # Keras accepts any function
        return activation


def cells_of(layer: keras.layers.Layer, name: str) -> tuple[Cell, ...]:
    """The cells of a recurrent layer in the order of a step; none if the layer cannot be watched.

    Example:
    >>> from zoo.layers import LSTMCell
    >>> rnn = keras.layers.RNN([LSTMCell(2, name="low"), ZoneoutCell(keras.layers.GRUCell(2), name="high")])
    >>> [(cell.name, cell.gated) for cell in cells_of(rnn, "rnn")]
    [('rnn/low', True), ('rnn/high', False)]
    """
    if not isinstance(layer, keras.layers.RNN) or type(layer).inner_loop not in _LOOPS:
        return ()
    stacked = type(layer.cell) is keras.layers.StackedRNNCells
    outer = layer.cell.cells if stacked else [layer.cell]
    names = [f"{name}/{cell.name}" if stacked else name for cell in outer]
    cells = tuple(Cell(path, layer, cell, _core(cell), stacked) for path, cell in zip(names, outer, strict=True))
    return cells if any(cell.known for cell in cells) else ()


def _core(cell: Any) -> Any:
    while isinstance(cell, ZoneoutCell):
        cell = cell.cell
    return cell


def gate_of_weight(cell: Cell, weight: Any, column: int) -> tuple[str, int]:
    """The part that a column of a gated cell's weight feeds directly, and the unit there.

    Example:
    >>> layer = LSTM(5)
    >>> layer.build((None, None, 2))
    >>> gate_of_weight(cells_of(layer, "lstm")[0], layer.cell.kernel, 12)
    ('candidate', 2)
    """
    parts = cell.described.columns_of(weight)
    return (parts[column // cell.core.units], column % cell.core.units) if len(parts) > 1 else (parts[0], column)


# === Watching ===


@contextlib.contextmanager
def noting(cell: Cell, note: Note) -> Iterator[None]:
    """Within the block a step of a gated cell calls `note(part, tensor)` with the values of its gates.

    The parts are the gates by name, and "candidate_input" and "hidden_input", the arguments of those two activations.
    Every cell of the zoo gets its activations from its `functions()`, so no equation is repeated here.
    """
    core = cell.core
    if cell.described is core:
        swaps = {"functions": _watched_functions(core.functions, note)}
    else:
        swaps = {
            "recurrent_activation": _in_turn(("input_gate", "forget_gate", "output_gate"), core, note),
            "activation": _in_turn(("candidate", "hidden"), core, note),
        }
    with contextlib.ExitStack() as stack:
        for name, value in swaps.items():
            stack.enter_context(replaced(core, name, value))
        yield


def _watched_functions(original: Any, note: Note) -> Callable[..., Any]:
    def functions(*args: Any, **kwargs: Any) -> Any:
        by_gate = original(*args, **kwargs)._asdict()
        return Gates(**{gate: _watched(gate, function, note) for gate, function in by_gate.items()})

    return functions


def _in_turn(gates: tuple[str, ...], core: Any, note: Note) -> Callable[[Tensor], Tensor]:
    """A function of Keras's cell for several gates, which its step computes in this order."""
    original = core.activation if "candidate" in gates else core.recurrent_activation
    turn = iter(gates)
    return lambda z: _watched(next(turn), original, note)(z)


def _watched(gate: str, function: Any, note: Note) -> Callable[[Tensor], Tensor]:
    def activation(z: Tensor) -> Tensor:
        value = function(z)
        if gate != "hidden":
            note(gate, value)
        if gate in ("candidate", "hidden"):
            note(f"{gate}_input", z)
        return value

    return activation
