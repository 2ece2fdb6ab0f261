"""Arguments of a layer or cell as attributes: each acts when it is set again, or says why it cannot."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras

from zoo.checks import share
from zoo.layers._saved_variables import save_one_variable_each

Checks = Mapping[str, Callable[[str, Any], Any]]

_KINDS = {
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}
# For the name of an option of the weights, such as "kernel_initializer", the module of Keras that reads and writes it.
WEIGHT_OPTIONS = {f"{part}_{kind}": _KINDS[kind] for kind in _KINDS for part in ("kernel", "recurrent", "bias")}

# What the weights are made from. The state of a seed is made with them.
OF_WEIGHTS = frozenset({"units", "use_bias", "unit_forget_bias", "seed", *WEIGHT_OPTIONS})


def dropped_share(name: str, value: Any) -> float:
    """Check a dropout rate. Keras's cells take 1 too, and drop nothing then."""
    return share(name, value, "the share of units dropped")


class CheckedArguments:
    """Mixin of a Keras layer that checks an argument whenever it is set, in the constructor and later.

    Attributes:
        argument_checks: For the name of an argument, a function from this name and a value to what is stored.
        fixed: Names that can be set once, because the weights are made from them.

    Example:
    >>> from zoo.layers import PeepholeLSTMCell
    >>> cell = PeepholeLSTMCell(4)
    >>> cell.units = 8
    Traceback (most recent call last):
    AttributeError: `units` of peephole_lstm_cell was set when it was made, and 8 would have no effect. ...
    """

    argument_checks: ClassVar[Checks] = {}
    fixed: frozenset[str] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.fixed and name in self.__dict__:
            kind = type(self).__name__
            raise AttributeError(
                f"`{name}` of {self.__dict__.get('name', kind)} was set when it was made, and {value!r} would have no "
                f"effect. Make another one: {kind}.from_config({{**this.get_config(), {name!r}: ...}})."
            )
        super().__setattr__(name, self.checked(name, value))

    def checked(self, name: str, value: Any) -> Any:
        """What is stored when `value` is set as the attribute `name`.

        Raises:
            ValueError: The value is not valid.
        """
        return self.argument_checks[name](name, value) if name in self.argument_checks else value

    def _trackable_children(self, save_type: str = "checkpoint", **others: Any) -> Any:
        """What TensorFlow, which alone asks, writes into a checkpoint or a SavedModel."""
        if save_type == "savedmodel":
            save_one_variable_each()
        return super()._trackable_children(save_type, **others)  # type: ignore[misc]


class OfCell(property):
    """An argument of a layer that its cell holds: read from there, and set there."""

    def __init__(self, name: str) -> None:
        super().__init__(lambda layer: getattr(layer.cell, name), doc=f"`{name}` of the cell.")


class ArgumentsOfCell(CheckedArguments):
    """Mixin of a layer over one cell, whose `OfCell` attributes are set on the cell."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Not by the property itself: before that is asked, Keras would track a layer given as an activation as a
        # layer of this one.
        if isinstance(getattr(type(self), name, None), OfCell):
            setattr(self.cell, name, value)  # type: ignore[attr-defined]
        else:
            super().__setattr__(name, value)

    units = OfCell("units")
    activation = OfCell("activation")
    recurrent_activation = OfCell("recurrent_activation")
    input_gate_activation = OfCell("input_gate_activation")
    forget_gate_activation = OfCell("forget_gate_activation")
    candidate_activation = OfCell("candidate_activation")
    output_gate_activation = OfCell("output_gate_activation")
    hidden_activation = OfCell("hidden_activation")
    gate_activations = OfCell("gate_activations")
    use_bias = OfCell("use_bias")
    unit_forget_bias = OfCell("unit_forget_bias")
    kernel_initializer = OfCell("kernel_initializer")
    recurrent_initializer = OfCell("recurrent_initializer")
    bias_initializer = OfCell("bias_initializer")
    kernel_regularizer = OfCell("kernel_regularizer")
    recurrent_regularizer = OfCell("recurrent_regularizer")
    bias_regularizer = OfCell("bias_regularizer")
    kernel_constraint = OfCell("kernel_constraint")
    recurrent_constraint = OfCell("recurrent_constraint")
    bias_constraint = OfCell("bias_constraint")
    dropout = OfCell("dropout")
    recurrent_dropout = OfCell("recurrent_dropout")
    seed = OfCell("seed")
