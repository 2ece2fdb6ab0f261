"""The named activations: one table for layers, kernels, docs and the command line.

A row describes a function (`Definition`); `get` binds it to parameters (`Activation`), for layers to call and save. Two
activations are equal if their names and parameters are, however they were written.

>>> get("leaky_relu(0.33)") == get("leaky_relu(negative_slope=0.33)")
True
>>> get("relu").bounded, get("relu6").bounded
(False, True)
>>> get("sigmoid").lower, get("sigmoid").upper
(0.0, 1.0)
"""

import ast
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from zoo.activations.table import ACTIVATIONS as ACTIVATIONS, ALIASES as ALIASES, Definition as Definition
from zoo.checks import is_finite_number
from zoo.suggest import unknown
from zoo.types import Tensor


def _shortest(value: float) -> str:
    # repr is exact but writes 1.0 for 1.
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


@keras.saving.register_keras_serializable("sequence_zoo")
@dataclass(frozen=True)
class Activation:
    """A row of the table with parameters, which layers call and save.

    Args:
        name: A name in `ACTIVATIONS`.
        parameters: Every parameter of that row, in its order, as (name, value) pairs.

    Example:
    >>> leaky = get("leaky_relu(0.33)")
    >>> str(leaky), leaky.parameters
    ('leaky_relu(0.33)', (('negative_slope', 0.33),))
    >>> [round(float(y), 2) for y in leaky(ops.array([-1.0, 2.0]))]
    [-0.33, 2.0]
    >>> [round(float(y), 2) for y in leaky.derivative(ops.array([-1.0, 2.0]))]
    [0.33, 1.0]
    """

    name: str
    parameters: tuple[tuple[str, float], ...] = ()

    def __call__(self, x: Tensor, **tensors: Tensor) -> Tensor:
        """Apply the function to `x`, of any shape, with `tensors` for parameters that a layer learns or draws."""
        return self.definition.function(x, **self._arguments(tensors))

    def derivative(self, x: Tensor, **tensors: Tensor) -> Tensor:
        """The derivative at `x`, of the same shape. `TypeError` if the function is not elementwise: see `vjp`."""
        if not self.definition.elementwise:
            raise TypeError(
                f"{self.name} is not elementwise: it has a Jacobian, not a derivative; use vjp(x, upstream)"
            )
        return self.definition.derivative(x, **self._arguments(tensors))

    def vjp(self, x: Tensor, upstream: Tensor, **tensors: Tensor) -> Tensor:
        """The gradient with respect to `x`, from the gradient `upstream` with respect to the output."""
        if self.definition.elementwise:
            return upstream * self.derivative(x, **tensors)
        return self.definition.derivative(x, upstream)

    def _arguments(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        learnable = self.definition.learnable
        if learnable and learnable not in tensors:
            raise TypeError(
                f"{self.name} learns its {learnable}, which has to be the weight of a layer: use it in "
                f"zoo.layers.LSTM, or pass {learnable}=..., or use leaky_relu(...) for a fixed slope"
            )
        return {**dict(self.parameters), **tensors}

    @property
    def definition(self) -> Definition:
        return ACTIVATIONS[self.name]

    @property
    def lower(self) -> float:
        """Infimum of the values."""
        return self.definition.bounds(**dict(self.parameters))[0]

    @property
    def upper(self) -> float:
        """Supremum of the values."""
        return self.definition.bounds(**dict(self.parameters))[1]

    @property
    def bounded(self) -> bool:
        """Whether both bounds are finite."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def __name__(self) -> str:  # Keras's name for the activation in summaries of a layer
        return str(self)

    def __str__(self) -> str:
        defaults = self.definition.parameters
        if all(value == defaults[key] for key, value in self.parameters):
            return self.name
        return f"{self.name}({', '.join(_shortest(value) for _, value in self.parameters)})"

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "parameters": dict(self.parameters)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Activation":
        return bind(config["name"], **config["parameters"])


@keras.saving.register_keras_serializable("sequence_zoo")
@dataclass(frozen=True)
class LayerActivation:
    """An activation by a Keras layer, such as `keras.layers.PReLU()`.

    Every gate gets a separate layer, so that learned slopes are not shared.

    Args:
        template: The layer's class and configuration as JSON, without weights.

    Example:
    >>> get(keras.layers.LeakyReLU(0.1)).make().negative_slope
    0.1
    """

    template: str

    @classmethod
    def of(cls, layer: keras.layers.Layer) -> "LayerActivation":
        return cls(json.dumps(keras.saving.serialize_keras_object(layer), sort_keys=True))

    def make(self, name_prefix: str = "") -> keras.layers.Layer:
        """Make a new, unbuilt layer, with the original's name after `name_prefix`."""
        saved = json.loads(self.template)
        if name_prefix and "name" in saved["config"]:  # the layers of several gates need different names
            saved["config"]["name"] = f"{name_prefix}{saved['config']['name']}"
        return keras.saving.deserialize_keras_object(saved)

    def get_config(self) -> dict[str, Any]:
        return {"template": self.template}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LayerActivation":
        return cls(**config)


def bind(name: str, *values: float, **named: float) -> Activation:
    """Make the activation `name`, with the table's defaults for parameters that are left out.

    Raises:
        ValueError: `name` or a parameter is not in the table, or a parameter is not a finite number.

    Example:
    >>> str(bind("elu", 0.5)), str(bind("rrelu", upper=0.25))
    ('elu(0.5)', 'rrelu(0.125, 0.25)')
    """
    definition = ACTIVATIONS.get(ALIASES.get(name, name))
    if definition is None:
        raise ValueError(unknown("activation", name, [*ACTIVATIONS, *ALIASES]))
    names = list(definition.parameters)
    expected = f"{name}({', '.join(f'{key}={value:g}' for key, value in definition.parameters.items())})"
    if (
        len(values) > len(names)
        or any(key not in names for key in named)
        or any(key in named for key in names[: len(values)])
    ):
        raise ValueError(f"activation {name!r} received {values} {named}; expected {expected}")
    bound = {**definition.parameters, **dict(zip(names, values, strict=False)), **named}
    for key, value in bound.items():
        if not is_finite_number(value):
            raise ValueError(
                f"activation {name!r}: {key} must be a finite number, received {value!r}; expected {expected}"
            )
    if "alpha" in bound and bound["alpha"] <= 0:
        raise ValueError(f"activation {name!r}: alpha must be positive, received {bound['alpha']!r}")
    if name == "rrelu" and not bound["lower"] <= bound["upper"]:
        raise ValueError(
            f"activation 'rrelu': lower must not exceed upper, received {bound['lower']!r} and {bound['upper']!r}"
        )
    return Activation(definition.name, tuple((key, float(value)) for key, value in bound.items()))


def _parse(text: str) -> Activation:
    wrong = ValueError(
        f"activation {text!r} is not understood; write a name or a name with numbers: 'relu', 'leaky_relu(0.33)'"
    )
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    if isinstance(node, ast.Name):
        return bind(node.id)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and all(k.arg for k in node.keywords)):
        raise wrong
    if node.func.id not in ACTIVATIONS and node.func.id not in ALIASES:
        return bind(node.func.id)  # raises the error with the valid names
    try:
        values = [ast.literal_eval(argument) for argument in node.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise wrong from None
    return bind(node.func.id, *values, **named)


def _by_name(text: str) -> Any:
    name = text.partition("(")[0].strip()
    if name not in ACTIVATIONS and name not in ALIASES:
        try:
            return keras.activations.get(text)  # a name that only Keras has, such as "exponential"
        except ValueError:
            pass  # the error of `_parse` suggests near names
    return _parse(text)


@functools.cache
def _keras_functions() -> dict[Any, str]:
    """The row of each function of Keras, so that `keras.activations.relu` means "relu"."""
    modules = {keras.activations: ACTIVATIONS, ops: set(ACTIVATIONS) - {"gelu"}}  # `ops.gelu` is the approximate one
    return {getattr(m, name): name for m, names in modules.items() for name in names if hasattr(m, name)}


def get(identifier: Any) -> Any:
    """Find an activation by name, parametrised name, function, layer or saved configuration.

    Args:
        identifier: `None` (Keras's spelling of "linear"), a name of the table ("relu"), one with parameters
            ("leaky_relu(0.33)"), an `Activation`, a function of `keras.activations`, a registered function of your own,
            a Keras layer (`keras.layers.LeakyReLU(0.1)`), or a result of `serialize`.

    Returns:
        An `Activation` if it is in the table; a `LayerActivation` for a layer; else the callable itself.

    Raises:
        ValueError: The name is unknown, or the function could not be saved (a lambda, a `partial`).

    Example:
    >>> get("swish") == get(keras.activations.silu)
    True
    >>> get("reul")
    Traceback (most recent call last):
    ValueError: unknown activation 'reul'; did you mean 'relu' or 'prelu' or 'elu'? ...
    """
    if identifier is None:
        return bind("linear")
    if isinstance(identifier, Activation | LayerActivation):
        return identifier
    if isinstance(identifier, str):
        return _by_name(identifier)
    if isinstance(identifier, dict):
        return get(keras.activations.get(identifier))
    if isinstance(identifier, keras.layers.Layer):
        return LayerActivation.of(identifier)
    name = getattr(identifier, "__name__", "")
    if name == "<lambda>" or isinstance(identifier, functools.partial):
        raise ValueError(
            f"activation {identifier!r} cannot be saved with a model: define a function and register it with "
            "@keras.saving.register_keras_serializable(), or use a parametrised name such as 'leaky_relu(0.33)'"
        )
    if not callable(identifier):
        raise ValueError(f"activation must be a name, a function or a layer; received {identifier!r}")
    known = _keras_functions().get(identifier)
    return bind(known) if known else identifier


def serialize(activation: Any) -> Any:
    """Convert `activation` for a layer's configuration; `get` is the inverse.

    Example:
    >>> serialize(get("leaky_relu(0.33)"))
    'leaky_relu(0.33)'
    """
    if isinstance(activation, Activation):
        return str(activation)
    if isinstance(activation, LayerActivation):
        return json.loads(activation.template)
    return keras.activations.serialize(activation)
