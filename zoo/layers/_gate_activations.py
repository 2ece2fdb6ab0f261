"""What every cell does with the activations of its gates: which each gate has, what they learn, draw and save."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import keras
from keras import ops

from zoo import activations
from zoo.activations import Activation, LayerActivation
from zoo.kernels.reference import GateFunctions, Tensor
from zoo.layers.activation_layers import RReLU

GATES = GateFunctions._fields  # input_gate, forget_gate, candidate, output_gate, hidden


def set_gate_activations(
    cell: Any, activation: Any, recurrent_activation: Any, given: Mapping[str, Any], gates: Iterable[str] = GATES
) -> None:
    """Find the activation of each of `gates`: what is `given`, or what the gate inherits.

    Sets `activation`, `recurrent_activation`, `gate_activations`, and a layer `<gate>_layer` for each gate whose
    activation is a Keras layer: one a gate, so that learned slopes are never shared. Call it after Keras's `__init__`.

    Raises:
        ValueError: An activation is unknown, or is a layer that draws at every call.
    """
    cell.activation, cell.recurrent_activation = activations.get(activation), activations.get(recurrent_activation)
    inherited = {g: cell.activation if g in ("candidate", "hidden") else cell.recurrent_activation for g in gates}
    cell._given = {gate: None if given[gate] is None else activations.get(given[gate]) for gate in inherited}
    cell.gate_activations = {gate: inherited[gate] if a is None else a for gate, a in cell._given.items()}
    for gate, chosen in cell.gate_activations.items():
        if isinstance(chosen, LayerActivation):
            setattr(cell, f"{gate}_layer", _held_for_a_sequence(chosen.make()))


def _held_for_a_sequence(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(layer, RReLU):  # inside the loop over time it would draw a slope for every step
        name = f"rrelu({layer.lower}, {layer.upper})"
        raise ValueError(f"an RReLU layer cannot be the activation of a gate; write the name {name!r} instead.")
    return layer


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


def random_gates(cell: Any) -> list[str]:
    """The gates whose activation draws its slope."""
    chosen = cell.gate_activations.items()
    return [gate for gate, a in chosen if isinstance(a, Activation) and a.definition.random]


def draw_slopes(cell: Any, step_input: Tensor) -> dict[str, Tensor]:
    """A slope for each row of `step_input` (batch, channels) and each unit, for every gate that draws."""
    slopes = {}
    for gate in random_gates(cell):
        limits, shape = dict(cell.gate_activations[gate].parameters), (ops.shape(step_input)[0], cell.units)
        slopes[gate] = keras.random.uniform(
            shape, limits["lower"], limits["upper"], dtype=cell.compute_dtype, seed=cell.seed_generator
        )
    return slopes


def gate_config(cell: Any) -> dict[str, Any]:
    """What the configuration of `cell` says of its activations: names, which people read and edit."""
    config = {
        "activation": activations.serialize(cell.activation),
        "recurrent_activation": activations.serialize(cell.recurrent_activation),
    }
    for gate, activation in cell._given.items():
        config[f"{gate}_activation"] = None if activation is None else activations.serialize(activation)
    return config
