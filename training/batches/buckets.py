"""Lengths that sequences are padded to."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.batches.errors import InvalidPipeline

# Lengths tried as bucket boundaries: bounds the search, which grows with the square.
_CANDIDATES = 256


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
