"""The cells inside recurrent layers: which are known, what their gates are called, and how to watch a step."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from zoo import activations
from zoo.interception import replaced
from zoo.layers import LSTM, BatchNormLSTM, LSTMCell, ZoneoutCell
from zoo.layers._gated_cell import GATES, KERNEL_GATES, GatedCell

Tensor = Any
Note = Callable[[str, Tensor], None]

STATES = ("cell_state", "hidden_state")
PARTS = (*KERNEL_GATES, *STATES)

# What runs a cell step by step exactly as Keras's own loop does; a loop of another class is not known.
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
        outer: What a step calls.
        core: The cell that has the gates: `outer`, or what zoneout wraps.
        stacked: Whether the layer has a stack of cells.
    """

    name: str
    layer: keras.layers.Layer
    outer: Any
    core: Any
    stacked: bool

    @property
    def known(self) -> bool:
        """Whether its output is its first state, a matrix (batch, units), whatever else it computes."""
        return isinstance(self.core, (*_KERAS_CELLS, GatedCell))

    @property
    def gated(self) -> bool:
        """Whether its gates can be watched: an LSTM of the zoo or of Keras."""
        if isinstance(self.core, keras.layers.LSTMCell) and not isinstance(self.core, LSTMCell):
            return type(self.core).call is keras.layers.LSTMCell.call  # the order of its activations is known
        return isinstance(self.core, LSTMCell | GatedCell)

    @property
    def width(self) -> int:
        """Width of the hidden state."""
        size = self.outer.state_size
        return int(size[0] if isinstance(size, list | tuple) else size)

    @property
    def parts(self) -> tuple[str, ...]:
        """`PARTS` in the order in which a step computes them: what is not finite first is the cause of the others."""
        if hasattr(self.core, "peephole"):  # its output gate sees the new cell state
            return (*KERNEL_GATES[:3], "cell_state", "output_gate", "hidden_state")
        return PARTS

    @property
    def kernel_gates(self) -> tuple[str, ...]:
        """The gates that have columns in the kernels, in their order."""
        return tuple(getattr(self.core, "kernel_gates", KERNEL_GATES))

    def activation(self, gate: str) -> Any:
        """The activation of `gate`, an `Activation` where the table of the zoo has it."""
        chosen = getattr(self.core, "gate_activations", None)
        if chosen is not None:
            return chosen.get(gate, activations.get("linear"))
        activation = self.core.activation if gate in ("candidate", "hidden") else self.core.recurrent_activation
        try:
            return activations.get(activation)
        except ValueError:  # Keras takes any function
            return activation


def cells_of(layer: keras.layers.Layer, name: str) -> tuple[Cell, ...]:
    """The cells of a recurrent layer in the order of a step; none where it is not one that can be watched.

    Example:
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


def gate_of_weight(cell: Cell, weight: str, width: int, column: int) -> tuple[str, int]:
    """The part that a column of a weight of `cell` feeds first, and its unit there.

    Args:
        cell: A gated cell.
        weight: Name of the weight.
        width: Length of its last axis, a row of which has the gates side by side.
        column: Index in that axis.

    Example:
    >>> layer = LSTM(5)
    >>> gate_of_weight(cells_of(layer, "lstm")[0], "kernel", 20, 12)
    ('candidate', 2)
    """
    owner = next((gate for gate in KERNEL_GATES if weight.startswith(gate)), None)
    if owner:  # what an activation learns is named after the gate that owns it: "candidate_slope"
        return owner, column
    units, peeping = cell.core.units, tuple(gate for gate in cell.kernel_gates if gate != "candidate")
    if not weight.startswith(("cell_", "projection_", "hidden_")):
        for gates in (cell.kernel_gates, peeping):
            if width == len(gates) * units:
                return gates[column // units], column % units
    return "hidden_state", column


# === Watching ===


@contextlib.contextmanager
def noting(cell: Cell, note: Note) -> Iterator[None]:
    """Within the block a step of a gated cell hands `note(part, tensor)` what its gates compute.

    The parts are the gates by name, and "candidate_input" and "hidden_input", what those two activations receive.
    Every cell of the zoo asks its `functions()` for its activations, so no equation is repeated here.
    """
    core = cell.core
    if hasattr(core, "gate_activations"):
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
        made = original(*args, **kwargs)
        by_gate = made._asdict() if hasattr(made, "_asdict") else made
        # A variant without one of the activations takes the identity in its place.
        return type(made)(**{gate: _watched(gate, by_gate.get(gate, _identity), note) for gate in GATES})

    return functions


def _in_turn(gates: tuple[str, ...], core: Any, note: Note) -> Callable[[Tensor], Tensor]:
    """One function of Keras's cell that serves several gates, in the order of its step."""
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


def _identity(x: Tensor) -> Tensor:
    return x
