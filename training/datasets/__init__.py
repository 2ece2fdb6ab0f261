"""The datasets of the zoo: one file or folder each, and one line here.

Importing this package reads no data and imports neither TensorFlow nor TensorFlow Datasets.
"""

from training.datasets.base import Dataset, Examples, InvalidExamples, Reference, Spec, Split, UnknownSplit
from training.datasets.digits_rows import DigitsRows
from training.datasets.japanese_vowels import JapaneseVowels
from training.datasets.spoken_digit import SpokenDigit
from zoo.suggest import unknown

DATASETS: dict[str, Dataset] = {
    "digits_rows": DigitsRows(),
    "japanese_vowels": JapaneseVowels(),
    "spoken_digit": SpokenDigit(),
}


class UnknownDataset(LookupError):
    """A name that is no key of `DATASETS`."""

    exit_code = 2


def get(name: str) -> Dataset:
    """The dataset of that name.

    Raises:
        UnknownDataset: There is none; the message names the nearest.

    Example:
    >>> get("japanese_vowels").spec.channels
    12
    """
    if name not in DATASETS:
        raise UnknownDataset(unknown("dataset", name, DATASETS))
    return DATASETS[name]


__all__ = [
    "DATASETS",
    "Dataset",
    "Examples",
    "InvalidExamples",
    "Reference",
    "Spec",
    "Split",
    "UnknownDataset",
    "UnknownSplit",
    "get",
]
