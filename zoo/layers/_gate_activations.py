"""What every cell does with the activations of its gates: weights for those that learn, functions for its step."""

import functools
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from zoo.activations import Activation, LayerActivation
from zoo.kernels.reference import Tensor


def build_gate_activations(cell: Any) -> None:
    """Build the layers and add the slopes (units,) that the activations of `cell` learn, one set a gate."""
    for gate, activation in cell.gate_activations.items():
        if isinstance(activation, LayerActivation):
            layer = getattr(cell, f"{gate}_layer")
            layer.build((None, cell.units))
            layer.built = True
        elif isinstance(activation, Activation) and activation.definition.learnable:
            parameter = activation.definition.learnable
            start = keras.initializers.Constant(dict(activation.parameters)[parameter])
            slope = cell.add_weight(shape=(cell.units,), name=f"{gate}_{parameter}", initializer=start)
            setattr(cell, f"{gate}_slope", slope)


def gate_function(cell: Any, gate: str, drawn: Mapping[str, Tensor] | None) -> Any:
    """The activation of `gate` as a function of one tensor, with what it learns and what was `drawn` filled in."""
    activation = cell.gate_activations[gate]
    if isinstance(activation, LayerActivation):
        layer = getattr(cell, f"{gate}_layer")
        return lambda z: ops.cast(layer(z), z.dtype)  # it may have been made under another precision
    if isinstance(activation, Activation):
        definition = activation.definition
        if definition.learnable:
            slope = ops.cast(getattr(cell, f"{gate}_slope"), cell.compute_dtype)
            return functools.partial(activation, **{definition.learnable: slope})
        if definition.random and drawn:
            return functools.partial(activation, **{definition.random: drawn[gate]})
    return activation
