"""Changes to training sequences that leave their labels true: a dict from name to what makes one.

    dataset.augment = ["jitter(0.05)", "time_mask(0.1)"]

Each gets features `[batch, time, channels]`, lengths `[batch]` and a generator of the seed, epoch and batch, so that a
run can be repeated.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from training.batches.batches import Augment
from training.batches.statistics import channel_statistics
from training.datasets.base import Examples
from zoo.suggest import unknown

Features = NDArray[np.float32]
Lengths = NDArray[np.int64]


def jitter(share: float, mean: Features, deviation: Features) -> Augment:
    """Add normal noise of `share` times each channel's standard deviation, `[channels]`."""

    def augment(features: Features, lengths: Lengths, generator: np.random.Generator) -> Features:
        noise = generator.standard_normal(features.shape, np.float32)
        return features + np.float32(share) * deviation * noise

    return augment


def scale(share: float, mean: Features, deviation: Features) -> Augment:
    """Multiply every channel of every sequence by a factor from a normal of mean 1 and deviation `share`."""

    def augment(features: Features, lengths: Lengths, generator: np.random.Generator) -> Features:
        factors = generator.standard_normal((len(features), 1, features.shape[2]), np.float32)
        return features * (1 + np.float32(share) * factors)

    return augment


def time_mask(share: float, mean: Features, deviation: Features) -> Augment:
    """Set one run of steps of every sequence, up to `share` of it, to the mean (SpecAugment, Park et al. 2019)."""

    def augment(features: Features, lengths: Lengths, generator: np.random.Generator) -> Features:
        widths = np.floor(generator.random(len(lengths)) * (np.floor(share * lengths) + 1)).astype(np.int64)
        starts = np.floor(generator.random(len(lengths)) * (lengths - widths + 1)).astype(np.int64)
        time = np.arange(features.shape[1])
        hidden = (time >= starts[:, None]) & (time < (starts + widths)[:, None])
        return np.where(hidden[:, :, None], mean, features)

    return augment


AUGMENTATIONS: dict[str, Callable[[float, Features, Features], Augment]] = {
    "jitter": jitter,
    "scale": scale,
    "time_mask": time_mask,
}


def get(text: str) -> tuple[Callable[[float, Features, Features], Augment], float]:
    """The augmentation that `text` names, and its number.

    Raises:
        ValueError: It is not understood; the message says what is.

    Example:
    >>> get("jitter(0.05)")[1]
    0.05
    >>> get("jiter(0.05)")
    Traceback (most recent call last):
    ValueError: unknown augmentation 'jiter'; did you mean 'jitter'? ...
    """
    found = re.fullmatch(r"(\w+)\((\d*\.?\d+)\)", text.strip())
    name = found[1] if found else text.partition("(")[0].strip()
    if name not in AUGMENTATIONS:
        raise ValueError(unknown("augmentation", name, AUGMENTATIONS))
    if not found:
        raise ValueError(f"augmentation {text!r} has no share, a number from 0 on; write it as {name}(0.1)")
    return AUGMENTATIONS[name], float(found[2])


def chain(names: Sequence[str], train: Examples) -> Augment:
    """All of `names`, one after the other.

    Args:
        names: As `get` reads them.
        train: The training part, for mean and deviation of each channel.
    """
    mean, variance = channel_statistics(train)
    steps = [make(share, mean, np.sqrt(variance)) for make, share in map(get, names)]

    def augment(features: Features, lengths: Lengths, generator: np.random.Generator) -> Features:
        for step in steps:
            features = step(features, lengths, generator)
        return features

    return augment
