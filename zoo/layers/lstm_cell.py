"""One step of an LSTM with an activation of its own for every gate."""

import math
import warnings
from typing import Any, ClassVar

import keras
from keras import ops

from zoo import checks
from zoo.activations import Activation
from zoo.initializers import refuse_overwritten
from zoo.kernels.reference import GateFunctions, Tensor, lstm_step, split_gates
from zoo.layers._arguments import OF_WEIGHTS, Checks, dropped_share
from zoo.layers._drawing import finite, in_training
from zoo.layers._gate_activations import (
    GATES,
    GateActivations,
    build_gate_activations,
    draw_slopes,
    gate_function,
    random_gates,
)


def clip_or_none(name: str, value: Any) -> float | None:
    """Check a bound of the cell state."""
    return None if value is None else checks.positive_number(name, value, "10, or None for no clipping")


@keras.saving.register_keras_serializable("sequence_zoo")
class LSTMCell(GateActivations, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with a separate activation for each gate.

    With `x` the input of the step, `h` the hidden state and `c` the cell state:

        i = input_gate_activation(x @ W_i + h @ U_i + b_i)
        f = forget_gate_activation(x @ W_f + h @ U_f + b_f)
        g = candidate_activation(x @ W_c + h @ U_c + b_c)
        o = output_gate_activation(x @ W_o + h @ U_o + b_o)
        c' = clip(f * c + i * g, -cell_clip, cell_clip)    (not clipped without `cell_clip`)
        h' = o * hidden_activation(c')

    The weights `kernel` (channels, 4 * units), `recurrent_kernel` (units, 4 * units) and `bias` (4 * units) hold the
    gates in Keras's order i, f, c, o. A learnable activation adds one vector (units,) for each gate that uses it.

    Args:
        units: Positive int, the width of `h` and `c`.
        activation: What `candidate_activation` and `hidden_activation` inherit. Default "tanh".
        recurrent_activation: What the three gates inherit. Default "sigmoid".
        input_gate_activation: Activation of i, or `None` to inherit. All five take whatever
            `zoo.activations.get` takes; the identity is "linear".
        forget_gate_activation: Activation of f, or `None`.
        candidate_activation: Activation of g, or `None`.
        output_gate_activation: Activation of o, or `None`.
        hidden_activation: Activation of the new cell state, or `None`.
        cell_clip: Bound of the new cell state, a positive number, or `None` (the default) for none. The gradient
            is 0 where it cuts; a NaN stays a NaN.
        **kwargs: Every other argument of `keras.layers.LSTMCell`.

    Call arguments:
        inputs: (batch, channels).
        states: `[h, c]`, each (batch, units).
        training: Bool; dropout and random slopes act only in training.

    Returns:
        `h'` and `[h', c']`.

    Raises:
        ValueError: `units` is not a positive int, a dropout rate is outside [0, 1), an activation is unknown,
            `cell_clip` is not a positive finite number, or `ChronoBias` comes with `unit_forget_bias=True`.
        AttributeError: An argument that the weights are made from, such as `units`, is set again.

    Example:
    >>> import numpy as np
    >>> cell = LSTMCell(4, candidate_activation="prelu", hidden_activation="relu6")
    >>> h, [h_again, c] = cell(np.ones((2, 3), "float32"), [np.zeros((2, 4), "float32")] * 2)
    >>> tuple(h.shape), [weight.name for weight in cell.weights]
    ((2, 4), ['kernel', 'recurrent_kernel', 'bias', 'candidate_slope'])

    References:
        Hochreiter and Schmidhuber (1997), "Long Short-Term Memory"; Gers, Schmidhuber and Cummins (2000), "Learning
        to Forget"; Jozefowicz, Zaremba and Sutskever (2015) for the forget bias of 1; Sak, Senior and Beaufays (2014),
        https://arxiv.org/abs/1402.1128, for clipping the cell state (they: to [-50, 50]).
    """

    argument_checks: ClassVar[Checks] = {
        "units": checks.positive_integer,
        "dropout": dropped_share,
        "recurrent_dropout": dropped_share,
        "cell_clip": clip_or_none,
    }
    fixed = OF_WEIGHTS

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *args: Any,
        input_gate_activation: Any = None,
        forget_gate_activation: Any = None,
        candidate_activation: Any = None,
        output_gate_activation: Any = None,
        hidden_activation: Any = None,
        cell_clip: float | None = None,
        **kwargs: Any,
    ) -> None:
        units = checks.positive_integer("units", units)
        for name in ("dropout", "recurrent_dropout"):  # Keras would clip them
            dropped_share(name, kwargs.get(name, 0.0))
        # "linear": Keras knows fewer activations.
        super().__init__(units, "linear", "linear", *args, **kwargs)
        refuse_overwritten(self.bias_initializer, self.unit_forget_bias)
        given = {
            "input_gate": input_gate_activation,
            "forget_gate": forget_gate_activation,
            "candidate": candidate_activation,
            "output_gate": output_gate_activation,
            "hidden": hidden_activation,
        }
        self.set_activations(activation, recurrent_activation, given)
        self.cell_clip = cell_clip
        self.sees_padding = True  # a layer that hides the steps which its mask hides says false
        self._random_slopes: dict[str, Tensor] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "implementation" and value != 1 and getattr(self, "recurrent_dropout", 0.0):
            raise ValueError(
                f"implementation={value!r} has no recurrent dropout, and recurrent_dropout={self.recurrent_dropout} "
                "is set; set that to 0 first."
            )
        super().__setattr__(name, value)
        if name == "recurrent_dropout" and value:
            self.implementation = 1  # as in Keras's constructor
        if name == "implementation":
            self.dropout_mask_count = 4 if value == 1 else None

    # === Weights ===

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        build_gate_activations(self)

    # === Activations ===

    def functions(self, training: bool = False) -> GateFunctions:
        """The five activations as functions of one tensor, with what they learn or draw filled in."""
        drawn = self._random_slopes if training else None
        return GateFunctions(*(gate_function(self, gate, drawn) for gate in GATES))

    def engine_activations(self) -> tuple[Any, ...]:
        """The five activations as an engine takes them: rows of the table, or functions of one tensor."""
        chosen = self.gate_activations.items()
        return tuple(a if isinstance(a, Activation) else gate_function(self, gate, None) for gate, a in chosen)

    def slopes(self, training: bool = False) -> list[Any]:
        """What each of the five activations learns, (units,), or drew for a batch, (batch, units); else `None`."""
        drawn = (self._random_slopes if training else None) or {}
        return [drawn.get(gate, getattr(self, f"{gate}_slope", None)) for gate in GATES]

    # Keras's RNN layer asks for the dropout masks once before its loop over time and drops them after: random slopes
    # live exactly as long, so that a sequence keeps its draw and no draw is made inside the loop. It asks at
    # inference too, where a draw would advance the seed (a variable) with every request to an exported model.

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Any:
        return super().get_recurrent_dropout_mask(step_input) if in_training() else None

    def get_dropout_mask(self, step_input: Tensor) -> Any:
        if not in_training():
            return None
        if self._random_slopes is None and random_gates(self):
            self._random_slopes = draw_slopes(self, step_input)
        return super().get_dropout_mask(step_input)

    def reset_dropout_mask(self) -> None:
        self._random_slopes = None
        super().reset_dropout_mask()

    # === Step ===

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        hidden, cell = states[0], states[1]
        if training:
            self.get_dropout_mask(inputs)  # a cell called outside a layer still needs its draws
        inputs, fault = finite(inputs) if self.sees_padding else (inputs, None)
        split = self._split_preactivations if self.implementation == 1 else self._fused_preactivations
        hidden, cell = lstm_step(split(inputs, hidden, training), cell, self.functions(training), self.cell_clip)
        if fault is not None:
            hidden, cell = hidden + fault, cell + fault
        return hidden, [hidden, cell]

    def _fused_preactivations(self, inputs: Tensor, hidden: Tensor, training: bool) -> tuple[Tensor, ...]:
        if training and 0.0 < self.dropout < 1.0:
            inputs = inputs * super().get_dropout_mask(inputs)
        z = ops.matmul(inputs, self.kernel) + ops.matmul(hidden, self.recurrent_kernel)
        return split_gates(z + self.bias if self.use_bias else z)

    def _split_preactivations(self, inputs: Tensor, hidden: Tensor, training: bool) -> tuple[Tensor, ...]:
        """Gate by gate, so that each gate has a dropout mask of its own (Gal and Ghahramani 2016)."""
        xs, hs = [inputs] * 4, [hidden] * 4
        if training and 0.0 < self.dropout < 1.0:
            masks = super().get_dropout_mask(inputs)
            xs = [inputs * mask for mask in masks]
        if training and 0.0 < self.recurrent_dropout < 1.0:
            masks = super().get_recurrent_dropout_mask(hidden)
            hs = [hidden * mask for mask in masks]
        zs = []
        for gate in range(4):
            columns = slice(gate * self.units, (gate + 1) * self.units)
            z = ops.matmul(xs[gate], self.kernel[:, columns])
            if self.use_bias:
                z = z + self.bias[columns]
            zs.append(z + ops.matmul(hs[gate], self.recurrent_kernel[:, columns]))
        return tuple(zs)

    # === Config ===

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), **self.activation_config()}
        config["cell_clip"] = self.cell_clip
        if math.isclose(self.recurrent_dropout, 0.0):
            config["implementation"] = self.implementation
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LSTMCell":
        return cls(**without_dropout_of_one(config))


def without_dropout_of_one(config: dict[str, Any]) -> dict[str, Any]:
    """A saved configuration with 0 for a dropout of 1, which Keras's cells take and which drops nothing.

    Example:
    >>> import pytest
    >>> with pytest.warns(UserWarning, match="dropout=1.0 dropped nothing"):
    ...     without_dropout_of_one({"units": 4, "dropout": 1.0})
    {'units': 4, 'dropout': 0.0}
    """
    wrong = [name for name in ("dropout", "recurrent_dropout") if config.get(name) == 1]
    for name in wrong:
        warnings.warn(
            f"the saved {name}={config[name]} dropped nothing, as in Keras's LSTM; it is loaded as {name}=0.0.",
            UserWarning,
            stacklevel=3,
        )
    return {**config, **dict.fromkeys(wrong, 0.0)}
