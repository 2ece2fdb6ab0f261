"""From examples to batches: statistics, length buckets, batches.

Everything here is NumPy: the same seed gives the same order on every machine and Keras backend (of one NumPy
release; NumPy reserves the right to change its generators between releases).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Examples, Slices
from training.datasets.targets import LABELS, STEP_LABELS

Batch = tuple[Any, ...]
"""Inputs, targets and, where not every target counts the same, weights."""

Augment = Callable[[NDArray[np.float32], NDArray[np.int64], np.random.Generator], NDArray[np.float32]]
"""From features (batch, time, channels), lengths (batch,) and a generator to other features of the same shape."""

# A standard deviation below this share of a channel's root mean square is rounding, not signal: float32 itself
# resolves 6e-8 of a value, and a few hundred summed roundings stay below 1e-5.
_CONSTANT_CHANNEL = 1e-5

# Lengths tried as bucket boundaries: bounds the search, which grows with the square.
_CANDIDATES = 256


class InvalidPipeline(ValueError):
    """An argument of the pipeline that cannot be met with these examples."""

    exit_code = 2


def channel_statistics(examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of every channel over all steps, for a normalisation layer.

    Sums are kept in float64. A channel that does not vary (standard deviation below 1e-5 of its root mean square)
    gets variance 1: it is centred, not scaled, so that a slightly different value later stays slightly different.

    Args:
        examples: Training examples only; others would leak into the model.

    Returns:
        Two float32 arrays `[channels]`; the variance is the population's (divided by the number of steps).

    Raises:
        InvalidPipeline: A mean or variance lies outside float32; the message names the channel.

    Example:
    >>> mean, variance = channel_statistics(Examples([np.array([[1, 5], [3, 5]], "float32")], np.array([0])))
    >>> mean.tolist(), variance.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    steps = int(examples.lengths.sum())
    mean = sum(sequence.sum(axis=0, dtype=np.float64) for sequence in examples.sequences) / steps
    deviations = (np.square(sequence.astype(np.float64) - mean).sum(axis=0) for sequence in examples.sequences)
    variance = sum(deviations) / steps
    constant = variance <= _CONSTANT_CHANNEL**2 * (variance + np.square(mean))
    variance = np.where(constant, 1.0, variance)
    limits = np.finfo(np.float32)
    unfit = np.flatnonzero((variance > limits.max) | (variance < limits.tiny))
    if unfit.size:
        raise InvalidPipeline(
            f"variance of channel {unfit[0]} is {variance[unfit[0]]:.3g}, expected {limits.tiny:.3g} to "
            f"{limits.max:.3g} (float32): measure the channel in another unit"
        )
    return mean.astype(np.float32), variance.astype(np.float32)


def target_statistics(examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of every predicted number over all training targets, two float32 arrays `[outputs]`.

    Variance 1 for one that does not vary, as in `channel_statistics`.
    """
    rows = examples.targets.reshape(-1, examples.targets.shape[-1])
    return channel_statistics(Examples([rows]))


def check_labelled(examples: Examples, split: str, longest: int | None) -> None:
    """Check that some step of labelled sequences has a label: without one there is nothing to learn or to score.

    Args:
        examples: Of any task; those of other tasks have all that they need.
        split: What they are called, for the message.
        longest: Steps that are kept of each sequence; `None` keeps all.

    Raises:
        InvalidPipeline: None has.

    Example:
    >>> check_labelled(Examples([np.zeros((2, 1), "float32")], [np.array([-1, 1])]), "validation", longest=1)
    Traceback (most recent call last):
    training.batches.batches.InvalidPipeline: no step of the 1 sequences for validation has a label within the ...
    """
    if examples.kind is not STEP_LABELS:
        return
    if not any((labels[:longest] >= 0).any() for labels in examples.targets):
        within = "" if longest is None else f" within the first {longest} steps"
        raise InvalidPipeline(
            f"no step of the {len(examples)} sequences for {split} has a label{within}: label steps of more sequences, "
            "or choose another seed or dataset.validation_fraction, by which sequences are set aside for validation"
        )


def class_weights(examples: Examples, classes: int) -> NDArray[np.float32]:
    """The weight of each class by which all classes weigh the same: examples / (classes * examples of the class).

    A class without an example gets weight 0. Labelling counts steps.

    Args:
        examples: Training examples of a classification or labelling.
        classes: Their number.

    Example:
    >>> examples = Examples([np.zeros((1, 1), "float32")] * 4, np.array([0, 0, 0, 1]))
    >>> class_weights(examples, 2).tolist()
    [0.666..., 2.0]
    """
    labels = examples.kind.labels(examples.targets)
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    weights: NDArray[np.float64] = np.divide(counts.sum(), classes * counts, out=np.zeros(classes), where=counts > 0)
    return weights.astype(np.float32)


