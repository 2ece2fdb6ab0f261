"""The base of the layers over one cell: the cell's arguments as attributes, initial states, and the configuration."""

import inspect
from typing import Any, ClassVar

import keras
from keras import ops

from zoo.layers._arguments import CheckedArguments
from zoo.layers._gate_activations import ARGUMENTS
from zoo.layers._gated_cell import GatedCell
from zoo.types import Tensor


class OfCell(property):
    """An argument of a layer that its cell holds: read from there, and set there."""

    def __init__(self, name: str) -> None:
        super().__init__(lambda layer: getattr(layer.cell, name), doc=f"`{name}` of the cell.")


class CellLayer(CheckedArguments, keras.layers.RNN):
    """Base of a layer over a cell of the class `cell_class`, whose arguments are attributes of the layer too."""

    cell_class: ClassVar[type[GatedCell]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        constructors = (base.__init__ for base in cls.cell_class.__mro__ if issubclass(base, GatedCell))
        for arguments in map(inspect.getfullargspec, constructors):
            for name in (*arguments.args[1:], *arguments.kwonlyargs, *ARGUMENTS, "gate_activations"):
                setattr(cls, name, OfCell(name))

    def __init__(self, cell: GatedCell, **kwargs: Any) -> None:
        super().__init__(cell, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True  # not every version of Keras's RNN layer says so

    def __setattr__(self, name: str, value: Any) -> None:
        # Not by a setter of the property: Keras's `__setattr__` runs before it, and would track a layer given as an
        # activation as a sublayer of this layer too.
        if isinstance(getattr(type(self), name, None), OfCell):
            setattr(self.cell, name, value)
        else:
            super().__setattr__(name, value)

    def call(self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        initial_state = broadcast_states(initial_state, sequences)
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def get_config(self) -> dict[str, Any]:
        layer = dict(super().get_config())
        del layer["cell"]
        regularizer = keras.regularizers.serialize(self.activity_regularizer)
        return {**self.cell.get_config(), **layer, "activity_regularizer": regularizer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)


def broadcast_states(states: Any, sequences: Tensor) -> Any:
    """Repeat initial states of one row, (1, width), for every row of the batch, as Keras's loop does.

    Args:
        states: A tensor or several, each (batch, width) or (1, width), or `None`.
        sequences: (batch, steps, channels).

    Example:
    >>> [tuple(state.shape) for state in broadcast_states([ops.ones((1, 4)), ops.ones((2, 4))], ops.ones((2, 5, 3)))]
    [(2, 4), (2, 4)]
    """

    def repeated(state: Any) -> Any:
        shape: Any = getattr(state, "shape", ())
        if sequences.shape[0] == 1 or len(shape) != 2 or shape[0] != 1:
            return state
        return ops.broadcast_to(state, (ops.shape(sequences)[0], shape[1]))

    if states is None:
        return None
    return [repeated(state) for state in (states if isinstance(states, list | tuple) else [states])]
