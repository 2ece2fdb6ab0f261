"""Zoneout: states that randomly keep their value for a step."""

from typing import Any

import keras
from keras import ops
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell  # see zoo.layers._gated_cell

from zoo.checks import share
from zoo.layers._arguments import CheckedArguments
from zoo.layers._gated_cell import SequenceDraws, finite
from zoo.types import Tensor

_DIGIT = 256  # the largest count that bfloat16 holds without a gap


class FixedSeed(keras.random.SeedGenerator):
    """A seed for one draw of `keras.random`, given by a tensor and without a variable.

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


@keras.saving.register_keras_serializable("sequence_zoo")
class ZoneoutCell(CheckedArguments, SequenceDraws, keras.layers.Layer):
    """Zoneout around any recurrent cell.

        training:   s' = where(m, s, s_new),  m ~ Bernoulli(z), drawn anew for every unit, row and step
        inference:  s' = z * s + (1 - z) * s_new

    for the first state (h, z = `zoneout_h`) and the second (c, z = `zoneout_c`), where s_new is the cell's new state;
    further states stay as the cell computes them. The output is the first state. In an LSTM h_new comes from c_new
    before it is zoned out, as published.

    The random numbers depend on a seed, which is drawn once a sequence before the loop, and on the number of the step,
    which is an additional state (batch, 2): its low and high digits in base 256, since in half precision a single
    number would stop counting at 256. Masks repeat after 65536 steps. A layer with `return_state` returns this state
    last, and `initial_state` must include it.

    Args:
        cell: A cell whose first state is its output: any cell of Keras or of this package. To use a stack, wrap each of
            its cells.
        zoneout_h: Number in [0, 1], the probability that a unit of the first state keeps its value.
        zoneout_c: The same for the second state; 0 for a cell without one.
        seed: Int, or `None` for a seed drawn from Python's `random`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: (batch, channels).
        states: The states of the cell, then the step counter.
        training: Bool.

    Returns:
        The new first state and the list of new states.

    Raises:
        ValueError: A probability is not in [0, 1], or `cell` cannot be wrapped.

    Example:
    >>> import numpy as np
    >>> layer = keras.layers.RNN(ZoneoutCell(keras.layers.LSTMCell(4), zoneout_h=0.1, zoneout_c=0.5))
    >>> tuple(layer(np.ones((2, 5, 3), "float32"), training=True).shape)
    (2, 4)

    References:
        Krueger et al. (2017), "Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations", eqs. 2 to 4,
        https://arxiv.org/abs/1606.01305
    """

    fixed = frozenset({"cell", "seed"})

    def __init__(
        self, cell: Any, zoneout_h: float = 0.0, zoneout_c: float = 0.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": cell.dtype_policy, **kwargs} if isinstance(cell, keras.layers.Layer) else kwargs)
        sizes = _state_sizes(cell)
        self.cell = cell
        self.zoned_sizes = sizes[:2]
        self.zoneout_h, self.zoneout_c = zoneout_h, zoneout_c
        self.single_state = not isinstance(cell.state_size, list | tuple)
        self.state_size = [*sizes, 2]
        self.output_size = sizes[0]
        self.seed = seed
        self.start_draws(seed)

    def checked(self, name: str, value: Any) -> Any:
        if name not in ("zoneout_h", "zoneout_c"):
            return super().checked(name, value)
        rate = share(name, value, "the probability to keep a state", whole=True)
        if name == "zoneout_c" and rate and len(self.zoned_sizes) < 2:
            raise ValueError(
                f"`zoneout_c` acts on the second state, but {type(self.cell).__name__} has one state; received "
                f"zoneout_c={value!r}: use zoneout_h."
            )
        return rate

    @property
    def rates(self) -> tuple[float, ...]:
        """The probability for each state that can be zoned out."""
        return (self.zoneout_h, self.zoneout_c)[: len(self.zoned_sizes)]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if not self.cell.built:
            self.cell.build(input_shape)
            self.cell.built = True
        self.built = True

    def get_initial_state(self, batch_size: Any = None) -> list[Tensor]:
        """The cell's initial states and a counter at 0."""
        get_initial = getattr(self.cell, "get_initial_state", None)
        sizes = self.state_size[:-1]
        states = (
            get_initial(batch_size=batch_size) if get_initial else [ops.zeros((batch_size, size)) for size in sizes]
        )
        states = [states] if self.single_state and not isinstance(states, list | tuple) else list(states)
        return [*states, ops.zeros((batch_size, 2), dtype=self.compute_dtype)]

    # === Draws ===

    def draw(self, step_input: Tensor) -> Tensor:
        return keras.random.randint((), 0, 2**31 - 1, dtype="int32", seed=self.seed_generator)

    # The RNN layer calls only this cell, which has to pass the calls on to the wrapped one.

    def get_dropout_mask(self, step_input: Tensor) -> None:
        super().get_dropout_mask(step_input)
        if self.drawn is not None and isinstance(self.cell, DropoutRNNCell):
            self.cell.get_dropout_mask(step_input)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> None:
        if self.drawn is not None and isinstance(self.cell, DropoutRNNCell):
            self.cell.get_recurrent_dropout_mask(step_input)

    def reset_dropout_mask(self) -> None:
        super().reset_dropout_mask()
        if isinstance(self.cell, DropoutRNNCell):
            self.cell.reset_dropout_mask()

    def reset_recurrent_dropout_mask(self) -> None:
        if isinstance(self.cell, DropoutRNNCell):
            self.cell.reset_recurrent_dropout_mask()

    def _keep(self, counter: Tensor) -> list[Tensor]:
        """Whether each unit keeps its value in this step: a bool (batch, size) for each state that can be zoned out."""
        drawn = self.draw(counter) if self.drawn is None else self.drawn  # in case the cell is called outside a layer
        low, high = ops.split(ops.cast(counter, "int32"), 2, axis=-1)
        # The counter of a masked row stands still, but the sum over rows grows whenever any row is valid.
        step = ops.sum(low + _DIGIT * high)
        kind = keras.backend.standardize_dtype(self.seed_generator.state.dtype)
        seed = FixedSeed(ops.cast(ops.stack([drawn, step]), kind))
        uniform = keras.random.uniform((ops.shape(counter)[0], sum(self.zoned_sizes)), dtype="float32", seed=seed)
        parts = ops.split(uniform, [self.zoned_sizes[0]], axis=-1) if len(self.rates) > 1 else [uniform]
        return [part < rate for part, rate in zip(parts, self.rates, strict=True)]

    # === Step ===

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        *old, counter = states
        inputs, fault = finite(inputs)
        training_argument = {"training": training} if getattr(self.cell, "_call_has_training_arg", False) else {}
        _, new = self.cell(inputs, old[0] if self.single_state else old, **training_argument)
        new = list(new) if isinstance(new, list | tuple) else [new]
        if training:
            zoned = [ops.where(m, s, n) for m, s, n in zip(self._keep(counter), old, new, strict=False)]
            counter = _next(counter)
        else:
            zoned = [rate * s + (1 - rate) * n for rate, s, n in zip(self.rates, old, new, strict=False)]
        kept = [state + fault for state in (*zoned, *new[len(zoned) :])]
        return kept[0], [*kept, counter]

    # === Config ===

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "zoneout_h": self.zoneout_h,
            "zoneout_c": self.zoneout_c,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ZoneoutCell":
        cell = keras.saving.deserialize_keras_object(config["cell"], custom_objects=custom_objects)
        return cls(**{**config, "cell": cell})


def _state_sizes(cell: Any) -> list[int]:
    sizes = getattr(cell, "state_size", None)
    sizes = list(sizes) if isinstance(sizes, list | tuple) else [sizes]
    if isinstance(cell, keras.layers.StackedRNNCells) or not all(isinstance(size, int) for size in sizes):
        raise ValueError(
            f"`cell` must be a recurrent cell whose `state_size` is an int or a list of ints, received {cell!r}; "
            "wrap each cell of a stack, not the stack."
        )
    if getattr(cell, "output_size", sizes[0]) != sizes[0]:
        raise ValueError(
            f"the output of `cell` must be its first state; received output size {cell.output_size} and first state "
            f"size {sizes[0]} from {cell!r}."
        )
    return sizes


def _next(counter: Tensor) -> Tensor:
    """Add 1 to a counter of two digits."""
    low, high = ops.split(counter, 2, axis=-1)
    low = low + 1
    full = low >= _DIGIT
    high = ops.where(full, high + 1, high)
    return ops.concatenate(
        [ops.where(full, ops.zeros_like(low), low), ops.where(high >= _DIGIT, ops.zeros_like(high), high)], axis=-1
    )
