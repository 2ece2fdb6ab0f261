"""One step of an LSTM with a separate activation for each gate."""

import math
import warnings
from typing import Any, ClassVar

import keras
from keras import ops

from zoo import checks
from zoo.kernels.reference import lstm_step
from zoo.layers._arguments import Checks
from zoo.layers._gated_cell import GatedCell
from zoo.types import Tensor


def clip_or_none(name: str, value: Any) -> float | None:
    """Check a bound for the cell state."""
    return None if value is None else checks.positive_number(name, value, "10, or None for no clipping")


@keras.saving.register_keras_serializable("sequence_zoo")
class LSTMCell(GatedCell):
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
        cell_clip: Bound of the new cell state, a positive number, or `None` (the default) for none. The gradient
            is 0 where it cuts; a NaN stays a NaN.
        implementation: 1 or 2, as in Keras: 1 gives each gate its own dropout masks, and recurrent dropout sets it.
        *args: The other arguments of `keras.layers.LSTMCell`, in its order, from `use_bias` to `seed`. `dropout` and
            `recurrent_dropout`, in [0, 1), are the shares of x and of h dropped where they meet W and U, never of c,
            with one mask for all steps of a sequence.
        **kwargs: The same arguments by name; those of `keras.layers.Layer`; and `input_gate_activation`,
            `forget_gate_activation`, `candidate_activation`, `output_gate_activation` and `hidden_activation`, each
            anything that `zoo.activations.get` takes ("linear" for the identity), or `None` to inherit.

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

    argument_checks: ClassVar[Checks] = {**GatedCell.argument_checks, "cell_clip": clip_or_none}
    always_seeded = True  # as Keras's cell, so that files hold the same variables

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *args: Any,
        cell_clip: float | None = None,
        implementation: int = 2,
        **kwargs: Any,
    ) -> None:
        self.implementation = implementation
        super().__init__(units, activation, recurrent_activation, *args, **kwargs)
        self.cell_clip = cell_clip

    takes_cell_clip = True

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "recurrent_dropout" and value:
            self.implementation = 1  # as in Keras's constructor

    def checked(self, name: str, value: Any) -> Any:
        recurrent_dropout = getattr(self, "recurrent_dropout", 0.0)
        if name == "implementation" and value != 1 and recurrent_dropout:
            raise ValueError(
                f"implementation={value!r} has no recurrent dropout, and recurrent_dropout is {recurrent_dropout}; "
                "set that to 0 first."
            )
        return super().checked(name, value)

    @property
    def dropout_mask_count(self) -> int:
        """Number of masks for each kind of dropout: one for each gate with `implementation=1`, else one for all."""
        return len(self.kernel_gates) if self.implementation == 1 else 1

    def _bias_with_open_forget_gate(self, initializer: Any, shape: tuple[int], dtype: Any = None) -> Tensor:
        # In pieces, as Keras does it, so that the same seed makes the same bias.
        first, last = (initializer((gates * self.units,), dtype=dtype) for gates in (1, 2))
        return ops.concatenate([first, ops.ones((self.units,), dtype=dtype), last])

    # === Dropout ===

    def dropout_by_gate(self, sequences: Tensor) -> Tensor | None:
        """The factors of [x, h] that each gate drew, (4, batch, channels + units); `None` where nothing is dropped.

        Args:
            sequences: (batch, steps, channels), of the type that the factors are to have.
        """
        inputs, hidden = self.drawn.inputs, self.drawn.hidden
        if not inputs and not hidden:
            return None
        x = sequences[:, 0]
        ones = ops.ones_like(x[:, :1]) * ops.ones((1, self.units), x.dtype)
        pairs = zip(inputs or [ops.ones_like(x)] * 4, hidden or [ones] * 4, strict=True)
        return ops.stack([ops.concatenate([ops.cast(part, x.dtype) for part in pair], axis=-1) for pair in pairs])

    # === Step ===

    def advance(self, inputs: Tensor, states: Any, training: bool) -> list[Tensor]:
        z = tuple(self.preactivations(inputs, states[0], training).values())
        return list(lstm_step(z, states[1], self.functions(training), self.cell_clip))

    # === Config ===

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "cell_clip": self.cell_clip}
        if math.isclose(self.recurrent_dropout, 0.0):
            config["implementation"] = self.implementation
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LSTMCell":
        return cls(**without_dropout_of_one(config))


def without_dropout_of_one(config: dict[str, Any]) -> dict[str, Any]:
    """Replace a dropout of 1 in a saved configuration by 0: Keras's cells accept 1 and drop nothing.

    Example:
    >>> import pytest
    >>> with pytest.warns(UserWarning, match="dropout=1.0 dropped nothing"):
    ...     without_dropout_of_one({"units": 4, "dropout": 1.0})
    {'units': 4, 'dropout': 0.0}
    """
    ineffective = [name for name in ("dropout", "recurrent_dropout") if config.get(name) == 1]
    for name in ineffective:
        warnings.warn(
            f"the saved {name}={config[name]} dropped nothing, as in Keras's LSTM; it is loaded as {name}=0.0.",
            UserWarning,
            stacklevel=3,
        )
    return {**config, **dict.fromkeys(ineffective, 0.0)}
