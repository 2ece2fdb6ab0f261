"""The LSTM whose gates see the cell state."""

from typing import Any

import keras
from keras import ops

from zoo.layers._gated_cell import KERNEL_GATES, GatedCell
from zoo.types import Tensor


@keras.saving.register_keras_serializable("sequence_zoo")
class PeepholeLSTMCell(GatedCell):
    """LSTM cell with peephole connections from the cell state to the three gates.

        i = input_gate_activation(x @ W_i + h @ U_i + p_i * c + b_i)
        f = forget_gate_activation(x @ W_f + h @ U_f + p_f * c + b_f)
        g = candidate_activation(x @ W_c + h @ U_c + b_c)
        c' = f * c + i * g
        o = output_gate_activation(x @ W_o + h @ U_o + p_o * c' + b_o)
        h' = o * hidden_activation(c')

    Beside `kernel`, `recurrent_kernel` and `bias` as in `zoo.layers.LSTMCell`: `peephole` (3 * units), p_i, p_f, p_o.

    Args:
        units: Positive int, the width of `h` and `c`.
        activation: What `candidate_activation` and `hidden_activation` inherit. Default "tanh".
        recurrent_activation: What the three gates inherit. Default "sigmoid".
        peephole_initializer: Initializer for the peepholes. Default "random_uniform", within 0.05 of 0.
        **kwargs: Arguments of `zoo.layers.LSTMCell` except `cell_clip` and `implementation`. Dropout does not act on
            what the peepholes read.

    Call arguments:
        inputs: (batch, channels).
        states: `[h, c]`, each (batch, units).
        training: Bool; dropout and random slopes act only in training.

    Returns:
        `h'` and `[h', c']`.

    Raises:
        ValueError: An argument is not valid.

    Example:
    >>> cell = PeepholeLSTMCell(4)
    >>> cell.build((None, 3))
    >>> {weight.name: tuple(weight.shape) for weight in cell.weights}
    {'kernel': (3, 16), 'recurrent_kernel': (4, 16), 'bias': (16,), 'peephole': (12,)}

    References:
        Gers and Schmidhuber (2000), "Recurrent nets that time and count", https://doi.org/10.1109/IJCNN.2000.861302
    """

    fixed = GatedCell.fixed | {"peephole_initializer"}
    # The output gate comes after the cell state, which it sees.
    parts: tuple[str, ...] = (*KERNEL_GATES[:3], "cell_state", "output_gate", "hidden_state")
    peeping: tuple[str, ...] = ("input_gate", "forget_gate", "output_gate")  # in the order of the blocks of `peephole`
    peephole: Any = None

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        peephole_initializer: Any = "random_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.peephole_initializer = keras.initializers.get(peephole_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        if self.peeping:
            shape = (len(self.peeping) * self.units,)
            self.peephole = self.add_weight(shape=shape, name="peephole", initializer=self.peephole_initializer)

    def columns_of(self, weight: Any) -> tuple[str, ...]:
        return self.peeping if weight is self.peephole else super().columns_of(weight)

    def advance(self, inputs: Tensor, states: Any, training: bool) -> list[Tensor]:
        hidden, cell = states[0], states[1]
        z, functions = self.preactivations(inputs, hidden, training), self.functions(training)
        p_i, p_f, p_o = ops.split(self.peephole, 3)
        i = functions.input_gate(z["input_gate"] + p_i * cell)
        f = functions.forget_gate(z["forget_gate"] + p_f * cell)
        cell = f * cell + i * functions.candidate(z["candidate"])
        o = functions.output_gate(z["output_gate"] + p_o * cell)
        hidden = o * functions.hidden(cell)
        return [hidden, cell]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "peephole_initializer": keras.initializers.serialize(self.peephole_initializer),
        }
