"""The rules for layers on sequences that arrive in pieces: their computation, and their states between pieces."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from zoo import layers
from zoo.interception import replaced
from zoo.types import Tensor

Layer = Any
Shapes = dict[str, tuple[int, ...]]


class NotStreamable(ValueError):
    """The model needs later steps, or all steps at once; the message names the layer."""


@dataclass
class Chunk:
    """A piece of every sequence in a batch, with the states of the layers.

    Attributes:
        lengths: Int (batch,), the number of steps of each row in this piece.
        mask: Bool (batch, steps), or `None` if all steps of all rows are valid.
        states: The states before this piece by name, each (batch, ...).
        after: The states after this piece, by name.
    """

    lengths: Tensor
    mask: Tensor | None
    states: Mapping[str, Tensor]
    after: dict[str, Tensor] = field(default_factory=dict)

    def valid(self, x: Tensor, otherwise: float) -> Tensor:
        """Replace the masked steps of `x` (batch, steps, channels) by `otherwise`."""
        return x if self.mask is None else ops.where(self.mask[:, :, None], x, ops.full_like(x, otherwise))


ChunkCall = Callable[[Layer, Chunk, dict[str, Any]], Tensor]


@dataclass(frozen=True)
class Rule:
    """How layers of a class work on a stream.

    Attributes:
        states: From a layer to the shape of each state without the batch axis, by the last part of its name. Raises
            `NotStreamable` if the layer needs later steps.
        call: From the layer, the chunk, and the layer's arguments by name to its output. `None` for a layer that
            computes the same as on whole sequences.
    """

    states: Callable[[Layer], Shapes]
    call: ChunkCall | None = None


def where(operation: Any) -> str:
    """The name of a layer in messages."""
    return f"layer {operation.name!r} ({type(operation).__name__})"


# === Layers that treat every step alike ===


def _nothing(layer: Layer) -> Shapes:
    return {}


def _along_channels(layer: Layer) -> Shapes:
    last = len(keras.tree.flatten(layer.input)[0].shape) - 1
    axes = set(keras.tree.flatten(layer.axis)) - {None}
    if not axes <= {-1, last}:
        raise NotStreamable(f"{where(layer)} works along axis {layer.axis}, which is not the axis of the channels")
    return {}


def _no_guessed_mask(layer: Layer) -> Shapes:
    if layer.mask_zero:
        raise NotStreamable(f"{where(layer)} treats token 0 as padding (mask_zero)")
    return {}


def _steps_stay(layer: Layer) -> Shapes:
    shape, target = layer.input.shape, layer.output.shape
    if target[1] is not None or layer.target_shape[0] != -1 or _size(shape[2:]) != _size(target[2:]):
        raise NotStreamable(f"{where(layer)} mixes steps: it turns {shape} into {target}")
    return {}


def _size(shape: tuple[int | None, ...]) -> int | None:
    return math.prod(size for size in shape if size is not None) if None not in shape else None


def _axis_behind_steps(operation: Any) -> Shapes:
    if operation.axis not in (-1, 2, 3):
        raise NotStreamable(f"{where(operation)} moves the axis of the steps")
    return {}


STEPWISE = Rule(_nothing)
ALONG_CHANNELS = Rule(_along_channels)

# === Layers that need earlier steps ===


def _recurrent_states(layer: Layer) -> Shapes:
    if layer.go_backwards:
        raise NotStreamable(f"{where(layer)} reads the sequence backwards (go_backwards)")
    with replaced(layer, "return_state", True):
        _, *shapes = layer.compute_output_shape(_sequences_of(layer).shape)
    if isinstance(layer.cell, layers.ZoneoutCell):
        shapes = shapes[:-1]  # its step counter matters in training only
    if not all(isinstance(size, int) for shape in shapes for size in shape[1:]):
        raise NotStreamable(f"{where(layer)} has states of unknown shapes: {shapes}")
    names = ("hidden", "cell") if len(shapes) < 3 else tuple(f"state_{index + 1}" for index in range(len(shapes)))
    return {name: tuple(shape[1:]) for name, shape in zip(names, shapes, strict=False)}


def _sequences_of(layer: Layer) -> Any:
    """The symbolic input of a layer, without those for a mask or states."""
    return layer.input[0] if isinstance(layer.input, list | tuple) else layer.input


def _recurrent(layer: Layer, chunk: Chunk, arguments: dict[str, Any]) -> Tensor:
    names = [f"{layer.name}_{name}" for name in _recurrent_states(layer)]
    states = [chunk.states[name] for name in names]
    if isinstance(layer.cell, layers.ZoneoutCell):
        states.append(ops.zeros((ops.shape(states[0])[0], 2)))
    with replaced(layer, "return_state", True):
        output, *after = type(layer).call(
            layer, arguments["sequences"], initial_state=states, mask=chunk.mask, training=False
        )
    chunk.after.update(zip(names, after, strict=False))
    return output


def _batch_norm_states(layer: Layer) -> Shapes:
    return {**_recurrent_states(layer), "steps": ()}


def _batch_norm(layer: Layer, chunk: Chunk, arguments: dict[str, Any]) -> Tensor:
    x, kind = arguments["sequences"], layer.cell.compute_dtype
    mask = ops.ones(ops.shape(x)[:2], dtype="bool") if chunk.mask is None else chunk.mask
    names = [f"{layer.name}_{name}" for name in ("hidden", "cell", "steps")]
    hidden, cell, steps = (chunk.states[name] for name in names)
    outputs, states, count = layer.go_on(
        x, mask, [ops.cast(hidden, kind), ops.cast(cell, kind)], ops.cast(steps, "int32")
    )
    chunk.after.update(zip(names, [*states, ops.cast(count, "float32")], strict=True))
    return outputs if layer.return_sequences else outputs[:, -1]


def _convolution_states(layer: Layer) -> Shapes:
    reach = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
    if layer.data_format != "channels_last" or layer.strides[0] != 1:
        raise NotStreamable(f"{where(layer)} does not keep the number of steps (strides or data_format)")
    if not reach:
        return {}
    if layer.padding != "causal":
        raise NotStreamable(f"{where(layer)} sees later steps (padding={layer.padding!r}, not 'causal')")
    return {"buffer": (reach, int(layer.input.shape[-1]))}


def _convolution(layer: Layer, chunk: Chunk, arguments: dict[str, Any]) -> Tensor:
    x = arguments["inputs"]
    if not _convolution_states(layer):
        return type(layer).call(layer, x)
    name = f"{layer.name}_buffer"
    joined = ops.concatenate([ops.cast(chunk.states[name], x.dtype), x], axis=1)
    chunk.after[name] = _last_steps(joined, chunk.lengths, layer.dilation_rate[0] * (layer.kernel_size[0] - 1))
    with replaced(layer, "padding", "valid"):
        return type(layer).call(layer, joined)


def _last_steps(joined: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """The last `steps` steps of each row, which has `steps` old steps and then `lengths` new ones."""
    import tensorflow as tf

    return tf.gather(joined, lengths[:, tf.newaxis] + tf.range(steps), axis=1, batch_dims=1)


def _pool_states(first: str) -> Callable[[Layer], Shapes]:
    def states(layer: Layer) -> Shapes:
        if layer.data_format != "channels_last":
            raise NotStreamable(f"{where(layer)} has its steps on the last axis (data_format)")
        return {first: (int(_sequences_of(layer).shape[-1]),), "count": ()}

    return states


def _counted(layer: Layer, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """The number of steps before this piece, and after it, float32 (batch, 1)."""
    before = chunk.states[f"{layer.name}_count"]
    chunk.after[f"{layer.name}_count"] = after = before + ops.cast(chunk.lengths, "float32")
    return before[:, None], after[:, None]


def _mean(layer: Layer, chunk: Chunk, arguments: dict[str, Any]) -> Tensor:
    x, name = arguments["inputs"], f"{layer.name}_sum"
    _, count = _counted(layer, chunk)
    chunk.after[name] = total = chunk.states[name] + ops.sum(ops.cast(chunk.valid(x, 0.0), "float32"), axis=1)
    mean = ops.cast(total / count, x.dtype)
    return mean[:, None] if layer.keepdims else mean


def _maximum(layer: Layer, chunk: Chunk, arguments: dict[str, Any]) -> Tensor:
    x, name = arguments["inputs"], f"{layer.name}_maximum"
    before, _ = _counted(layer, chunk)
    old, new = chunk.states[name], ops.max(ops.cast(chunk.valid(x, float("-inf")), "float32"), axis=1)
    # A state of 0 before the first step is not a maximum, which only the count can tell.
    chunk.after[name] = largest = ops.where(before > 0, ops.maximum(old, new), new)
    largest = ops.cast(largest, x.dtype)
    return largest[:, None] if layer.keepdims else largest


# === Layers for padding ===


def _as_it_is(layer: Layer, chunk: Chunk, arguments: dict[str, Any]) -> Tensor:
    return arguments["features"]  # values in the padding of a piece reach no state


# === Layers that cannot work on a stream ===


def _refused(reason: str) -> Rule:
    def states(layer: Layer) -> Shapes:
        raise NotStreamable(f"{where(layer)} {reason}")

    return Rule(states)


RECURRENT = Rule(_recurrent_states, _recurrent)
_K = keras.layers

# The rule of each class of layer; a new one is a line.
RULES: dict[type, Rule] = {
    # layers that treat every step alike
    **dict.fromkeys(
        (
            *(_K.Dense, _K.Activation, _K.ReLU, _K.LeakyReLU, _K.ELU, _K.TimeDistributed, _K.Identity),
            *(_K.Dropout, _K.SpatialDropout1D, _K.GaussianDropout, _K.GaussianNoise),
            *(_K.Add, _K.Subtract, _K.Multiply, _K.Average, _K.Maximum, _K.Minimum),
            *(layers.LeakyReLU, layers.PenalizedTanh, layers.RReLU, layers.ThresholdedReLU),
        ),
        STEPWISE,
    ),
    **dict.fromkeys(
        (_K.Normalization, _K.BatchNormalization, _K.LayerNormalization, _K.Concatenate, _K.Softmax), ALONG_CHANNELS
    ),
    _K.Embedding: Rule(_no_guessed_mask),
    _K.Reshape: Rule(_steps_stay),
    # layers that need earlier steps
    **dict.fromkeys((layers.LSTM, _K.RNN, _K.LSTM, _K.GRU, _K.SimpleRNN, _K.ConvLSTM1D), RECURRENT),
    layers.BatchNormLSTM: Rule(_batch_norm_states, _batch_norm),
    _K.Conv1D: Rule(_convolution_states, _convolution),
    _K.GlobalAveragePooling1D: Rule(_pool_states("sum"), _mean),
    _K.GlobalMaxPooling1D: Rule(_pool_states("maximum"), _maximum),
    # layers for padding
    layers.SequenceMask: STEPWISE,
    layers.ZeroPadding: Rule(_nothing, _as_it_is),
    layers.LastStep: STEPWISE,
    # layers that cannot work on a stream
    _K.Bidirectional: _refused("reads the sequence backwards too"),
    layers.FixedLength: _refused("has a fixed number of steps"),
}

# The rules of operations that are not layers, by name, because their classes are not public.
OPERATIONS: dict[str, Rule] = {"keras.src.ops.numpy.ExpandDims": Rule(_axis_behind_steps)}
