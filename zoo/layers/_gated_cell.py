"""What the cells of the LSTM family share: weights in blocks of columns, and an activation for each gate."""

import functools
from typing import Any

import keras
from keras import ops

from zoo import activations
from zoo.activations import Activation, LayerActivation
from zoo.initializers import ChronoBias
from zoo.kernels.reference import GateFunctions, Tensor
from zoo.layers._drawing import SequenceDraws
from zoo.layers._gate_activations import build_gate_activations, gate_function

GATES = GateFunctions._fields  # input_gate, forget_gate, candidate, output_gate, hidden
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


class GatedCell(SequenceDraws):
    """Mixin before `keras.layers.Layer`: block weights, the activations of `gates`, and their configuration.

    A class says in `gates` which activations it has and in `blocks` which columns. Arguments of every such cell:

    Args:
        units: Positive int, the width n of the cell state.
        activation: What `candidate_activation` and `hidden_activation` inherit.
        recurrent_activation: What the gates inherit.
        unit_forget_bias: Start the forget gate's bias at 1, whatever `bias_initializer` says of it.
        seed: Of the random slopes ("rrelu"), which are drawn once a sequence in training.
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
        unit_forget_bias: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        units = positive_integer("units", units)
        given = {gate: kwargs.pop(f"{gate}_activation", None) for gate in GATES}
        options = _weight_options(kwargs)
        super().__init__(**kwargs)
        self.units, self.unit_forget_bias, self.seed = units, bool(unit_forget_bias), seed
        self.state_size: list[int] = [units, units]
        self.output_size = units
        self.weight_options = options
        self._set_activations(activations.get(activation), activations.get(recurrent_activation), given)
        if self.unit_forget_bias and isinstance(options["bias_initializer"], ChronoBias):
            raise ValueError(
                "`bias_initializer=ChronoBias(...)` sets the forget gate's bias, and `unit_forget_bias=True` would "
                "overwrite it; pass unit_forget_bias=False."
            )

    def _set_activations(self, activation: Any, recurrent_activation: Any, given: dict[str, Any]) -> None:
        absent = [gate for gate, chosen in given.items() if chosen is not None and gate not in self.gates]
        if absent:
            raise ValueError(
                f"{self.name} has no activation for {', '.join(absent)}: received {absent[0]}_activation="
                f"{given[absent[0]]!r}; it takes {', '.join(f'{gate}_activation' for gate in self.gates)}."
            )
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self._given = {gate: None if given[gate] is None else activations.get(given[gate]) for gate in self.gates}
        inherited = {gate: activation if gate in ("candidate", "hidden") else recurrent_activation for gate in GATES}
        self.gate_activations = {gate: inherited[gate] if a is None else a for gate, a in self._given.items()}
        for gate, chosen in self.gate_activations.items():
            if isinstance(chosen, LayerActivation):  # one layer a gate: learned slopes are never shared
                setattr(self, f"{gate}_layer", chosen.make())
        if self._random_gates():
            self.start_draws(self.seed)

    # === Weights ===

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        columns = len(self.blocks) * self.units
        self.kernel = self._add("kernel", "kernel", (input_shape[-1], columns))
        self.recurrent_kernel = self._add("recurrent_kernel", "recurrent", (self.output_size, columns))
        self.bias = self._add("bias", "bias", (columns,))
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

    def preactivations(self, inputs: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        """X @ W + h @ U + b, cut into the blocks of this cell, each (batch, units)."""
        return self.cut(ops.matmul(inputs, self.kernel) + ops.matmul(hidden, self.recurrent_kernel) + self.bias)

    def cut(self, z: Tensor) -> dict[str, Tensor]:
        """Cut (batch, blocks * units) into the blocks of this cell."""
        return dict(zip(self.blocks, ops.split(z, len(self.blocks), axis=-1), strict=True))

    def functions(self, training: bool = False) -> dict[str, Any]:
        """The activation of each gate as a function of one tensor, with what it learns or draws filled in."""
        drawn = self.drawn if training else None
        return {gate: gate_function(self, gate, drawn) for gate in self.gates}

    # === Random slopes ===

    def _random_gates(self) -> list[str]:
        chosen = self.gate_activations.items()
        return [gate for gate, a in chosen if isinstance(a, Activation) and a.definition.random]

    def draw(self, step_input: Tensor) -> dict[str, Tensor]:
        slopes = {}
        for gate in self._random_gates():
            limits, shape = dict(self.gate_activations[gate].parameters), (ops.shape(step_input)[0], self.units)
            slopes[gate] = keras.random.uniform(
                shape, limits["lower"], limits["upper"], dtype=self.compute_dtype, seed=self.seed_generator
            )
        return slopes

    # === Config ===

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "unit_forget_bias": self.unit_forget_bias,
            "seed": self.seed,
        }
        for gate, activation in self._given.items():
            config[f"{gate}_activation"] = None if activation is None else activations.serialize(activation)
        for name, option in self.weight_options.items():
            config[name] = _kind(name).serialize(option)
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
