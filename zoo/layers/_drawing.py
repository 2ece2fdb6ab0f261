"""Random numbers for a recurrent cell: drawn once a sequence, outside the loop over time, and only in training."""

from typing import Any

import keras

# Not public, but the only way in: Keras's RNN layer asks exactly the cells of this class for what they draw before its
# loop. Inside the loop JAX could not advance a seed, and an exported graph would write a variable at every step.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from zoo.kernels.reference import Tensor


class InTraining(keras.layers.Layer):
    """Tells whether the call that is under way trains.

    Keras hands `training` down to every layer inside a call; a hook that is not given it can ask this one.

    Example:
    >>> InTraining()(), InTraining()(training=True)
    (False, True)
    """

    def call(self, training: bool = False) -> bool:
        return bool(training)


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

    Call `start_draws` in `__init__` of a cell that draws.
    """

    draws = False
    drawn: Any = None

    def start_draws(self, seed: int | None) -> None:
        """Make the seed of this cell; without this call nothing is ever drawn."""
        self.draws = True
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.in_training = InTraining(name="in_training")

    def draw(self, step_input: Tensor) -> Any:
        """What one batch of sequences needs, from the input (batch, channels) of its first step."""
        raise NotImplementedError

    # The names are Keras's; what they return is not looked at.

    def get_dropout_mask(self, step_input: Tensor) -> None:
        if self.draws and self.drawn is None and self.in_training():
            self.drawn = self.draw(step_input)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> None: ...

    def reset_dropout_mask(self) -> None:
        self.drawn = None

    def reset_recurrent_dropout_mask(self) -> None: ...
