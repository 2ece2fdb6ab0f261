"""Hand batches to Keras's `fit`, on whichever backend it runs."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.pipeline import Batches, Windows

# Batches are made some at a time, up to that size together: a call of Python takes longer than to make a small one.
_CALL_BYTES = 2**20


class FollowEpoch(keras.callbacks.Callback):
    """Serve the order of the epoch that Keras is in, where `feed` gives Keras the batches themselves.

    Args:
        batches: What `feed` was given.
    """

    def __init__(self, batches: Batches | Windows) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.epoch = epoch


class BeginAnew(keras.callbacks.Callback):
    """Forget the states of a stateful model when an epoch or an evaluation begins."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        begin_anew(self.model)

    def on_test_begin(self, logs: Any = None) -> None:
        begin_anew(self.model)


def begin_anew(model: keras.Model) -> None:
    """Set the states of the recurrent layers of `model` to zero, of those that keep them between batches."""
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_state()


def feed(batches: Batches | Windows, same_order: bool = False) -> tuple[Any, int | None]:
    """What to pass to `fit` for `batches`, and how many steps an epoch of it has.

    On TensorFlow, Keras infers the shape of a `PyDataset` from its first two batches: two of one bucket make it
    refuse the next bucket. A `tf.data.Dataset` with the time axis declared open has no such trap. It goes on without
    end, epoch after epoch, because to begin a new one costs as much as several steps of a small model.

    Args:
        batches: Length-bucketed batches; the first epoch served is `batches.epoch`.
        same_order: Serve that epoch again and again, for validation.

    Returns:
        On TensorFlow an endless `tf.data.Dataset` and the steps of an epoch; on JAX and torch `batches` and None, to be
        used with `FollowEpoch`.
    """
    if keras.backend.backend() != "tensorflow":
        return batches, None
    import tensorflow as tf

    inputs, *targets = batches.shapes()
    kinds = [*inputs.values(), *targets]
    first, steps = batches.epoch, len(batches)

    def flat(step: int) -> list[NDArray[Any]]:
        epoch, index = divmod(step, steps)
        inputs, *targets = batches.batch(first if same_order else first + epoch, index)
        return [*inputs.values(), *targets]

    at_once = max(1, min(steps, _CALL_BYTES // sum(array.nbytes for array in flat(0))))

    def several(call: int) -> list[NDArray[Any]]:
        """Some batches: of each kind of array all values behind one another, where each begins, sizes and shapes."""
        rows = [flat(step) for step in range(call * at_once, (call + 1) * at_once)]
        answer = []
        for arrays in zip(*rows, strict=True):
            sizes = np.array([[array.size] for array in arrays])
            shapes = np.array([array.shape for array in arrays])
            answer += [np.concatenate([array.ravel() for array in arrays]), np.cumsum(sizes, 0) - sizes, sizes, shapes]
        return answer

    def those(call: Any) -> Any:
        asked = [dtype for _, own in kinds for dtype in (own, "int64", "int64", "int64")]
        given = tf.numpy_function(several, [call], asked)
        values = given[::4]
        places = []
        for number, (shape, _) in enumerate(kinds):
            widths = (1, 1, len(shape))
            tensors = given[4 * number + 1 : 4 * number + 4]
            places.append([tf.ensure_shape(t, (at_once, width)) for t, width in zip(tensors, widths, strict=True)])

        def item(*places: Any) -> Any:
            tensors = [
                tf.ensure_shape(tf.reshape(tf.slice(array, begin, size), shape), kind)
                for array, (begin, size, shape), (kind, _) in zip(values, places, kinds, strict=True)
            ]
            return dict(zip(inputs, tensors, strict=False)), *tensors[len(inputs) :]

        return tf.data.Dataset.from_tensor_slices(tuple(map(tuple, places))).map(item)

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1  # more threads would only take cores from the training step
    options.autotune.enabled = False
    return tf.data.Dataset.counter().flat_map(those).prefetch(2).with_options(options), steps
