"""The LSTM whose forget gate is one minus its input gate."""

from typing import Any

import keras

from zoo.layers._gated_cell import GatedCell
from zoo.types import Tensor


@keras.saving.register_keras_serializable("sequence_zoo")
class CoupledLSTMCell(GatedCell):
    """LSTM cell with coupled input and forget gate (CIFG), three quarters of the weights.

        i = input_gate_activation(x @ W_i + h @ U_i + b_i)
        f = 1 - i
        g = candidate_activation(x @ W_c + h @ U_c + b_c)
        o = output_gate_activation(x @ W_o + h @ U_o + b_o)
        c' = f * c + i * g
        h' = o * hidden_activation(c')

    The weights `kernel` (channels, 3 * units), `recurrent_kernel` (units, 3 * units) and `bias` hold i, c, o. With an
    input gate outside [0, 1], f is negative or greater than 1.

    Args:
        units: Positive int, the width of `h` and `c`.
        activation: What `candidate_activation` and `hidden_activation` inherit. Default "tanh".
        recurrent_activation: What the two gates inherit. Default "sigmoid".
        **kwargs: Arguments of `zoo.layers.LSTMCell` except `forget_gate_activation`, `cell_clip` and
            `implementation`. `unit_forget_bias` has no effect: there is no such bias.

    Call arguments:
        inputs: (batch, channels).
        states: `[h, c]`, each (batch, units).
        training: Bool; dropout and random slopes act only in training.

    Returns:
        `h'` and `[h', c']`.

    Raises:
        ValueError: An argument is not valid or is for the forget gate.

    Example:
    >>> import numpy as np
    >>> layer = keras.layers.RNN(CoupledLSTMCell(4))
    >>> tuple(layer(np.ones((2, 5, 3), "float32")).shape), layer.count_params()
    ((2, 4), 96)

    References:
        Greff, Srivastava, Koutnik, Steunebrink and Schmidhuber (2017), "LSTM: A Search Space Odyssey", section III,
        https://arxiv.org/abs/1503.04069 (there with peepholes: `VariantLSTMCell("CIFG")`).
    """

    gates = ("input_gate", "candidate", "output_gate", "hidden")
    kernel_gates = ("input_gate", "candidate", "output_gate")

    def advance(self, inputs: Tensor, states: Any, training: bool) -> list[Tensor]:
        hidden, cell = states[0], states[1]
        z, functions = self.preactivations(inputs, hidden, training), self.functions(training)
        i = functions.input_gate(z["input_gate"])
        cell = (1 - i) * cell + i * functions.candidate(z["candidate"])
        hidden = functions.output_gate(z["output_gate"]) * functions.hidden(cell)
        return [hidden, cell]
