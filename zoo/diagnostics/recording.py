"""What every layer of a model receives and returns for one batch, without leaving a trace in the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from zoo.diagnostics.walk import intercepted, leaf_layers, require_built, tensors

Tensor = Any


@dataclass(frozen=True)
class Call:
    """One call of one layer.

    Attributes:
        name: Path of the layer inside the model, "bidirectional_1/forward_lstm_1".
        layer: The layer.
        arguments: What its `call` received, by name.
        outputs: What it returned.
    """

    name: str
    layer: keras.layers.Layer
    arguments: dict[str, Any]
    outputs: Any

    @property
    def inputs(self) -> Any:
        """The first argument."""
        return next(iter(self.arguments.values()))

    @property
    def mask(self) -> Tensor | None:
        """The mask over steps that a recurrent layer received, bool (batch, steps)."""
        mask = self.arguments.get("mask")
        return mask[0] if isinstance(mask, list | tuple) else mask


@dataclass(frozen=True)
class Recording:
    """One pass of a batch through a model.

    Attributes:
        calls: In the order in which the layers finished.
        outputs: What the model returned.
    """

    calls: tuple[Call, ...]
    outputs: Any


def record(model: keras.layers.Layer, inputs: Any, call_arguments: Mapping[str, Any] | None = None) -> Recording:
    """Run `model` on `inputs` as at inference and keep what every layer received and returned.

    The model is as before afterwards: states of stateful layers, seeds and running statistics do not move.

    Args:
        model: A built model or layer.
        inputs: What the model takes: an array, or a list or dict of arrays.
        call_arguments: Further arguments of the call, such as `{"mask": mask}`.

    Raises:
        ValueError: The model is not built.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="dense")])
    >>> [(call.name, tuple(call.outputs.shape)) for call in record(model, np.ones((1, 2), "float32")).calls]
    [('dense', (1, 3))]
    """
    require_built(model)
    names = {id(layer): name for name, layer in leaf_layers(model).items()}
    calls: list[Call] = []

    def keep(layer: Any, original: Any, arguments: dict[str, Any]) -> Any:
        outputs = original()
        calls.append(Call(names[id(layer)], layer, arguments, outputs))
        return outputs

    # A stateless scope holds back every assignment that the pass would make.
    with intercepted(leaf_layers(model).values(), keep), keras.StatelessScope():
        outputs = model(tensors(inputs), **_with_training(model, call_arguments))
    return Recording(tuple(calls), outputs)


def _with_training(model: keras.layers.Layer, call_arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    # `training` goes to every layer inside, but a plain layer without that argument would refuse it.
    given = {name: ops.convert_to_tensor(value) for name, value in (call_arguments or {}).items()}
    return {**given, "training": False} if isinstance(model, keras.Model) else given


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """As an array; half precision becomes float32, which NumPy can compute with."""
    if keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16"):
        tensor = ops.cast(tensor, "float32")
    return np.asarray(ops.convert_to_numpy(tensor))
