"""The LSTM with layer normalisation."""

from typing import Any, ClassVar

import keras
from keras import ops

from zoo.checks import positive_number
from zoo.kernels.reference import lstm_step, split_gates
from zoo.layers._arguments import Checks
from zoo.layers._gated_cell import GatedCell
from zoo.types import Tensor


def layer_normalize(x: Tensor, gain: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Shift and scale each row of `x` (batch, width) to mean 0 and variance 1, then apply `gain` and `bias` (width,).

    Computed in float32 at least, because a half-precision sum of squares overflows; the result has the type of `x`.

    Example:
    >>> rows = ops.convert_to_tensor([[1.0, 3.0], [5.0, 5.0]])
    >>> ops.convert_to_numpy(layer_normalize(rows, ops.ones(2), ops.zeros(2), 1e-9)).round(3).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """
    inner, width = keras.backend.result_type(x.dtype, "float32"), x.shape[-1]
    precise = ops.cast(x, inner)
    centred = precise - ops.sum(precise, axis=-1, keepdims=True) / width
    variance = ops.sum(centred * centred, axis=-1, keepdims=True) / width
    normal = centred * ops.rsqrt(variance + epsilon)
    return ops.cast(normal * ops.cast(gain, inner) + ops.cast(bias, inner), x.dtype)


@keras.saving.register_keras_serializable("sequence_zoo")
class LayerNormLSTMCell(GatedCell):
    """LSTM cell with layer normalisation of the input's part, the recurrence's part and the cell state.

        z = LN(x @ W; gain_x, bias_x) + LN(h @ U; gain_h, bias_h) + b        (all 4 * units together)
        i, f, g, o = the activations of the four blocks of z
        c' = f * c + i * g
        h' = o * hidden_activation(LN(c'; gain_c, bias_c))

        LN(a; gain, bias) = gain * (a - mean(a)) / sqrt(var(a) + epsilon) + bias, over the last axis

    The weights are those of `zoo.layers.LSTMCell`, and a gain and a bias for each LN, as published, although three
    biases add up in z.

    Args:
        units: Positive int, the width of `h` and `c`.
        activation: What `candidate_activation` and `hidden_activation` inherit. Default "tanh".
        recurrent_activation: What the three gates inherit. Default "sigmoid".
        epsilon: Positive number, added to the variance.
        gain_initializer: Initializer for the three gains. Default "ones".
        **kwargs: Arguments of `zoo.layers.LSTMCell` except `cell_clip` and `implementation`.

    Call arguments:
        inputs: (batch, channels).
        states: `[h, c]`, each (batch, units).
        training: Bool; dropout and random slopes act only in training.

    Returns:
        `h'` and `[h', c']`; `c'` is not normalised.

    Raises:
        ValueError: An argument is not valid.

    Example:
    >>> import numpy as np
    >>> layer = keras.layers.RNN(LayerNormLSTMCell(4))
    >>> small, large = layer(np.ones((1, 5, 3), "float32")), layer(np.full((1, 5, 3), 1e3, "float32"))
    >>> np.allclose(small, large, atol=1e-3)
    True

    References:
        Ba, Kiros and Hinton (2016), "Layer Normalization", supplement, eqs. 20 to 22, https://arxiv.org/abs/1607.06450
    """

    argument_checks: ClassVar[Checks] = {**GatedCell.argument_checks, "epsilon": positive_number}
    fixed = GatedCell.fixed | {"gain_initializer"}

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        epsilon: float = 1e-5,
        gain_initializer: Any = "ones",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, recurrent_activation, **kwargs)
        self.epsilon = epsilon
        self.gain_initializer = keras.initializers.get(gain_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        for name, width in (("input", 4 * self.units), ("recurrent", 4 * self.units), ("cell", self.units)):
            gain = self.add_weight(shape=(width,), name=f"{name}_gain", initializer=self.gain_initializer)
            bias = self.add_weight(shape=(width,), name=f"{name}_norm_bias", initializer="zeros")
            setattr(self, f"{name}_gain", gain)
            setattr(self, f"{name}_norm_bias", bias)

    normalizes_recurrence = True

    def columns_of(self, weight: Any) -> tuple[str, ...]:
        of_gates = (self.input_gain, self.input_norm_bias, self.recurrent_gain, self.recurrent_norm_bias)
        return self.kernel_gates if any(weight is known for known in of_gates) else super().columns_of(weight)

    def advance(self, inputs: Tensor, states: Any, training: bool) -> list[Tensor]:
        hidden, cell = states[0], states[1]
        z_x = self._normalize("input", self.input_product(inputs, training))
        z_h = self._normalize("recurrent", self.recurrent_product(hidden, training))
        functions = self.functions(training)
        normalizing = functions._replace(hidden=lambda c: functions.hidden(self._normalize("cell", c)))
        return list(lstm_step(split_gates(self.with_bias(z_x + z_h)), cell, normalizing))

    def _normalize(self, name: str, x: Tensor) -> Tensor:
        return layer_normalize(x, getattr(self, f"{name}_gain"), getattr(self, f"{name}_norm_bias"), self.epsilon)

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.gain_initializer)
        return {**super().get_config(), "epsilon": self.epsilon, "gain_initializer": initializer}