def bucket_boundaries(lengths: Sequence[int] | NDArray[np.int64], buckets: int) -> tuple[int, ...]:
    """The padded lengths that waste the fewest steps.

    Chosen among at most 256 quantiles of the lengths, by dynamic programming over them; equally full buckets would
    pad half of all steps where a few sequences are much longer than the rest.

    Args:
        lengths: Steps of every sequence.
        buckets: At most that many; fewer where there are fewer different lengths.

    Returns:
        Rising lengths; a sequence belongs to the first that is not below its own. The last is the longest.

    Raises:
        InvalidPipeline: No lengths, or less than one bucket.

    Example:
    >>> bucket_boundaries([3, 4, 5, 9, 10, 30], buckets=3)
    (5, 10, 30)
    """
    if buckets < 1 or not len(lengths):
        raise InvalidPipeline(f"received {buckets} buckets for {len(lengths)} lengths, expected at least 1 of each")
    shares = np.arange(1, _CANDIDATES + 1) / _CANDIDATES
    candidates = np.unique(np.quantile(lengths, shares, method="inverted_cdf")).astype(np.int64)
    # Position 0 stands for no candidate at all: the first bucket begins there.
    up_to = np.concatenate([[0], np.searchsorted(np.sort(lengths), candidates, side="right")])
    tops = np.concatenate([[0], candidates])
    steps = np.where(up_to[:, None] < up_to, (up_to - up_to[:, None]) * tops, np.inf)
    total = np.where(np.arange(len(tops)) == 0, 0.0, np.inf)
    choices = []
    for _ in range(min(buckets, len(candidates))):
        sums = total[:, None] + steps
        choices.append(sums.argmin(axis=0))
        total = sums.min(axis=0)
    boundaries = [len(candidates)]
    for choice in reversed(choices[1:]):
        boundaries.append(int(choice[boundaries[-1]]))
    return tuple(tops[boundaries[::-1]].tolist())


class Batches(keras.utils.PyDataset):
    """Length-bucketed, zero-padded batches; every example exactly once an epoch.

    An item is `({"features": float32 [batch, time, channels], "lengths": int32 [batch]}, targets)`, where `time` is the
    boundary of the bucket; of text the features are int32 `[batch, time]`. Targets are int32 `[batch]` of a
    classification, float32 `[batch, ...]` of numbers to predict, or int32 `[batch, time]` of a labelling, which has
    float32 weights `[batch, time]` as a third part: 0 where there is no label. A classification with `class_weights`
    has weights `[batch]`. The last batch of a bucket may be smaller. The order depends on
    `seed` and `epoch` alone, and changes only when `epoch` is set: Keras's own hooks for that also fire before the
    first epoch and after evaluations. Pass `shuffle=False` to `fit`, or Keras shuffles the batches once more.

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
        """Item `index` of an epoch; may be asked for from any thread."""
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


class Windows(keras.utils.PyDataset):
    """Running text cut for truncated back-propagation through time: each batch goes on where the one before it stopped.

    All documents, one behind the other, make `batch_size` streams of equal length. Item k is
    `({"features": int32 [batch_size, steps], "lengths": int32 [batch_size]}, next tokens int32 [batch_size, steps])`,
    steps k * steps to (k + 1) * steps of every stream; the last item may be shorter. A stateful model that is reset
    when an epoch begins sees each stream whole, and its gradients go back to the beginning of the window.

    Args:
        examples: Text; the tokens are the targets too.
        batch_size: Streams.
        steps: Of a window: how far gradients go back.

    Attributes:
        epoch: Of no consequence: the order is that of the text.
        cropped_share: Tokens at the end that do not fill a step of every stream, as a share of all.
        padding_share: 0.

    Raises:
        InvalidPipeline: The text is not text, or too short for so many streams.

    Example:
    >>> text = Examples([np.arange(2, 13, dtype="int32")], vocabulary=("", "[UNK]", *"abcdefghijk"))
    >>> inputs, following = Windows(text, batch_size=2, steps=3)[0]
    >>> inputs["features"].tolist(), following.tolist()
    ([[2, 3, 4], [7, 8, 9]], [[3, 4, 5], [8, 9, 10]])
    """

    def __init__(self, examples: Examples, batch_size: int, steps: int) -> None:
        super().__init__()
        if examples.vocabulary is None:
            raise InvalidPipeline("a language model is trained on text, and these sequences hold values")
        tokens = np.concatenate(list(examples.sequences))
        width = (len(tokens) - 1) // max(batch_size, 1)
        if batch_size < 1 or steps < 1 or width < 1:
            raise InvalidPipeline(
                f"received batch_size {batch_size} and window {steps} for a text of {len(tokens)} tokens, "
                "expected 1 or more of each and a batch of less than the tokens"
            )
        self._steps, self._batch_size = steps, batch_size
        self._streams = tokens[: width * batch_size].reshape(batch_size, width)
        self._following = tokens[1 : width * batch_size + 1].reshape(batch_size, width)
        self.epoch = 0
        self.cropped_share, self.padding_share = 1.0 - width * batch_size / (len(tokens) - 1), 0.0

    def shapes(self) -> tuple[Any, ...]:
        """As of `Batches`."""
        window = (self._batch_size, None), "int32"
        return {"features": window, "lengths": ((self._batch_size,), "int32")}, window

    def __len__(self) -> int:
        return math.ceil(self._streams.shape[1] / self._steps)

    def __getitem__(self, index: int) -> Batch:
        return self.batch(self.epoch, index)

    def batch(self, epoch: int, index: int) -> Batch:
        """Item `index` of any epoch."""
        window = slice(index * self._steps, (index + 1) * self._steps)
        features = self._streams[:, window]
        lengths = np.full(self._batch_size, features.shape[1], np.int32)
        return {"features": features, "lengths": lengths}, self._following[:, window]


def _gathered(
    slices: Slices, members: NDArray[np.int64], time: NDArray[np.int64], valid: NDArray[np.bool_]
) -> NDArray[Any]:
    """The members' steps at `time`, zeros where they are not valid."""
    rows = np.where(valid, slices.starts[members][:, None] + time, 0)
    values: NDArray[Any] = slices.values.take(rows, axis=0)  # four times as fast as `values[rows]`
    values[~valid] = 0
    return values
