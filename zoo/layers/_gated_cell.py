"""What the cells of the LSTM family share: weights in blocks of columns, and an activation for each gate."""

import functools
from typing import Any, NamedTuple

import keras
from keras import ops

from zoo.initializers import ChronoBias, refuse_overwritten
from zoo.kernels.reference import Tensor
from zoo.layers._drawing import SequenceDraws
from zoo.layers._gate_activations import (
    GATES as GATES,
    build_gate_activations,
    draw_slopes,
    gate_config,
    gate_function,
    random_gates,
    set_gate_activations,
)

BLOCKS = GATES[:4]  # what has columns in the kernels, in Keras's order i, f, c, o

_INITIALIZERS = {"kernel": "glorot_uniform", "recurrent": "orthogonal", "bias": "zeros"}


def positive_integer(name: str, value: Any) -> int:
    """`value` as an int, or a `ValueError` that names the argument.

    Example:
    >>> positive_integer("units", 2.5)
    Traceback (most recent call last):
    ValueError: `units` must be a positive integer, received 2.5.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value <= 0:
        raise ValueError(f"`{name}` must be a positive integer, received {value!r}.")
    return int(value)


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


class GatedCell(SequenceDraws):
    """Mixin before `keras.layers.Layer`: block weights, the activations of `gates`, dropout, and their configuration.

    A class says in `gates` which activations it has and in `blocks` which columns. Arguments of every such cell:

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
    """

    gates: tuple[str, ...] = GATES
    blocks: tuple[str, ...] = BLOCKS

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
        units = positive_integer("units", units)
        given = {gate: kwargs.pop(f"{gate}_activation", None) for gate in GATES}
        options = _weight_options(kwargs)
        super().__init__(**kwargs)
        self.units, self.use_bias, self.unit_forget_bias, self.seed = (
            units,
            bool(use_bias),
            bool(unit_forget_bias),
            seed,
        )
        self.dropout, self.recurrent_dropout = _rate("dropout", dropout), _rate("recurrent_dropout", recurrent_dropout)
        self.dropout_mask_count = len(self.blocks) if self.recurrent_dropout else 1
        self.state_size: list[int] = [units, units]
        self.output_size = units
        self.weight_options = options
        self._refuse_absent_gates(given)
        set_gate_activations(self, activation, recurrent_activation, given, self.gates)
        self._refuse_chrono_bias()
        if self.dropout or self.recurrent_dropout or random_gates(self):
            self.start_draws(seed)

    def _refuse_absent_gates(self, given: dict[str, Any]) -> None:
        absent = [gate for gate, chosen in given.items() if chosen is not None and gate not in self.gates]
        if absent:
            raise ValueError(
                f"{self.name} has no activation for {', '.join(absent)}: received {absent[0]}_activation="
                f"{given[absent[0]]!r}; it takes {', '.join(f'{gate}_activation' for gate in self.gates)}."
            )

    def _refuse_chrono_bias(self) -> None:
        initializer = self.weight_options["bias_initializer"]
        if isinstance(initializer, ChronoBias) and self.blocks != BLOCKS:
            raise ValueError(
                f"`bias_initializer=ChronoBias(...)` fills the biases of {', '.join(BLOCKS)}, and {self.name} has only "
                f"{', '.join(self.blocks)}; choose another initializer or a cell that has all four."
            )
        refuse_overwritten(initializer, self.unit_forget_bias)

    # === Weights ===

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        columns = len(self.blocks) * self.units
        self.kernel = self._add("kernel", "kernel", (input_shape[-1], columns))
        self.recurrent_kernel = self._add("recurrent_kernel", "recurrent", (self.output_size, columns))
        self.bias = self._add("bias", "bias", (columns,)) if self.use_bias else None
        build_gate_activations(self)
        self.built = True

    def _add(self, name: str, part: str, shape: tuple[Any, ...]) -> Any:
        options = {kind: self.weight_options[f"{part}_{kind}"] for kind in ("initializer", "regularizer", "constraint")}
        if name == "bias" and self.unit_forget_bias and "forget_gate" in self.blocks:
            options["initializer"] = functools.partial(self._bias_with_open_forget_gate, options["initializer"])
        return self.add_weight(shape=shape, name=name, **options)

    def _bias_with_open_forget_gate(self, initializer: Any, shape: tuple[int], dtype: Any = None) -> Tensor:
        bias, start = initializer(shape, dtype=dtype), self.blocks.index("forget_gate") * self.units
        ones = ops.ones((self.units,), dtype=dtype)
        return ops.concatenate([bias[:start], ones, bias[start + self.units :]])

    # === What a step is made of ===

    def preactivations(self, inputs: Tensor, hidden: Tensor, training: bool) -> dict[str, Tensor]:
        """X @ W + h @ U + b, cut into the blocks of this cell, each (batch, units)."""
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
        """Cut (batch, blocks * units) into the blocks of this cell."""
        return dict(zip(self.blocks, ops.split(z, len(self.blocks), axis=-1), strict=True))

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
            **gate_config(self),
            "use_bias": self.use_bias,
            "unit_forget_bias": self.unit_forget_bias,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
        }
        for name, option in self.weight_options.items():
            config[name] = _kind(name).serialize(option)
        return config


def _rate(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"`{name}` is the share of units dropped, a number in [0, 1); received {value!r}.")
    return float(value)


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
