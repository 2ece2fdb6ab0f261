"""Random numbers for a recurrent cell: drawn once a sequence, outside the loop over time, and only in training."""

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

# Not public, but the only way in: Keras's RNN layer asks exactly the cells of this class for what they draw before its
# loop. Inside the loop JAX could not advance a seed, and an exported graph would write a variable at every step.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from zoo.kernels.reference import Tensor

# The largest number of each type; NumPy has no bfloat16 to ask.
_LARGEST = {kind: float(np.finfo(kind).max) for kind in ("float16", "float32", "float64")}
_LARGEST["bfloat16"] = float.fromhex("0x1.fep127")


class InTraining(keras.layers.Layer):
    """Tells whether the call that is under way trains.

    Keras hands `training` down to every layer inside a call; a hook that is not given it can ask this one.

    Example:
    >>> InTraining()(), InTraining()(training=True)
    (False, True)
    """

    def call(self, training: bool = False) -> bool:
        return bool(training)


@functools.cache
def _asking() -> InTraining:
    return InTraining(name="in_training")


def in_training() -> bool:
    """Whether the call of a layer that is under way trains.

    Example:
    >>> in_training()
    False
    """
    return bool(_asking()())


class FixedSeed(keras.random.SeedGenerator):
    """A seed for one draw of `keras.random` that is a tensor and owns no variable.

    Args:
        value: Two integers, of the backend's seed type.

    Example:
    >>> seed = keras.ops.convert_to_tensor([1, 2], dtype="uint32")
    >>> draw = [float(keras.random.uniform((), seed=FixedSeed(seed))) for _ in range(2)]
    >>> draw[0] == draw[1]
    True
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def next(self, ordered: bool = True) -> Tensor:
        return self.value


class SequenceDraws(DropoutRNNCell):
    """Mixin of a cell that draws once a sequence: `drawn` holds what `draw` made, and is `None` at inference.

    Call `start_draws` before the cell is built if it draws.
    """

    seed_generator: Any = None
    drawn: Any = None

    def start_draws(self, seed: int | None) -> None:
        """Make the seed of this cell; without this call nothing is ever drawn."""
        self.seed_generator = keras.random.SeedGenerator(seed)

    def draw(self, step_input: Tensor) -> Any:
        """What one batch of sequences needs, from the input (batch, channels) of its first step."""
        raise NotImplementedError

    # The names are Keras's; what they return is not looked at.

    def get_dropout_mask(self, step_input: Tensor) -> None:
        if self.seed_generator is not None and self.drawn is None and in_training():
            self.drawn = self.draw(step_input)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> None: ...

    def reset_dropout_mask(self) -> None:
        self.drawn = None

    def reset_recurrent_dropout_mask(self) -> None: ...


# === Steps that a mask hides ===


def finite(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs of a step with 0 for what is not finite, and what brings it back into the results.

    Keras's RNN layer hands every step to its cell, also those that a mask hides, and drops what comes out of them. A
    gradient of 0 times a NaN would still be a NaN, in the weights of the whole batch. So a cell computes with the
    finite inputs and adds the second tensor to what it gives, which is 0 in every finite row, and so is its gradient.

    Args:
        inputs: (batch, channels).

    Returns:
        The inputs, and a tensor (batch, 1) that is not finite where a row of the inputs is not.

    Example:
    >>> clean, fault = finite(ops.array([[1.0, float("nan")], [2.0, 3.0]]))
    >>> ops.convert_to_numpy(clean).tolist(), ops.convert_to_numpy(fault).ravel().tolist()
    ([[1.0, 0.0], [2.0, 3.0]], [nan, 0.0])
    """
    inputs = ops.convert_to_tensor(inputs)
    # A comparison: `isfinite` has no counterpart in every format of an exported model.
    largest = _LARGEST.get(keras.backend.standardize_dtype(inputs.dtype), math.inf)
    clean = ops.where(ops.abs(inputs) <= largest, inputs, ops.zeros_like(inputs))
    return clean, ops.sum(inputs - clean, axis=-1, keepdims=True)
