"""What the cells of the LSTM family share: weights in blocks of columns, and an activation for each gate."""

import functools
from typing import Any, ClassVar, NamedTuple

import keras
from keras import ops

from zoo.activations import Activation
from zoo.checks import positive_integer
from zoo.initializers import ChronoBias, refuse_overwritten
from zoo.kernels.reference import Tensor
from zoo.layers._arguments import OF_WEIGHTS, Checks, dropped_share
from zoo.layers._drawing import SequenceDraws, finite
from zoo.layers._gate_activations import (
    ARGUMENTS,
    GATES as GATES,
    GateActivations,
    build_gate_activations,
    draw_slopes,
    gate_function,
    random_gates,
)

KERNEL_GATES = GATES[:4]  # those with columns in the kernels, in Keras's order i, f, c, o

_INITIALIZERS = {"kernel": "glorot_uniform", "recurrent": "orthogonal", "bias": "zeros"}


def product(x: Tensor, kernel: Tensor, masks: list[Tensor] | None, times: Any = ops.matmul) -> Tensor:
    """`times(x, kernel)`; one mask is of `x`, and of several each is for a block of the columns.

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


class Draws(NamedTuple):
    """What one batch of sequences drew: slopes by gate, and dropout masks, one or one a block, `None` for none."""

    slopes: dict[str, Tensor]
    inputs: list[Tensor] | None
    hidden: list[Tensor] | None


class GatedCell(GateActivations, SequenceDraws):
    """Mixin before `keras.layers.Layer`: block weights, the activations of `gates`, dropout, and their configuration.

    A class says in `gates` which activations it has and in `kernel_gates` which columns. Arguments of every such cell:

    Args:
        units: Positive int, the width n of the cell state.
        activation: What `candidate_activation` and `hidden_activation` inherit.
        recurrent_activation: What the gates inherit.
        use_bias: Have the vector `bias`; `False` leaves out b.
        unit_forget_bias: Start the forget gate's bias at 1, whatever `bias_initializer` says of it.
        dropout: Number in [0, 1), the share of the inputs x dropped in training, before they meet `kernel`.
        recurrent_dropout: Number in [0, 1), the share of the hidden state dropped in training where it meets
            `recurrent_kernel`, and nowhere else: neither what leaves the cell nor the cell state is masked. As in
            `keras.layers.LSTMCell` one mask holds for all steps of a sequence, what is kept is divided by the share
            kept, and with a `recurrent_dropout` each gate has masks of its own, of x too.
        seed: Of dropout and of the random slopes ("rrelu"), which are drawn once a sequence in training.
        **kwargs: `input_gate_activation`, ..., `hidden_activation` as far as the cell has them;
            `kernel_`, `recurrent_` and `bias_` with `initializer`, `regularizer` or `constraint`; those of a layer.

    Raises:
        ValueError: An argument is not valid or is for a gate that the cell does not have.
        AttributeError: An argument that the weights are made from, such as `units`, is set again.
    """

    kernel_gates: tuple[str, ...] = KERNEL_GATES
    argument_checks: ClassVar[Checks] = {
        "units": positive_integer,
        "dropout": dropped_share,
        "recurrent_dropout": dropped_share,
    }
    fixed = OF_WEIGHTS

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *,
        use_bias: bool = True,
        unit_forget_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        given = {gate: kwargs.pop(f"{gate}_activation", None) for gate in GATES}
        options = _weight_options(kwargs)
        super().__init__(**kwargs)
        self.units, self.seed = units, seed
        self.use_bias, self.unit_forget_bias = bool(use_bias), bool(unit_forget_bias)
        self.state_size: list[int] = [self.units, self.units]
        self.output_size = self.units
        for name, option in options.items():
            setattr(self, name, option)
        self._refuse_chrono_bias()
        self.set_activations(activation, recurrent_activation, given)
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        draws = value if name in ("dropout", "recurrent_dropout") else name in ARGUMENTS and random_gates(self)
        if draws and self.seed_generator is None:
            self.start_draws(self.seed)

    def checked(self, name: str, value: Any) -> Any:
        checked = super().checked(name, value)
        if self.__dict__.get("built") and self.seed_generator is None:
            random = name in ARGUMENTS and isinstance(checked, Activation) and checked.definition.random
            if random or (name in ("dropout", "recurrent_dropout") and checked):
                raise ValueError(
                    f"{self.name} was built without anything that it draws in training, so it has no seed, and "
                    f"received {name}={value!r}; pass that when you make the cell, or set it before the cell is built."
                )
        return checked

    @property
    def dropout_mask_count(self) -> int:
        """How many masks each kind of dropout has: with a `recurrent_dropout` every block its own."""
        return len(self.kernel_gates) if self.recurrent_dropout else 1

    def _refuse_chrono_bias(self) -> None:
        initializer = self.bias_initializer
        if isinstance(initializer, ChronoBias) and self.kernel_gates != KERNEL_GATES:
            raise ValueError(
                f"`bias_initializer=ChronoBias(...)` fills the biases of {', '.join(KERNEL_GATES)}, and {self.name} "
                f"has only {', '.join(self.kernel_gates)}; choose another initializer or a cell that has all four."
            )
        refuse_overwritten(initializer, self.unit_forget_bias)

    # === Weights ===

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        columns = len(self.kernel_gates) * self.units
        self.kernel = self._add("kernel", "kernel", (input_shape[-1], columns))
        self.recurrent_kernel = self._add("recurrent_kernel", "recurrent", (self.output_size, columns))
        self.bias = self._add("bias", "bias", (columns,)) if self.use_bias else None
        build_gate_activations(self)
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

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        inputs, fault = finite(inputs)
        states = [state + fault for state in self.advance(inputs, states, training)]
        return states[0], states

    def advance(self, inputs: Tensor, states: Any, training: bool) -> list[Tensor]:
        """The new states, of which the first is the output, from finite inputs (batch, channels) and the old states."""
        raise NotImplementedError

    def preactivations(self, inputs: Tensor, hidden: Tensor, training: bool) -> dict[str, Tensor]:
        """X @ W + h @ U + b, cut into the columns of each gate of this cell, (batch, units)."""
        z = self.input_product(inputs, training) + self.recurrent_product(hidden, training)
        return self.cut(self.with_bias(z))

    def input_product(self, inputs: Tensor, training: bool) -> Tensor:
        """X @ W, of inputs (batch, channels) with their dropout."""
        if training:
            self.get_dropout_mask(inputs)  # a cell called outside a layer still needs its draws
        return product(inputs, self.kernel, self.drawn.inputs if training and self.drawn else None)

    def recurrent_product(self, hidden: Tensor, training: bool) -> Tensor:
        """H @ U, of the hidden state (batch, output_size) with its dropout."""
        return product(hidden, self.recurrent_kernel, self.drawn.hidden if training and self.drawn else None)

    def with_bias(self, z: Tensor) -> Tensor:
        return z if self.bias is None else z + self.bias

    def cut(self, z: Tensor) -> dict[str, Tensor]:
        """Cut (batch, gates * units) into the columns of each gate of this cell."""
        return dict(zip(self.kernel_gates, ops.split(z, len(self.kernel_gates), axis=-1), strict=True))

    def functions(self, training: bool = False) -> dict[str, Any]:
        """The activation of each gate as a function of one tensor, with what it learns or draws filled in."""
        slopes = self.drawn.slopes if training and self.drawn else None
        return {gate: gate_function(self, gate, slopes) for gate in self.gates}

    # === Draws ===

    def draw(self, step_input: Tensor) -> Draws:
        x = ops.cast(step_input, self.compute_dtype)
        hidden = ops.ones((ops.shape(x)[0], self.output_size), dtype=x.dtype)
        slopes = draw_slopes(self, x)
        # Keras's own masks, in its order: the same seed drops the same.
        inputs = self._create_dropout_mask(x, self.dropout) if self.dropout else None
        recurrent = self._create_dropout_mask(hidden, self.recurrent_dropout) if self.recurrent_dropout else None
        return Draws(slopes, inputs, recurrent)

    # === Config ===

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "units": self.units,
            **self.activation_config(),
            "use_bias": self.use_bias,
            "unit_forget_bias": self.unit_forget_bias,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
        }
        for name in _weight_options({}):
            config[name] = _kind(name).serialize(getattr(self, name))
        return config


def _kind(option: str) -> Any:
    """The module of Keras that reads an option such as "kernel_initializer"."""
    return getattr(keras, f"{option.split('_')[1]}s")


def _weight_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Take what concerns the weights out of `kwargs`."""
    options = {}
    for part, initializer in _INITIALIZERS.items():
        for kind, default in (("initializer", initializer), ("regularizer", None), ("constraint", None)):
            name = f"{part}_{kind}"
            options[name] = _kind(name).get(kwargs.pop(name, default))
    return options
