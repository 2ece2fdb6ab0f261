"""Hand batches to Keras's `fit`, on whichever backend it runs."""

from collections.abc import Iterator
from typing import Any

import keras

from training.pipeline import Batches


class FollowEpoch(keras.callbacks.Callback):
    """Serve the order of the epoch that Keras is in, also where training goes on from a later one.

    Args:
        batches: What `feed` was given.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.epoch = epoch


def feed(batches: Batches) -> Any:
    """What to pass to `fit` for `batches`.

    On TensorFlow, Keras infers the shape of a `PyDataset` from its first two batches: two of one bucket make it
    refuse the next bucket. A `tf.data.Dataset` with the time axis declared open has no such trap.

    Args:
        batches: Length-bucketed batches.

    Returns:
        A `tf.data.Dataset` on TensorFlow; `batches` itself on JAX and torch.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def epoch() -> Iterator[Any]:
        return (batches[index] for index in range(len(batches)))

    signature = (
        {
            "features": tf.TensorSpec((None, None, batches.channels), tf.float32),
            "lengths": tf.TensorSpec((None,), tf.int32),
        },
        tf.TensorSpec((None,), tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(2)
