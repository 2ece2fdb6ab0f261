"""The eight LSTMs of "A Search Space Odyssey", each of which changes the LSTM with peepholes in one way."""

from typing import Any

import keras
from keras import ops

from zoo.layers._gated_cell import GATES, KERNEL_GATES, GatedCell
from zoo.layers.peephole_lstm import PeepholeLSTMCell
from zoo.suggest import unknown
from zoo.types import Gates, Tensor

# The gate for which a variant has no weights, and the activation that it replaces by the identity.
_REMOVED_GATE = {"NIG": "input_gate", "NFG": "forget_gate", "NOG": "output_gate", "CIFG": "forget_gate"}
_REMOVED_ACTIVATION = {"NIAF": "candidate", "NOAF": "hidden"}

VARIANTS = {
    "NIG": "no input gate: i = 1",
    "NFG": "no forget gate: f = 1",
    "NOG": "no output gate: o = 1",
    "NIAF": "no input activation function: g = z_c",
    "NOAF": "no output activation function: h' = o * c'",
    "NP": "no peepholes: p = 0",
    "CIFG": "coupled input and forget gate: f = 1 - i",
    "FGR": "full gate recurrence: i, f and o of the step before enter the three gates",
}


@keras.saving.register_keras_serializable("sequence_zoo")
class VariantLSTMCell(PeepholeLSTMCell):
    """LSTM cell with peepholes and one change, as compared by Greff et al.

        i = input_gate_activation(x @ W_i + h @ U_i + p_i * c + b_i)
        f = forget_gate_activation(x @ W_f + h @ U_f + p_f * c + b_f)
        g = candidate_activation(x @ W_c + h @ U_c + b_c)
        c' = f * c + i * g
        o = output_gate_activation(x @ W_o + h @ U_o + p_o * c' + b_o)
        h' = o * hidden_activation(c')

    The base is `zoo.layers.PeepholeLSTMCell`. The change of each variant, and the weights that it removes (n units, m
    channels):

        NIG   i = 1                     the input gate's column blocks, bias and peephole: n (m + n + 2)
        NFG   f = 1                     the forget gate's: n (m + n + 2)
        NOG   o = 1                     the output gate's: n (m + n + 2)
        CIFG  f = 1 - i                 the forget gate's: n (m + n + 2)
        NIAF  g = x @ W_c + h @ U_c + b_c      none
        NOAF  h' = o * c'               none
        NP    p_i = p_f = p_o = 0       the peepholes: 3 n
        FGR   each gate also receives [i, f, o] @ R of the step before: 9 n^2 added

    `kernel`, `recurrent_kernel` and `bias` hold the remaining blocks in the order i, f, c, o; `peephole` those of the
    remaining gates; `gate_recurrent_kernel` R (3 * units, 3 * units) has rows and columns i, f, o.

    Args:
        variant: A key of `VARIANTS`.
        units: Positive int n, the width of `h` and `c`.
        activation: What `candidate_activation` and `hidden_activation` inherit. Default "tanh".
        recurrent_activation: What the gates inherit. Default "sigmoid".
        **kwargs: Arguments of `zoo.layers.PeepholeLSTMCell` except the activations that the variant lacks. R has the
            initializer, regularizer and constraint of U, and no dropout.

    Call arguments:
        inputs: (batch, channels).
        states: `[h, c]`, each (batch, units); for FGR `[h, c, i, f, o]`.
        training: Bool; dropout and random slopes act only in training.

    Returns:
        `h'` and the new states.

    Raises:
        ValueError: `variant` is unknown, or an argument is not valid or is for an activation that was removed.

    Example:
    >>> cell = VariantLSTMCell("NIG", 4)
    >>> cell.build((None, 3))
    >>> {weight.name: tuple(weight.shape) for weight in cell.weights}
    {'kernel': (3, 12), 'recurrent_kernel': (4, 12), 'bias': (12,), 'peephole': (8,)}
    >>> VariantLSTMCell("NIG", 4, input_gate_activation="relu")
    Traceback (most recent call last):
    ValueError: ... has no activation for input_gate: ...

    References:
        Greff, Srivastava, Koutnik, Steunebrink and Schmidhuber (2017), "LSTM: A Search Space Odyssey", section III,
        https://arxiv.org/abs/1503.04069
    """

    fixed = PeepholeLSTMCell.fixed | {"variant"}
    gate_recurrent_kernel: Any = None

    def __init__(
        self,
        variant: str,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        **kwargs: Any,
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(unknown("LSTM variant", variant, VARIANTS))
        removed = {_REMOVED_GATE.get(variant), _REMOVED_ACTIVATION.get(variant)}
        self.variant = variant
        self.kernel_gates = tuple(gate for gate in KERNEL_GATES if gate != _REMOVED_GATE.get(variant))
        self.gates = tuple(gate for gate in GATES if gate not in removed)
        self.peeping = tuple(gate for gate in self.kernel_gates if gate != "candidate" and variant != "NP")
        self.parts = PeepholeLSTMCell.parts if self.peeping else GatedCell.parts
        super().__init__(units, activation, recurrent_activation, **kwargs)
        if variant == "FGR":
            self.state_size = [self.units] * 5

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        if self.variant == "FGR":
            shape = (3 * self.units, 3 * self.units)
            self.gate_recurrent_kernel = self._add("gate_recurrent_kernel", "recurrent", shape)

    def columns_of(self, weight: Any) -> tuple[str, ...]:
        return self.peeping if weight is self.gate_recurrent_kernel else super().columns_of(weight)

    def advance(self, inputs: Tensor, states: Any, training: bool) -> list[Tensor]:
        hidden, cell = states[0], states[1]
        z, functions = self.preactivations(inputs, hidden, training), self.functions(training)
        if self.variant == "FGR":
            from_gates = ops.matmul(ops.concatenate(states[2:], axis=-1), self.gate_recurrent_kernel)
            z |= {gate: z[gate] + part for gate, part in zip(self.peeping, ops.split(from_gates, 3, -1), strict=True)}
        i = self._gate("input_gate", z, cell, functions)
        f = 1 - i if self.variant == "CIFG" else self._gate("forget_gate", z, cell, functions)
        cell = f * cell + i * functions.candidate(z["candidate"])
        o = self._gate("output_gate", z, cell, functions)
        hidden = o * functions.hidden(cell)
        return [hidden, cell, i, f, o][: len(self.state_size)]

    def _gate(self, gate: str, z: dict[str, Tensor], cell: Tensor, functions: Gates[Any]) -> Any:
        """The value of a gate, 1.0 where the variant has none."""
        if gate not in z:
            return 1.0
        received = z[gate]
        if gate in self.peeping:
            start = self.peeping.index(gate) * self.units
            received = received + self.peephole[start : start + self.units] * cell
        return getattr(functions, gate)(received)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "variant": self.variant}
