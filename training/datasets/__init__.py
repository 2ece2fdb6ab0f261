"""The datasets of the zoo: one file or folder each, and one line here.

Importing this package reads no data and imports neither TensorFlow nor TensorFlow Datasets.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from training.datasets.base import Dataset, Examples, InvalidExamples, Reference, Spec, Split, Task, UnknownSplit
from training.datasets.crema_d import CremaD
from training.datasets.digits_rows import DigitsRows
from training.datasets.image_sequences import SOURCES, WAYS, ImageSequences
from training.datasets.japanese_vowels import JapaneseVowels
from training.datasets.smartwatch_gestures import SmartwatchGestures
from training.datasets.speech_commands import SpeechCommands
from training.datasets.spoken_digit import SpokenDigit
from training.datasets.store import portable
from training.datasets.synthetic import PROBLEMS
from training.datasets.text_classification import AgNews, GlueSst2, ImdbReviews, Trec
from training.datasets.tiny_shakespeare import TinyShakespeare
from training.datasets.uci_har import UciHar
from training.datasets.uea_ucr import UeaUcr
from zoo.suggest import unknown

if TYPE_CHECKING:
    from training.datasets.own.answers import Answers

DATASETS: dict[str, Dataset] = {
    "digits_rows": DigitsRows(),
    "japanese_vowels": JapaneseVowels(),
    "spoken_digit": SpokenDigit(),
    "speech_commands": SpeechCommands(),
    "crema_d": CremaD(),
    **{f"{source}_{way}": ImageSequences(source, way) for source in SOURCES for way in WAYS},
    "smartwatch_gestures": SmartwatchGestures(),
    "uci_har": UciHar(),
    "imdb_reviews": ImdbReviews(),
    "ag_news_subset": AgNews(),
    "glue_sst2": GlueSst2(),
    "trec": Trec(),
    "tiny_shakespeare": TinyShakespeare(),
    **{problem.family: problem() for problem in PROBLEMS},
}

FAMILIES: dict[str, Callable[[str], Dataset]] = {
    **{problem.family: problem.of_length for problem in PROBLEMS},
    "uea_ucr": UeaUcr,
}
"""Families of datasets, too many to list: `get("FAMILY/VARIANT")` calls `FAMILIES["FAMILY"]("VARIANT")`.

The call reads no data and returns a dataset whose spec has the whole name, `FAMILY/VARIANT`. For an unknown variant it
raises a ValueError with `exit_code` 2, which lists the known ones.
"""


class UnknownDataset(LookupError):
    """A name that is neither a key of `DATASETS` nor a variant of a family in `FAMILIES`."""

    exit_code = 2


def get(name: str) -> Dataset:
    """The dataset of that name, which may be the variant of a family: `FAMILY/VARIANT`.

    Where it is not prepared and was brought here by `zoo datasets carry`, what was brought is what is read.

    Raises:
        UnknownDataset: There is none; the message names the nearest.

    Example:
    >>> get("japanese_vowels").spec.channels
    12
    >>> get("parity/200").spec.lengths
    (200, 200)
    """
    family, slash, variant = name.partition("/")
    if slash and family in FAMILIES:
        return portable.instead_of(FAMILIES[family](variant), name)
    if name not in DATASETS:
        raise UnknownDataset(unknown("dataset", name, [*DATASETS, *(f"{family}/..." for family in FAMILIES)]))
    return portable.instead_of(DATASETS[name], name)


def find(
    name: str,
    path: str | None = None,
    *,
    task: Task | None = None,
    horizon: int | None = None,
    window: int | None = None,
    answers: "Answers | None" = None,
) -> Dataset:
    """The dataset of that name, or, where there is a path, the data of your own that lies there.

    Args:
        name: As for `get`; not used where there is a path.
        path: A file or folder, as `training.datasets.own.dataset` takes it.
        task: With a path only: what to predict, where the data should not decide.
        horizon: With a path only: how many steps to forecast.
        window: With a path only: from how many steps.
        answers: With a path only: which column is what, where a person says so.

    Raises:
        UnknownDataset: No dataset has this name.
        ValueError: The data at the path cannot be used; it has an `exit_code`.

    Example:
    >>> find("japanese_vowels").spec.channels
    12
    """
    if path is None:
        return get(name)
    from training.datasets import own

    return own.dataset(path, task, horizon, window, answers or own.Answers())


__all__ = [
    "DATASETS",
    "FAMILIES",
    "Dataset",
    "Examples",
    "InvalidExamples",
    "Reference",
    "Spec",
    "Split",
    "Task",
    "UnknownDataset",
    "UnknownSplit",
    "find",
    "get",
]
