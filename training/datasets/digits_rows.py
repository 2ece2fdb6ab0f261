"""Handwritten digits read row by row: small, always there, for smoke tests."""

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Dataset, Examples, Spec, Split

TEST_SHARE = 0.2
# Part of the split rule: changing it would change what every earlier figure was measured on.
SPLIT_SEED = 0


class DigitsRows(Dataset):
    """scikit-learn's copy of the UCI digits, an 8x8 image as 8 steps of 8 values, top row first."""

    spec = Spec(
        name="digits_rows",
        summary="handwritten digits, an image row a step; for smoke tests",
        needs="nothing: ships with scikit-learn",
        features="one image row of 8 pixels a step, top to bottom; ink in a 4x4 block, whole numbers 0 to 16",
        channels=8,
        classes=tuple("0123456789"),
        lengths=(8, 8),
        counts={"train": 1438, "test": 359},
        licence="CC BY 4.0",
        citation="E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. "
        "UCI Machine Learning Repository, doi:10.24432/C50P49",
        homepage="https://archive.ics.uci.edu/dataset/80",
        split_rule="of the 1797 images shipped in scikit-learn, per class the first fifth (rounded) of a "
        f"permutation by numpy.random.RandomState({SPLIT_SEED}) is test; fixed for ever",
    )

    def _read(self, split: Split) -> Examples:
        from sklearn.datasets import load_digits

        digits = load_digits()
        in_test = _test_mask(digits.target)
        chosen = np.flatnonzero(in_test if split == "test" else ~in_test)
        images = digits.images.astype(np.float32)
        return Examples([images[index] for index in chosen], digits.target[chosen].astype(np.int64))


def _test_mask(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    # RandomState's stream is frozen by NumPy's policy; default_rng's may change between releases.
    generator = np.random.RandomState(SPLIT_SEED)
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        mask[members[: round(TEST_SHARE * len(members))]] = True
    return mask
