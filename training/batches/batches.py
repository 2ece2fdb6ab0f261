"""Length-bucketed, zero-padded batches.

Everything here is NumPy: the same seed gives the same order on every machine and Keras backend (of one NumPy
release; NumPy reserves the right to change its generators between releases).
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.batches.buckets import bucket_boundaries
from training.batches.errors import InvalidPipeline
from training.datasets.base import Examples, Slices
from training.datasets.targets import LABELS, STEP_LABELS

Batch = tuple[Any, ...]
"""Inputs, targets and, where not every target counts the same, weights."""

Augment = Callable[[NDArray[np.float32], NDArray[np.int64], np.random.Generator], NDArray[np.float32]]
"""From features (batch, time, channels), lengths (batch,) and a generator to other features of the same shape."""


class Batches(keras.utils.PyDataset):
    """Length-bucketed, zero-padded batches; every example exactly once an epoch.

    An item is `({"features": float32 [batch, time, channels], "lengths": int32 [batch]}, targets)`, where `time` is the
    boundary of the bucket; of text the features are int32 `[batch, time]`. Targets are int32 `[batch]` of a
    classification, float32 `[batch, ...]` of numbers to predict, or int32 `[batch, time]` of a labelling, which has
    float32 weights `[batch, time]` as a third part: 0 where there is no label. A classification with `class_weights`
    has weights `[batch]`. The last batch of a bucket may be smaller. The order depends on
    `seed` and `epoch` alone, and changes only when `epoch` is set: Keras's own hooks for that also fire before the
    first epoch and after evaluations. Pass `shuffle=False` to `fit`, or Keras shuffles the batches again.

    Args:
        examples: What to batch. Sequences that are mapped from a file stay there.
        batch_size: Examples in a full batch.
        buckets: Padded lengths in use at most; 1 pads everything to the longest.
        seed: Order of the examples; None draws one, kept in `seed`.
        shuffle: False keeps the order of `examples` inside a bucket, short buckets first.
        max_length: Keep only the first steps of longer sequences; None keeps all.
        class_weights: Weight of each class, `[classes]`, or None.
        augment: Changes the features of every batch, before they are padded with zeros again; or None.

    Attributes:
        channels: Values per step, or None of text.
        epoch: The epoch whose order is served, 0 at first; set it when an epoch begins.
        seed: The seed in use.
        boundaries: The padded lengths.
        padding_share: Padded steps, as a share of all steps served.
        cropped_share: Steps cut off by `max_length`, as a share of all steps of the examples.

    Raises:
        InvalidPipeline: An argument below 1, or text that is to be augmented.

    Example:
    >>> examples = Examples([np.ones((steps, 2), "float32") for steps in (1, 4, 2)], np.array([7, 8, 9]))
    >>> inputs, labels = Batches(examples, batch_size=4, buckets=1, shuffle=False)[0]
    >>> inputs["features"].shape, inputs["lengths"].tolist(), labels.tolist()
    ((3, 4, 2), [1, 4, 2], [7, 8, 9])
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        buckets: int = 4,
        seed: int | None = None,
        shuffle: bool = True,
        max_length: int | None = None,
        class_weights: NDArray[np.float32] | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or (max_length is not None and max_length < 1):
            raise InvalidPipeline(
                f"received batch_size {batch_size} and max_length {max_length}, expected 1 or more of each"
            )
        if augment is not None and examples.vocabulary is not None:
            raise InvalidPipeline("text cannot be augmented: augmentations change values, and tokens are none")
        full = examples.lengths
        self._lengths = full if max_length is None else np.minimum(full, max_length)
        self._batch_size, self._shuffle = batch_size, shuffle
        self._sequences = Slices.of(examples.sequences)
        self._labels = Slices.of(examples.targets) if examples.kind is STEP_LABELS else None
        self._targets = None if self._labels is not None else examples.targets
        if examples.kind is LABELS:
            self._targets = examples.labels.astype(np.int32)
        self._weights, self._augment = class_weights, augment
        self.channels = None if examples.vocabulary is not None else examples.channels
        self.boundaries = bucket_boundaries(self._lengths, buckets)
        self._bucket = np.searchsorted(self.boundaries, self._lengths)
        self.seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        self.cropped_share = 1.0 - float(self._lengths.sum() / full.sum())
        self.padding_share = 1.0 - float(self._lengths.sum() / np.asarray(self.boundaries)[self._bucket].sum())
        self._plans: dict[int, list[NDArray[np.int64]]] = {}
        self.epoch = 0

    def shapes(self) -> tuple[Any, ...]:
        """Shape and dtype of everything in an item; None where it differs from batch to batch."""
        if self._labels is not None:
            targets: tuple[Any, ...] = (((None, None), "int32"), ((None, None), "float32"))
        else:
            targets = () if self._targets is None else (((None, *self._targets.shape[1:]), str(self._targets.dtype)),)
            targets += () if self._weights is None else (((None,), "float32"),)
        tail = () if self.channels is None else (self.channels,)
        features = (None, None, *tail), "int32" if self.channels is None else "float32"
        return ({"features": features, "lengths": ((None,), "int32")}, *targets)

    def __len__(self) -> int:
        return len(self.plan(0))

    def __getitem__(self, index: int) -> Batch:
        return self.batch(self.epoch, index)

    def batch(self, epoch: int, index: int) -> Batch:
        """Item `index` of an epoch; may be called from any thread."""
        members = self.plan(epoch)[index]
        lengths = self._lengths[members]
        time = np.arange(self.boundaries[self._bucket[members[0]]])
        valid = time < lengths[:, None]
        features = _gathered(self._sequences, members, time, valid)
        if self._augment is not None:
            generator = np.random.default_rng([self.seed, epoch, index])
            features = self._augment(features, lengths, generator)
            features[~valid] = 0
        inputs = {"features": features, "lengths": lengths.astype(np.int32)}
        if self._labels is not None:
            labels = _gathered(self._labels, members, time, valid)
            weights = (valid & (labels >= 0)).astype(np.float32)
            labels = np.maximum(labels, 0).astype(np.int32)
            return inputs, labels, weights if self._weights is None else weights * self._weights[labels]
        targets = None if self._targets is None else self._targets[members]
        return (inputs, targets) if self._weights is None else (inputs, targets, self._weights[targets])

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """The members of every batch of an epoch. Every epoch has as many batches."""
        plan = self._plans.get(epoch)
        if plan is None:
            plan = self._planned(epoch)
            # Replaced, not changed: what is fetched ahead belongs to the next epoch already, in another thread.
            self._plans = {number: kept for number, kept in self._plans.items() if abs(number - epoch) < 2} | {
                epoch: plan
            }
        return plan

    def _planned(self, epoch: int) -> list[NDArray[np.int64]]:
        generator = np.random.default_rng([self.seed, epoch])
        count = len(self._lengths)
        order = generator.permutation(count) if self._shuffle else np.arange(count)
        batches = []
        for bucket in range(len(self.boundaries)):
            members = order[self._bucket[order] == bucket]
            parts = math.ceil(len(members) / self._batch_size)
            batches += np.split(members, np.arange(1, parts) * self._batch_size)
        if self._shuffle:
            batches = [batches[position] for position in generator.permutation(len(batches))]
        return batches


def _gathered(
    slices: Slices, members: NDArray[np.int64], time: NDArray[np.int64], valid: NDArray[np.bool_]
) -> NDArray[Any]:
    """The members' steps at `time`, zeros where they are not valid."""
    rows = np.where(valid, slices.starts[members][:, None] + time, 0)
    values: NDArray[Any] = slices.values.take(rows, axis=0)  # four times as fast as `values[rows]`
    values[~valid] = 0
    return values
