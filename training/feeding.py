"""Hand batches to Keras's `fit`, on whichever backend it runs."""

from typing import Any

import keras

from training.pipeline import Batches, Windows


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

    def arrays(step: int) -> list[Any]:
        epoch, index = divmod(int(step), steps)
        inputs, *targets = batches.batch(first if same_order else first + epoch, index)
        return [*inputs.values(), *targets]

    def item(step: Any) -> Any:
        # One call of Python for a batch: tf.data's from_generator makes several, and takes milliseconds.
        tensors = tf.numpy_function(arrays, [step], [dtype for _, dtype in kinds])
        for tensor, (shape, _) in zip(tensors, kinds, strict=True):
            tensor.set_shape(shape)
        return dict(zip(inputs, tensors, strict=False)), *tensors[len(inputs) :]

    return tf.data.Dataset.counter().map(item).prefetch(2), steps
