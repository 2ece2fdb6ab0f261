"""Hands batches to Keras's `fit`, as a `tf.data.Dataset` on TensorFlow."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.batches.batches import Batches
from training.batches.windows import Windows

# Bytes of batches made in one call of Python: the call itself takes longer than making a small batch.
_CALL_BYTES = 2**20


class FollowEpoch(keras.callbacks.Callback):
    """Sets the epoch of batches that `feed` passes to Keras directly.

    Args:
        batches: The argument of `feed`.
    """

    def __init__(self, batches: Batches | Windows) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.epoch = epoch


class BeginAnew(keras.callbacks.Callback):
    """Resets the states of a stateful model when an epoch or an evaluation begins."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        begin_anew(self.model)

    def on_test_begin(self, logs: Any = None) -> None:
        begin_anew(self.model)


def begin_anew(model: keras.Model) -> None:
    """Reset the states of all layers of `model` that keep them between batches."""
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()


def feed(batches: Batches | Windows, same_order: bool = False) -> tuple[Any, int | None]:
    """Convert batches to an input of `fit`; returns it and the steps per epoch.

    On TensorFlow, Keras infers the shape of a `PyDataset` from its first two batches: if both come from one bucket, it
    rejects batches of the next bucket. A `tf.data.Dataset` with an open time axis avoids this. It is endless, because
    starting a new iterator for each epoch costs as much as several steps of a small model.

    Args:
        batches: Length-bucketed batches; the first epoch is `batches.epoch`.
        same_order: Repeat the first epoch, for validation.

    Returns:
        On TensorFlow an endless `tf.data.Dataset` and the steps per epoch; on JAX and torch `batches` and None, to use
        with `FollowEpoch`.
    """
    if keras.backend.backend() != "tensorflow":
        return batches, None
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1  # more threads would compete with the training step for cores
    options.autotune.enabled = False
    dataset = _one_by_one(batches) if same_order else _some_at_once(batches)
    return dataset.prefetch(2).with_options(options), len(batches)


def _one_by_one(batches: Batches | Windows) -> Any:
    """Make each batch in its own call of Python.

    This is slow per batch but starts fast, and Keras starts a validation after every epoch.
    """
    import tensorflow as tf

    kinds = _kinds(batches)

    def one(step: int) -> list[NDArray[Any]]:
        return _flat(batches, batches.epoch, step % len(batches))

    def item(step: Any) -> Any:
        tensors = tf.numpy_function(one, [step], [dtype for _, dtype in kinds])
        return _item(batches, [tf.ensure_shape(t, shape) for t, (shape, _) in zip(tensors, kinds, strict=True)])

    return tf.data.Dataset.counter().map(_without_autograph(item))


def _some_at_once(batches: Batches | Windows) -> Any:
    """Make several batches in one call of Python, which TensorFlow separates.

    Starting costs 40 ms; each batch after that costs almost nothing.
    """
    import tensorflow as tf

    kinds, first, steps = _kinds(batches), batches.epoch, len(batches)
    at_once = max(1, _CALL_BYTES // sum(array.nbytes for array in _flat(batches, first, 0)))

    def several(call: int) -> list[NDArray[Any]]:
        """Pack each kind of array into one row of values, with the begin, size and shape of each array."""
        numbers = range(call * at_once, (call + 1) * at_once)
        rows = [_flat(batches, first + step // steps, step % steps) for step in numbers]
        answer = []
        for arrays in zip(*rows, strict=True):
            sizes = np.array([[array.size] for array in arrays])
            shapes = np.array([array.shape for array in arrays])
            answer += [np.concatenate([array.ravel() for array in arrays]), np.cumsum(sizes, 0) - sizes, sizes, shapes]
        return answer

    def batches_of_call(call: Any) -> Any:
        arrays = tf.numpy_function(several, [call], [each for _, dtype in kinds for each in (dtype, *["int64"] * 3)])
        values, places = arrays[::4], []
        for number, (shape, _) in enumerate(kinds):
            widths = (1, 1, len(shape))
            tensors = arrays[4 * number + 1 : 4 * number + 4]
            places.append(tuple(tf.ensure_shape(t, (at_once, w)) for t, w in zip(tensors, widths, strict=True)))

        def item(*places: Any) -> Any:
            tensors = []
            for array, (begin, size, shape), (kind, _) in zip(values, places, kinds, strict=True):
                tensors.append(tf.reshape(tf.slice(array, begin, size), shape))
                tensors[-1].set_shape(kind)
            return _item(batches, tensors)

        return tf.data.Dataset.from_tensor_slices(tuple(places)).map(_without_autograph(item))

    return tf.data.Dataset.counter().flat_map(_without_autograph(batches_of_call))


def _without_autograph(function: Any) -> Any:
    """Keep AutoGraph from rewriting a function, which takes time and may print warnings."""
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def _kinds(batches: Batches | Windows) -> list[tuple[tuple[int | None, ...], str]]:
    """Shape and dtype of every array in a batch, inputs first."""
    inputs, *targets = batches.shapes()
    return [*inputs.values(), *targets]


def _flat(batches: Batches | Windows, epoch: int, index: int) -> list[NDArray[Any]]:
    inputs, *targets = batches.batch(epoch, index)
    return [*inputs.values(), *targets]


def _item(batches: Batches | Windows, tensors: Sequence[Any]) -> tuple[Any, ...]:
    """Rebuild a batch from the list that `_flat` made."""
    inputs, *_ = batches.shapes()
    return dict(zip(inputs, tensors, strict=False)), *tensors[len(inputs) :]
