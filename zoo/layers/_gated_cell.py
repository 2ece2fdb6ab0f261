"""The base of every cell of the LSTM family: weights in blocks of columns, activations, dropout and random draws."""

import functools
import math
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from keras import ops

# Not public, but without an alternative: only from cells of this class does Keras's RNN layer request the dropout masks
# before its loop. Inside the loop JAX could not advance a seed, and an exported graph would write a variable each step.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from zoo.activations import Activation
from zoo.checks import positive_integer, share
from zoo.initializers import ChronoBias, refuse_overwritten
from zoo.kernels.contract import bound
from zoo.layers._arguments import OF_WEIGHTS, WEIGHT_OPTIONS, Checks
from zoo.layers._gate_activations import (
    ARGUMENTS,
    GATES as GATES,
    KERNEL_GATES as KERNEL_GATES,
    GateActivations,
)
from zoo.types import Gates, Tensor

# The largest number of each type. NumPy lacks bfloat16, so its largest number is written out.
_LARGEST = {kind: float(np.finfo(kind).max) for kind in ("float16", "float32", "float64")}
_LARGEST["bfloat16"] = float.fromhex("0x1.fep127")


# === Draws: once a sequence, outside the loop over time, and only in training ===


class InTraining(keras.layers.Layer):
    """Returns whether the current call is one in training.

    Keras passes `training` on to every layer inside a call, so a hook without that argument can call this layer.

    Example:
    >>> InTraining()(), InTraining()(training=True)
    (False, True)
    """

    def call(self, training: bool = False) -> bool:
        return bool(training)


@functools.cache
def _in_training() -> InTraining:
    return InTraining(name="in_training")


class SequenceDraws(DropoutRNNCell):
    """Mixin for a cell that draws random numbers once a sequence: `drawn` has them, and is `None` at inference.

    A cell that draws has to call `start_draws` before it is built.
    """

    seed_generator: Any = None
    drawn: Any = None

    def start_draws(self, seed: int | None) -> None:
        """Make the seed of this cell; without it nothing is ever drawn."""
        self.seed_generator = keras.random.SeedGenerator(seed)

    def draw(self, step_input: Tensor) -> Any:
        """Draw for one batch of sequences, given the input (batch, channels) of its first step."""
        raise NotImplementedError

    # Keras's RNN layer calls these around its loop, at inference too, and ignores their results.

    def get_dropout_mask(self, step_input: Tensor) -> None:
        if self.seed_generator is not None and self.drawn is None and _in_training()():
            self.drawn = self.draw(step_input)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> None: ...

    def reset_dropout_mask(self) -> None:
        self.drawn = None

    def reset_recurrent_dropout_mask(self) -> None: ...


class Draws(NamedTuple):
    """The draws for a batch of sequences: slopes by gate; dropout masks, one or one for each block, or `None`."""

    slopes: dict[str, Tensor]
    inputs: list[Tensor] | None
    hidden: list[Tensor] | None


# === Parts of a step ===


