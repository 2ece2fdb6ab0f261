"""Arguments of a layer or cell as attributes, which take effect when they are set again, or are refused."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras

from zoo.layers._saved_variables import save_one_variable_each

Checks = Mapping[str, Callable[[str, Any], Any]]

_KINDS = {
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}
# The options of the weights, such as "kernel_initializer", with the module of Keras that reads and writes each.
WEIGHT_OPTIONS = {f"{part}_{kind}": _KINDS[kind] for kind in _KINDS for part in ("kernel", "recurrent", "bias")}

# The arguments that the weights depend on. A seed has a state, which is a weight too.
OF_WEIGHTS = frozenset({"units", "use_bias", "unit_forget_bias", "seed", *WEIGHT_OPTIONS})


class CheckedArguments:
    """Mixin for a Keras layer that checks an argument whenever it is set, in the constructor and later.

    Attributes:
        argument_checks: For each argument, a function from its name and a value to the value that is stored.
        fixed: Arguments that can be set only once, because the weights depend on them.

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
        """The value to store when `value` is set as the attribute `name`.

        Raises:
            ValueError: The value is not valid.
        """
        return self.argument_checks[name](name, value) if name in self.argument_checks else value

    def _trackable_children(self, save_type: str = "checkpoint", **others: Any) -> Any:
        """The parts of the layer in TensorFlow's checkpoints and SavedModels; only TensorFlow calls this."""
        if save_type == "savedmodel":
            save_one_variable_each()
        return super()._trackable_children(save_type, **others)  # type: ignore[misc]
