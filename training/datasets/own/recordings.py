"""Which sequences were cut from one recording: seen by the steps that they share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Steps in a row that two sequences must share, all of them different, before that can be no chance.
SHARED_STEPS = 5


def recordings(sequences: Sequence[NDArray[np.float32]]) -> NDArray[np.int64] | None:
    """The recording that each sequence was cut from, or None where no two share steps.

    Two sequences are from one recording where one begins with steps that the other holds: windows that overlap, or
    copies. A step is compared with all its channels, and exactly.

    Args:
        sequences: `[steps, channels]` each.

    Returns:
        A number for each recording, `[n]`, in the order in which they first appear.

    Example:
    >>> long = np.random.RandomState(0).rand(30, 1)
    >>> recordings([long[:20], long[10:], np.random.RandomState(1).rand(20, 1)]).tolist()
    [0, 0, 1]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    lengths = np.array([len(sequence) for sequence in sequences])
    starts = np.cumsum(lengths) - lengths
    begins = np.flatnonzero(lengths >= SHARED_STEPS)
    if len(begins) < 2:
        return None
    steps = _hashes(np.concatenate(list(sequences)))
    firsts = steps[starts[begins][:, None] + np.arange(SHARED_STEPS)]
    begins = begins[(np.diff(np.sort(firsts, axis=1), axis=1) != 0).all(axis=1)]
    if len(begins) < 2:
        return None
    runs = np.zeros(len(steps) - SHARED_STEPS + 1, np.uint64)
    for offset in range(SHARED_STEPS):
        runs = runs * np.uint64(0x9E3779B97F4A7C15) + steps[offset : offset + len(runs)]
    keys, owners = np.unique(runs[starts[begins]], return_index=True)
    at = np.searchsorted(keys, runs)
    hits = np.flatnonzero(keys[np.minimum(at, len(keys) - 1)] == runs)
    holders = np.repeat(np.arange(len(sequences)), lengths)
    # A run that reaches over the end of a sequence belongs to none.
    hits = hits[holders[hits] == holders[hits + SHARED_STEPS - 1]]
    ours, others = holders[hits], begins[owners[at[hits]]]
    if (ours == others).all():
        return None
    links = coo_matrix((np.ones(len(hits), bool), (ours, others)), shape=(len(sequences), len(sequences)))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _hashes(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """A number for each row, the same for equal rows."""
    bits = (np.ascontiguousarray(values, np.float32) + np.float32(0)).view(np.uint32)
    generator = np.random.RandomState(0)
    hashed = np.zeros(len(bits), np.uint64)
    for channel in range(bits.shape[1]):
        factor = int(generator.randint(1, 2**31)) * 2 + 1
        hashed += (bits[:, channel].astype(np.uint64) + np.uint64(1)) * np.uint64(factor)
    return hashed ^ (hashed >> np.uint64(29))
