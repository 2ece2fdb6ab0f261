"""Layers over the cells of `zoo.layers.CELLS`, for tests that walk the dict, so that a new cell is in all of them."""

import inspect

import keras

from zoo.layers import CELLS


def over_time(name, units=5, /, *, cell=None, **arguments):
    """A layer of the cell `name`; `cell` has the arguments of the cell, `arguments` are the layer's."""
    make, of_cell = CELLS[name], dict(cell or {})
    if "projection" in inspect.signature(make).parameters:
        of_cell.setdefault("projection", 3)
    if issubclass(getattr(make, "func", make), keras.layers.RNN):
        return make(units=units, **of_cell, **arguments)
    return keras.layers.RNN(make(units=units, **of_cell), **arguments)


def for_gates(name, activations):
    """Those of the arguments `activations`, such as `hidden_activation`, for which the cell `name` has a gate."""
    gates = {f"{gate}_activation" for gate in over_time(name).cell.gates}
    return {argument: value for argument, value in activations.items() if argument in gates}
