"""What is computed once of all training examples: channel statistics, class weights; and whether there are labels."""

import numpy as np
from numpy.typing import NDArray

from training.batches.errors import InvalidPipeline
from training.datasets.base import Examples
from training.datasets.targets import STEP_LABELS

# A standard deviation below this share of a channel's root mean square is rounding, not signal: float32 itself
# resolves 6e-8 of a value, and a few hundred summed roundings stay below 1e-5.
_CONSTANT_CHANNEL = 1e-5


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
    training.batches.errors.InvalidPipeline: no step of the 1 sequences for validation has a label within the ...
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
