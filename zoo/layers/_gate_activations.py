"""The activations of a cell's gates: which each gate has, and what they learn, draw and save."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
from keras import ops

from zoo import activations
from zoo.activations import Activation, LayerActivation
from zoo.layers._arguments import CheckedArguments
from zoo.layers.activation_layers import RReLU
from zoo.types import Gates, Tensor

GATES = Gates._fields  # input_gate, forget_gate, candidate, output_gate, hidden
KERNEL_GATES = GATES[:4]  # the gates with columns in the kernels, in Keras's order i, f, c, o
INHERITED = {gate: "activation" if gate in ("candidate", "hidden") else "recurrent_activation" for gate in GATES}
_IDENTITY = activations.bind("linear")
ARGUMENTS = ("activation", "recurrent_activation", *(f"{gate}_activation" for gate in GATES))


class GateActivations(CheckedArguments):
    """Mixin for a cell whose activations are attributes, which take effect when they are set.

    A gate whose attribute, such as `input_gate_activation`, is `None` inherits `activation` or `recurrent_activation`.
    `gate_activations` maps each gate of the cell to its activation.

    Example:
    >>> from zoo.layers import CoupledLSTMCell
    >>> cell = CoupledLSTMCell(4, hidden_activation="relu6")
    >>> cell.activation = "elu"
    >>> {gate: str(activation) for gate, activation in cell.gate_activations.items()}
    {'input_gate': 'sigmoid', 'candidate': 'elu', 'output_gate': 'sigmoid', 'hidden': 'relu6'}
    """

    gates: tuple[str, ...] = GATES
    units: int
    compute_dtype: str
    add_weight: Any
    seed_generator: Any = None

    kernel: Any
    recurrent_kernel: Any
    bias: Any

    # The description of a cell for the diagnostics.
    kernel_gates: tuple[str, ...] = KERNEL_GATES  # the gates with columns in the kernels, in their order
    parts: tuple[str, ...] = (*KERNEL_GATES, "cell_state", "hidden_state")  # in the order of computation
    normalizes_recurrence = False  # whether the recurrent part of z is normalised
    takes_cell_clip = False
    counts_steps = False  # whether a step depends on its number: see `BatchNormCell.numbered_step`
    projection_kernel: Any = None  # (units, width of the hidden state), where that is a projection

    def columns_of(self, weight: Any) -> tuple[str, ...]:
        """The parts that a weight feeds directly, in the order of the blocks of its last axis.

        Example:
        >>> from zoo.layers import LSTMCell
        >>> cell = LSTMCell(4)
        >>> cell.build((None, 2))
        >>> cell.columns_of(cell.bias)
        ('input_gate', 'forget_gate', 'candidate', 'output_gate')
        """
        if any(weight is known for known in (self.kernel, self.recurrent_kernel, self.bias)):
            return self.kernel_gates
        slopes = (gate for gate in self.kernel_gates if weight is getattr(self, f"{gate}_slope", None))
        return (next(slopes, "hidden_state"),)

    def rows_are_steps(self, weight: Any) -> bool:
        """Whether a weight has a row for each step of a sequence."""
        return False

    def set_activations(self, activation: Any, recurrent_activation: Any, by_gate: Mapping[str, Any]) -> None:
        """Set all activations, in the constructor; `by_gate` maps each gate to its argument."""
        self.activation, self.recurrent_activation = activation, recurrent_activation
        for gate, argument in by_gate.items():
            if gate in self.gates or argument is not None:
                setattr(self, f"{gate}_activation", argument)

    def checked(self, name: str, value: Any) -> Any:
        if name not in ARGUMENTS:
            return super().checked(name, value)
        gate = name.removesuffix("_activation")
        if gate in GATES and gate not in self.gates:
            takes = ", ".join(f"{known}_activation" for known in self.gates)
            raise ValueError(
                f"{self._label} has no activation for {gate}: received {name}={value!r}; it takes {takes}."
            )
        chosen = None if value is None and gate in GATES else activations.get(value)
        if isinstance(chosen, LayerActivation):
            _refuse_random(chosen.make())
        if self.__dict__.get("built"):
            self._refuse_other_weights(name, chosen)
        return chosen

    @property
    def _label(self) -> str:
        return str(getattr(self, "name", type(self).__name__))

    def _refuse_other_weights(self, name: str, chosen: Any) -> None:
        before = self.gate_activations
        for gate, after in self._resolved({name: chosen}).items():
            if after != before[gate] and (_has_weights(after) or _has_weights(before[gate])):
                raise ValueError(
                    f"{self._label} was built with {activations.serialize(before[gate])!r} as the activation of its "
                    f"{gate}, and {name}={activations.serialize(chosen)!r} would change its weights; make another "
                    f"cell with this activation and copy the weights that both have."
                )

    @property
    def gate_activations(self) -> Mapping[str, Any]:
        """The activation of each gate of the cell, as returned by `zoo.activations.get`."""
        return MappingProxyType(self._resolved({}))

    def _resolved(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The activation of each gate, if the arguments in `changes` were set."""
        arguments = {name: changes.get(name, self.__dict__.get(name)) for name in ARGUMENTS}
        by_gate = {gate: arguments[f"{gate}_activation"] for gate in self.gates}
        return {gate: arguments[INHERITED[gate]] if one is None else one for gate, one in by_gate.items()}

    def activation_config(self) -> dict[str, Any]:
        """The activations in the configuration: names where there are some, which people can read and edit."""
        names = ("activation", "recurrent_activation", *(f"{gate}_activation" for gate in self.gates))
        by_name = {name: getattr(self, name) for name in names}
        return {name: None if value is None else activations.serialize(value) for name, value in by_name.items()}

    # === Weights and draws ===

    def build_activations(self) -> None:
        """Make the weights of the activations: for each gate a separate layer, or slopes (units,)."""
        for gate, activation in self.gate_activations.items():
            if isinstance(activation, LayerActivation):
                layer = activation.make(name_prefix=f"{gate}_")
                setattr(self, f"{gate}_layer", layer)
                layer.build((None, self.units))
                layer.built = True
            elif isinstance(activation, Activation) and activation.definition.learnable:
                parameter = activation.definition.learnable
                start = keras.initializers.Constant(dict(activation.parameters)[parameter])
                slope = self.add_weight(shape=(self.units,), name=f"{gate}_{parameter}", initializer=start)
                setattr(self, f"{gate}_slope", slope)

    def engine_activations(self) -> Gates[Any]:
        """The five activations as an engine takes them: rows of the table, or functions of one tensor.

        A gate that this cell lacks has the identity.
        """
        by_gate = self.gate_activations
        return Gates(*(self._as_function(gate, by_gate.get(gate, _IDENTITY)) for gate in GATES))

    def _as_function(self, gate: str, activation: Any) -> Any:
        if not isinstance(activation, LayerActivation):
            return activation
        layer = getattr(self, f"{gate}_layer")
        return lambda z: ops.cast(layer(z), z.dtype)  # the layer may have been made under another precision

    def random_gates(self) -> list[str]:
        """The gates whose activation has a random slope."""
        by_gate = self.gate_activations.items()
        return [gate for gate, a in by_gate if isinstance(a, Activation) and a.definition.random]

    def draw_slopes(self, step_input: Tensor) -> dict[str, Tensor]:
        """Draw random slopes (batch, units) by gate; `step_input` is (batch, channels)."""
        slopes = {}
        for gate in self.random_gates():
            limits, shape = dict(self.gate_activations[gate].parameters), (ops.shape(step_input)[0], self.units)
            slopes[gate] = keras.random.uniform(
                shape, limits["lower"], limits["upper"], dtype=self.compute_dtype, seed=self.seed_generator
            )
        return slopes


def _has_weights(activation: Any) -> bool:
    if isinstance(activation, LayerActivation):
        return True
    return isinstance(activation, Activation) and bool(activation.definition.learnable)


def _refuse_random(layer: keras.layers.Layer) -> None:
    if isinstance(layer, RReLU):  # inside the loop over time it would draw new slopes at every step
        name = f"rrelu({layer.lower}, {layer.upper})"
        raise ValueError(f"an RReLU layer cannot be the activation of a gate; write the name {name!r} instead.")
