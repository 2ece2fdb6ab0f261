"""Initializers that give recurrent layers a long memory, by the bias or by the identity."""

import random
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.checks import finite_number, is_finite_number, python_number
from zoo.types import Tensor


@keras.saving.register_keras_serializable("sequence_zoo")
class ChronoBias(keras.initializers.Initializer):
    """Initializer for the bias of an LSTM whose memory spans up to `max_steps` steps.

        b_f = log(u),  u ~ Uniform(1, max_steps - 1)
        b_i = -b_f
        b_c = b_o = 0

    A forget gate with bias log(u) forgets over about u steps. Use it with `unit_forget_bias=False`. The cells of this
    package refuse it with `True`. `keras.layers.LSTM` accepts it and initialises its bias in pieces, which gives wrong
    values where `units` is a multiple of 4, since a piece does not show how wide the layer is.

    Args:
        max_steps: Number greater than 2: the longest dependency, in steps.
        seed: Int, or `None` for a seed drawn from Python's `random` when the initializer is made. As with Keras's
            initializers, one object gives the same values at every call.

    Raises:
        ValueError: `max_steps` is not a number greater than 2, or the shape is not (4 * units,).

    Example:
    >>> bias = ops.convert_to_numpy(ChronoBias(100, seed=1)((8,)))
    >>> bool((bias[:2] == -bias[2:4]).all()), bias[4:].tolist()
    (True, [0.0, 0.0, 0.0, 0.0])

    References:
        Tallec and Ollivier (2018), "Can recurrent neural networks warp time?", https://arxiv.org/abs/1804.11188
    """

    def __init__(self, max_steps: float, seed: int | None = None) -> None:
        if not is_finite_number(max_steps) or max_steps <= 2:
            raise ValueError(f"`max_steps` must be a number of steps greater than 2, received {max_steps!r}.")
        self.max_steps = python_number(max_steps)
        self.seed = random.randint(1, 10**9) if seed is None else seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        if len(shape) != 1 or shape[0] % 4:
            raise ValueError(
                f"ChronoBias fills the bias of an LSTM, of shape (4 * units,); received shape {tuple(shape)}. "
                "Pass it as bias_initializer together with unit_forget_bias=False."
            )
        dtype = dtype or keras.config.floatx()
        units = shape[0] // 4
        forget = ops.log(keras.random.uniform((units,), 1.0, self.max_steps - 1.0, dtype=dtype, seed=self.seed))
        return ops.concatenate([-forget, forget, ops.zeros((2 * units,), dtype=dtype)])

    def get_config(self) -> dict[str, Any]:
        return {"max_steps": self.max_steps, "seed": self.seed}


def refuse_overwritten(bias_initializer: Any, unit_forget_bias: bool) -> None:
    """Raise `ValueError` for a `ChronoBias` whose forget gate's bias `unit_forget_bias` would overwrite.

    Example:
    >>> refuse_overwritten(ChronoBias(100), unit_forget_bias=True)
    Traceback (most recent call last):
    ValueError: `bias_initializer=ChronoBias(...)` sets the forget gate's bias, ...
    """
    if unit_forget_bias and isinstance(bias_initializer, ChronoBias):
        raise ValueError(
            "`bias_initializer=ChronoBias(...)` sets the forget gate's bias, and `unit_forget_bias=True` would "
            "overwrite it; pass unit_forget_bias=False."
        )


@keras.saving.register_keras_serializable("sequence_zoo")
class IdentityRecurrent(keras.initializers.Initializer):
    """Initializer for a recurrent kernel: `gain` times the identity for every block of columns.

    With `keras.layers.SimpleRNN(units, activation="relu")` and zero biases this is the IRNN; for an LSTM's kernel of
    shape (units, 4 * units) each gate gets an identity of its own.

    Args:
        gain: Finite number, the scale of the identity. The paper uses 1, or 0.01 where a long memory harms.

    Raises:
        ValueError: `gain` is not a finite number, or the shape is not (units, blocks * units).

    Example:
    >>> ops.convert_to_numpy(IdentityRecurrent(0.5)((2, 4))).tolist()
    [[0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5]]

    References:
        Le, Jaitly and Hinton (2015), "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units",
        https://arxiv.org/abs/1504.00941
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = finite_number("gain", gain)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        if len(shape) != 2 or shape[0] < 1 or shape[1] < 1 or shape[1] % shape[0]:
            raise ValueError(
                "IdentityRecurrent fills a recurrent kernel of shape (units, blocks * units), (units, 4 * units) for "
                f"an LSTM; received shape {tuple(shape)}. Pass it as recurrent_initializer."
            )
        blocks = np.tile(self.gain * np.eye(shape[0]), (1, shape[1] // shape[0]))
        return ops.convert_to_tensor(blocks, dtype=dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain}
