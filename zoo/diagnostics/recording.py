"""Records the outputs of every layer and the values inside its cells for one batch, without changing the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from zoo.diagnostics.cells import cells_of
from zoo.diagnostics.loop import Trace, WideLoop
from zoo.diagnostics.running import pays, stateless
from zoo.interception import intercepted, leaf_layers, require_built, tensors
from zoo.types import Tensor


@dataclass(frozen=True)
class Call:
    """One call of one layer.

    Attributes:
        name: Path of the layer inside the model, "bidirectional_1/forward_lstm_1".
        layer: The layer.
        outputs: The returned tensors.
        mask: The mask over steps that a recurrent layer received, bool (batch, steps), or `None`.
        traces: A trace for each cell of a recurrent layer that can be watched.
    """

    name: str
    layer: keras.layers.Layer
    outputs: list[Tensor]
    mask: NDArray[np.bool_] | None
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class Recording:
    """One pass of a batch through a model: its calls in the order in which the layers finished."""

    calls: tuple[Call, ...]

    @property
    def traces(self) -> tuple[Trace, ...]:
        """The traces of all calls."""
        return tuple(trace for call in self.calls for trace in call.traces)


class Recorder:
    """Runs `model` on a batch as at inference and records its values; later runs are cheaper.

    The model does not change: states of stateful layers, seeds and running statistics stay as they are.

    Args:
        model: A built model or layer.
        inputs: A batch in the form that the model takes: an array, or a list or dict of arrays.
        call_arguments: Further arguments of the call, such as `{"mask": mask}`.
        compiled: Whether to compile the pass; `None` to decide by the length of the sequences.

    Raises:
        ValueError: The model is not built.
    """

    def __init__(
        self,
        model: keras.layers.Layer,
        inputs: Any,
        call_arguments: Mapping[str, Any] | None = None,
        compiled: bool | None = None,
    ) -> None:
        require_built(model)
        self._model = model
        self._layers = leaf_layers(model)
        self._batch = tensors(inputs)
        self._arguments = {name: ops.convert_to_tensor(value) for name, value in (call_arguments or {}).items()}
        self._run = stateless(self._pass, model, pays(model, inputs) if compiled is None else compiled)
        self._called: list[tuple[str, WideLoop | None]] = []

    def __call__(self) -> Recording:
        results = self._run(self._batch, self._arguments)  # first, because a pass makes `_called`
        pairs = zip(self._called, results, strict=True)
        return Recording(tuple(self._call(name, loop, *results) for (name, loop), results in pairs))

    def _call(
        self, name: str, loop: WideLoop | None, outputs: list[Tensor], mask: Tensor | None, notes: Tensor | None
    ) -> Call:
        valid = None if mask is None else to_numpy(mask).astype(bool)
        traces = () if loop is None or notes is None else loop.traces(to_numpy(notes), valid)
        return Call(name, self._layers[name], outputs, valid, traces)

    def _pass(self, batch: Any, arguments: dict[str, Tensor]) -> list[Any]:
        """Return only tensors, so that the pass can be compiled; everything else goes to `_called`."""
        names = {id(layer): name for name, layer in self._layers.items()}
        cells = {name: cells_of(layer, name) for name, layer in self._layers.items()}
        watched = [self._layers[name] for name, several in cells.items() if several]
        self._called, results, inside = [], [], {}

        def watch(layer: Any, original: Any, arguments: dict[str, Any]) -> Any:
            loop = WideLoop(cells[names[id(layer)]])
            result, notes = loop(arguments)
            inside[id(layer)] = (loop, notes)
            return result

        def keep(layer: Any, original: Any, arguments: dict[str, Any]) -> Any:
            outputs = original()
            loop, notes = inside.pop(id(layer), (None, None))
            mask = arguments.get("mask") if isinstance(layer, keras.layers.RNN) else None
            mask = mask[0] if isinstance(mask, list | tuple) else mask
            self._called.append((names[id(layer)], loop))
            results.append(([leaf for leaf in keras.tree.flatten(outputs) if ops.is_tensor(leaf)], mask, notes))
            return outputs

        with intercepted(self._layers.values(), keep), intercepted(watched, watch, "inner_loop"):
            self._model(batch, **arguments, **_inference(self._model))
        return results


def record(model: keras.layers.Layer, inputs: Any, call_arguments: Mapping[str, Any] | None = None) -> Recording:
    """Record one pass of a batch.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="dense")])
    >>> [(call.name, tuple(call.outputs[0].shape)) for call in record(model, np.ones((1, 2), "float32")).calls]
    [('dense', (1, 3))]
    """
    return Recorder(model, inputs, call_arguments)()


def unknown_cells(recording: Recording, gated: bool = False) -> tuple[str, ...]:
    """Names of the recurrent layers or cells of an unknown kind; with `gated`, of those whose gates are not watched."""
    names: list[str] = []
    for call in recording.calls:
        if isinstance(call.layer, keras.layers.RNN):
            cells = cells_of(call.layer, call.name) if call.traces else ()
            names += (
                [cell.name for cell in cells if not (cell.gated if gated else cell.known)] if cells else [call.name]
            )
    return tuple(names)


def _inference(model: keras.layers.Layer) -> dict[str, bool]:
    # A model passes `training` on to the layers that accept it; a single layer may not have that argument.
    return {"training": False} if isinstance(model, keras.Model) else {}


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Convert to an array; half precision becomes float32, in which NumPy can compute."""
    if keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16"):
        tensor = ops.cast(tensor, "float32")
    return np.asarray(ops.convert_to_numpy(tensor))