def finite(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Replace values that are not finite by 0, and return what puts them back into the results.

    Keras's RNN layer also calls its cell on steps that a mask hides, and drops the results. A gradient of 0 times a NaN
    would still be a NaN, in the weights of the whole batch. So a cell computes with the finite inputs and adds the
    second tensor to its results. In a finite row that tensor is 0, and so is its gradient.

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
    # A comparison, because not every format of an exported model has `isfinite`.
    largest = _LARGEST.get(keras.backend.standardize_dtype(inputs.dtype), math.inf)
    clean = ops.where(ops.abs(inputs) <= largest, inputs, ops.zeros_like(inputs))
    return clean, ops.sum(inputs - clean, axis=-1, keepdims=True)


def product(x: Tensor, kernel: Tensor, masks: list[Tensor] | None, times: Any = ops.matmul) -> Tensor:
    """Compute `times(x, kernel)`, with `x` times its mask; several masks are for one block of the columns each.

    Example:
    >>> x, kernel = ops.ones((1, 1)), ops.ones((1, 4))
    >>> ops.convert_to_numpy(product(x, kernel, [2 * x, 0 * x])).tolist()
    [[2.0, 2.0, 0.0, 0.0]]
    """
    if masks is None:
        return times(x, kernel)
    if len(masks) == 1:
        return times(x * masks[0], kernel)
    blocks = zip(masks, ops.split(kernel, len(masks), axis=-1), strict=True)
    return ops.concatenate([times(x * mask, block) for mask, block in blocks], axis=-1)


def _reader(module: Any) -> Any:
    return lambda name, value: module.get(value)


_rate = functools.partial(share, meaning="the share of units dropped")


class GatedCell(GateActivations, SequenceDraws, keras.layers.Layer):
    """Base of a cell: block weights, the activations of `gates`, dropout, and their configuration.

    A subclass lists its activations in `gates` and its columns in `kernel_gates`, and computes a step in `advance`. Its
    arguments are those of `keras.layers.LSTMCell`, in the same order:

    Args:
        units: Positive int, the width n of the cell state.
        activation: What `candidate_activation` and `hidden_activation` inherit.
        recurrent_activation: What the gates inherit.
        use_bias: Whether to add the vector `bias`.
        kernel_initializer: Initializer for W. The other initializers, regularizers and constraints are alike.
        unit_forget_bias: Whether the forget gate's bias starts at 1, whatever the `bias_initializer`.
        dropout: Number in [0, 1), the share of the inputs x dropped in training, before they meet `kernel`.
        recurrent_dropout: Number in [0, 1), the share of the hidden state dropped in training where it meets
            `recurrent_kernel`; neither the output nor the cell state is masked. As in `keras.layers.LSTMCell`, one mask
            holds for all steps of a sequence, the values kept are divided by the share kept, and with a
            `recurrent_dropout` each gate has its own masks, for x too.
        seed: Seed for dropout and the random slopes ("rrelu"), which are drawn once a sequence in training.
        **kwargs: `input_gate_activation` and so on, for the gates of the cell; those of `keras.layers.Layer`.

    Raises:
        ValueError: An argument is not valid or is for a gate that the cell does not have.
        AttributeError: An argument that the weights are made from, such as `units`, is set again.
    """

    argument_checks: ClassVar[Checks] = {
        "units": positive_integer,
        "dropout": _rate,
        "recurrent_dropout": _rate,
        **{name: _reader(module) for name, module in WEIGHT_OPTIONS.items()},
    }
    fixed = OF_WEIGHTS
    always_seeded = False  # whether there is a seed, a variable in saved files, even if nothing is drawn
    sees_padding = True  # set to False by a layer that clears masked steps itself

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        by_gate = {gate: kwargs.pop(f"{gate}_activation", None) for gate in GATES}
        super().__init__(**kwargs)
        self.units, self.seed = units, seed
        self.use_bias, self.unit_forget_bias = bool(use_bias), bool(unit_forget_bias)
        self.state_size: list[int] = [self.units, self.units]
        self.output_size = self.units
        self.kernel_initializer, self.kernel_regularizer = kernel_initializer, kernel_regularizer
        self.recurrent_initializer, self.recurrent_regularizer = recurrent_initializer, recurrent_regularizer
        self.bias_initializer, self.bias_regularizer = bias_initializer, bias_regularizer
        self.kernel_constraint, self.recurrent_constraint = kernel_constraint, recurrent_constraint
        self.bias_constraint = bias_constraint
        self._refuse_chrono_bias()
        if self.always_seeded:
            self.start_draws(seed)
        self.set_activations(activation, recurrent_activation, by_gate)
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("dropout", "recurrent_dropout") or name in ARGUMENTS:
            self.drawn = None  # a cell called outside a layer keeps its draws, which were made for the old value
            draws = self.random_gates() if name in ARGUMENTS else value
            if draws and self.seed_generator is None:
                self.start_draws(self.seed)

    def checked(self, name: str, value: Any) -> Any:
        checked = super().checked(name, value)
        if self.__dict__.get("built") and self.seed_generator is None:
            random = name in ARGUMENTS and isinstance(checked, Activation) and checked.definition.random
            if random or (name in ("dropout", "recurrent_dropout") and checked):
                raise ValueError(
                    f"{self.name} was built without random draws, so it has no seed, and received {name}={value!r}; "
                    "pass that when you make the cell, or set it before the cell is built."
                )
        return checked

    @property
    def dropout_mask_count(self) -> int:
        """Number of masks for each kind of dropout: one for each block with a `recurrent_dropout`, else one for all."""
        return len(self.kernel_gates) if self.recurrent_dropout else 1

    def _refuse_chrono_bias(self) -> None:
        initializer = self.bias_initializer
        if isinstance(initializer, ChronoBias) and self.kernel_gates != KERNEL_GATES:
            raise ValueError(
                f"`bias_initializer=ChronoBias(...)` fills the biases of {', '.join(KERNEL_GATES)}, but {self.name} "
                f"has only {', '.join(self.kernel_gates)}; choose another initializer or a cell with all four gates."
            )
        refuse_overwritten(initializer, self.unit_forget_bias)

    # === Weights ===

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        columns = len(self.kernel_gates) * self.units
        self.kernel = self._add("kernel", "kernel", (input_shape[-1], columns))
        self.recurrent_kernel = self._add("recurrent_kernel", "recurrent", (self.output_size, columns))
        self.bias = self._add("bias", "bias", (columns,)) if self.use_bias else None
        self.build_activations()
        self.built = True

    def _add(self, name: str, part: str, shape: tuple[Any, ...]) -> Any:
        options = {kind: getattr(self, f"{part}_{kind}") for kind in ("initializer", "regularizer", "constraint")}
        if name == "bias" and self.unit_forget_bias and "forget_gate" in self.kernel_gates:
            options["initializer"] = functools.partial(self._bias_with_open_forget_gate, options["initializer"])
        return self.add_weight(shape=shape, name=name, **options)

    def _bias_with_open_forget_gate(self, initializer: Any, shape: tuple[int], dtype: Any = None) -> Tensor:
        bias, start = initializer(shape, dtype=dtype), self.kernel_gates.index("forget_gate") * self.units
        ones = ops.ones((self.units,), dtype=dtype)
        return ops.concatenate([bias[:start], ones, bias[start + self.units :]])

    # === Step ===

    def get_initial_state(self, batch_size: Any = None) -> list[Tensor]:
        """The states before the first step: zeros, (batch, size) for each size in `state_size`."""
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in self.state_size]

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        inputs, fault = finite(inputs) if self.sees_padding else (inputs, None)
        states = self.advance(inputs, states, training)
        if fault is not None:
            states = [state + fault for state in states]
        return states[0], states

    def advance(self, inputs: Tensor, states: Any, training: bool) -> list[Tensor]:
        """The new states, the output first, from finite inputs (batch, channels) and the old states."""
        raise NotImplementedError

    def preactivations(self, inputs: Tensor, hidden: Tensor, training: bool) -> dict[str, Tensor]:
        """X @ W + h @ U + b, cut into the columns of each gate of this cell, (batch, units)."""
        z = self.input_product(inputs, training) + self.recurrent_product(hidden, training)
        return self.cut(self.with_bias(z))

    def input_product(self, inputs: Tensor, training: bool) -> Tensor:
        """X @ W, of inputs (batch, channels) with their dropout."""
        if training:
            self.get_dropout_mask(inputs)  # in case the cell is called outside a layer
        return product(inputs, self.kernel, self.drawn.inputs if training and self.drawn else None)

    def recurrent_product(self, hidden: Tensor, training: bool) -> Tensor:
        """H @ U, of the hidden state (batch, output_size) with its dropout."""
        return product(hidden, self.recurrent_kernel, self.drawn.hidden if training and self.drawn else None)

    def with_bias(self, z: Tensor) -> Tensor:
        return z if self.bias is None else z + self.bias

    def cut(self, z: Tensor) -> dict[str, Tensor]:
        """Cut (batch, gates * units) into the columns of each gate of this cell."""
        return dict(zip(self.kernel_gates, ops.split(z, len(self.kernel_gates), axis=-1), strict=True))

    def functions(self, training: bool = False) -> Gates[Any]:
        """The five activations as functions of one tensor, with learned and drawn slopes filled in."""
        return bound(self.engine_activations(), self.slopes(training))

    def slopes(self, training: bool = False) -> Gates[Any]:
        """The learned slopes (units,), in training also the drawn ones (batch, units); `None` for other activations."""
        drawn = self.drawn.slopes if training and self.drawn else {}
        slopes = (drawn.get(gate, getattr(self, f"{gate}_slope", None)) for gate in GATES)
        return Gates(*(None if slope is None else ops.cast(slope, self.compute_dtype) for slope in slopes))

    # === Draws ===

    def draw(self, step_input: Tensor) -> Draws:
        x = ops.cast(step_input, self.compute_dtype)
        slopes, inputs, hidden = self.draw_slopes(x), None, None
        # Keras's masks in Keras's order, so that the same seed drops the same units.
        if self.dropout:
            inputs = self._create_dropout_mask(x, self.dropout)
        if self.recurrent_dropout:
            ones = ops.ones((ops.shape(x)[0], self.output_size), dtype=x.dtype)
            hidden = self._create_dropout_mask(ones, self.recurrent_dropout)
        return Draws(slopes, inputs, hidden)

    # === Config ===

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            **self.activation_config(),
            "use_bias": self.use_bias,
            "unit_forget_bias": self.unit_forget_bias,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
            **{name: module.serialize(getattr(self, name)) for name, module in WEIGHT_OPTIONS.items()},
        }
