"""The LSTM whose hidden state is a narrow projection of its output."""

from typing import Any, ClassVar

import keras
from keras import ops

from zoo.checks import positive_integer
from zoo.kernels.reference import lstm_step
from zoo.layers._arguments import Checks
from zoo.layers._gated_cell import GatedCell
from zoo.types import Tensor


@keras.saving.register_keras_serializable("sequence_zoo")
class ProjectionLSTMCell(GatedCell):
    """LSTM cell with a recurrent projection (LSTMP): a wide cell state, a narrow recurrence.

        i = input_gate_activation(x @ W_i + r @ U_i + b_i)
        f = forget_gate_activation(x @ W_f + r @ U_f + b_f)
        g = candidate_activation(x @ W_c + r @ U_c + b_c)
        o = output_gate_activation(x @ W_o + r @ U_o + b_o)
        c' = f * c + i * g
        r' = (o * hidden_activation(c')) @ P

    Weights: `kernel` (channels, 4 * units), `recurrent_kernel` (projection, 4 * units), `bias` (4 * units), in the
    order i, f, c, o; `projection_kernel` P (units, projection). Without the paper's peepholes and without its second
    projection, which feeds only the output.

    Args:
        units: Positive int, the width of `c`.
        projection: Positive int, the width of `r`, which is also the output.
        activation: What `candidate_activation` and `hidden_activation` inherit. Default "tanh".
        recurrent_activation: What the three gates inherit. Default "sigmoid".
        projection_initializer: Initializer for P. Default "glorot_uniform".
        **kwargs: Arguments of `zoo.layers.LSTMCell` except `cell_clip` and `implementation`.

    Call arguments:
        inputs: (batch, channels).
        states: `[r, c]`, (batch, projection) and (batch, units).
        training: Bool; dropout and random slopes act only in training.

    Returns:
        `r'` and `[r', c']`.

    Raises:
        ValueError: An argument is not valid.

    Example:
    >>> import numpy as np
    >>> layer = keras.layers.RNN(ProjectionLSTMCell(8, projection=2), return_state=True)
    >>> [tuple(tensor.shape) for tensor in layer(np.ones((3, 5, 4), "float32"))]
    [(3, 2), (3, 2), (3, 8)]

    References:
        Sak, Senior and Beaufays (2014), "Long Short-Term Memory Based Recurrent Neural Network Architectures for
        Large Vocabulary Speech Recognition", https://arxiv.org/abs/1402.1128
    """

    argument_checks: ClassVar[Checks] = {**GatedCell.argument_checks, "projection": positive_integer}
    fixed = GatedCell.fixed | {"projection", "projection_initializer"}

    def __init__(
        self,
        units: int,
        projection: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        projection_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.projection = projection
        self.projection_initializer = keras.initializers.get(projection_initializer)
        self.state_size = [self.projection, self.units]
        self.output_size = self.projection

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        self.projection_kernel = self.add_weight(
            shape=(self.units, self.projection), name="projection_kernel", initializer=self.projection_initializer
        )

    def advance(self, inputs: Tensor, states: Any, training: bool) -> list[Tensor]:
        z = tuple(self.preactivations(inputs, states[0], training).values())
        hidden, cell = lstm_step(z, states[1], self.functions(training))
        return [ops.matmul(hidden, self.projection_kernel), cell]

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.projection_initializer)
        return {**super().get_config(), "projection": self.projection, "projection_initializer": initializer}
