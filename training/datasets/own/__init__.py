"""Data of your own as a dataset: a `.ts` pair, an `.npz` file, a table such as a CSV file, or a folder of tables.

The forms are described in docs/datasets.md and in the module of each; what is to be predicted, and how a split is made,
in `tasks`. Nothing is left out without a word: what cannot be used is counted and refused, by file and line.
"""

from functools import lru_cache
from pathlib import Path
from typing import get_args

import numpy as np

from training.datasets.base import Dataset, Examples, Spec, Split, Task
from training.datasets.own.answers import Answers
from training.datasets.own.arrays import read_arrays
from training.datasets.own.csv_files import read_folder, read_long
from training.datasets.own.doubt import Doubt
from training.datasets.own.infer_task import NOTHING_SAID, Decided, decide
from training.datasets.own.parsed import Found, InvalidData, InvalidRequest
from training.datasets.own.series import read_pair
from training.datasets.own.tables import BINARY_SUFFIXES, TEXT_SUFFIXES, suffix
from training.datasets.own.wide import pair_of
from zoo.suggest import unknown

__all__ = ["Answers", "InvalidData", "InvalidRequest", "OwnData", "Unanswered", "dataset", "is_path", "refuse_doubts"]

_NAMED_CHANNELS = 8
_TABLES = (*TEXT_SUFFIXES, *BINARY_SUFFIXES)
_SUFFIXES = (".ts", ".npz", *_TABLES)
_TASKS = tuple(task for task in get_args(Task) if task != "language_model")


class Unanswered(InvalidRequest):
    """Data of one's own leaves something open that changes what is learned."""


class OwnData(Dataset):
    """Data of your own, read whole.

    Attributes:
        spec: Inferred from the data.
        notes: What to know before training on it, a sentence each.
        doubts: What was assumed, and how to say otherwise.
        columns: Of a table: the columns of each role.
        clock: How far apart steps are, where there are points in time.
        dates: Whether that is in seconds.
        channels: The names of all channels.
    """

    def __init__(self, path: Path, found: Found, decided: Decided) -> None:
        channels = decided.channels
        self.channels, self.columns = channels, found.columns
        self.clock, self.dates = found.clock, found.dates
        self.doubts: tuple[Doubt, ...] = decided.doubts
        notes = (*decided.notes, *map(str, decided.doubts))
        self._examples = {"train": decided.train, "test": decided.test}
        lengths = np.concatenate([part.lengths for part in self._examples.values()])
        named = ", ".join(channels[:_NAMED_CHANNELS]) + (", ..." if len(channels) > _NAMED_CHANNELS else "")
        self.notes = notes
        self.spec = Spec(
            name=f"own:{path.name}",
            features=f"{named}, as in the data",
            channels=len(channels),
            classes=decided.classes,
            lengths=(int(lengths.min()), int(lengths.max())),
            counts={split: len(part) for split, part in self._examples.items()},
            licence="not stated",
            citation="not stated",
            homepage=str(path),
            split_rule=decided.split_rule,
            task=decided.task,
            outputs=decided.outputs,
            horizon=decided.horizon,
        )

    def _read(self, split: Split) -> Examples:
        return self._examples[split]


def dataset(
    path: str | Path,
    task: Task | None = None,
    horizon: int | None = None,
    window: int | None = None,
    answers: Answers = NOTHING_SAID,
) -> OwnData:
    """Read data of your own; asked again for files that have not changed, gives the same object.

    Args:
        path: `NAME_TRAIN.ts` (beside `NAME_TEST.ts`) or their folder, an `.npz` file, a table (`.csv`, `.tsv`,
            `.txt`, `.parquet`, `.feather`; text also as `.gz` or `.zip`), or a folder of tables.
        task: What to predict; inferred where None. Labels that change within a sequence mean labelling, labels that
            are all numbers, not all of them whole, mean regression, all others classification.
        horizon: Forecasting: how many steps ahead.
        window: Forecasting: from how many steps before; four horizons where None.
        answers: Which column is what, where a person says so.

    Raises:
        InvalidRequest: There is nothing at `path`, or the data does not go with the arguments.
        InvalidData: The data cannot be used as it is; the message says where it is wrong.
        MalformedTs: A `.ts` file is not what the format says.

    Example:
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "waves.npz"
    >>> np.savez(path, x=np.random.rand(10, 7, 2), y=["calm", "rough"] * 5)
    >>> waves = dataset(path)
    >>> waves.spec.task, waves.spec.classes, waves.spec.counts
    ('classification', ('calm', 'rough'), {'train': 8, 'test': 2})
    """
    if task is not None and task not in _TASKS:
        raise InvalidRequest(f"{unknown('task', task, _TASKS)} (of data of your own)")
    found = Path(path).expanduser()
    if not found.exists():
        raise InvalidRequest(f"there is no file or folder {found}")
    return _dataset(found.resolve(), _state(found), task, horizon, window, answers)


def refuse_doubts(data: Dataset) -> None:
    """Refuse data of one's own that leaves open what changes what is learned.

    Raises:
        Unanswered: It does; the message names the options that answer each doubt.
    """
    stops = [doubt for doubt in getattr(data, "doubts", ()) if doubt.stops]
    if stops:
        listed = "".join(
            f"\n- {doubt.seen}\n  assumed: {doubt.assumed}\n  answer with {doubt.otherwise}" for doubt in stops
        )
        raise Unanswered(f"{data.spec.homepage} leaves open what is to be learned; answer first:{listed}")


def is_path(word: str) -> bool:
    """Whether `word` can only be meant as the path of own data, not as the name of a dataset.

    Example:
    >>> is_path("sales.csv"), is_path("mnist_rows")
    (True, False)
    """
    return suffix(Path(word)) in _SUFFIXES or Path(word).expanduser().exists()


@lru_cache(maxsize=1)
def _dataset(
    path: Path,
    state: tuple[object, ...],
    task: Task | None,
    horizon: int | None,
    window: int | None,
    answers: Answers,
) -> OwnData:
    del state  # another state of the files is another dataset
    found = _found(path, answers, task)
    try:
        decided = decide(found, task, horizon, window, answers)
    except (InvalidData, InvalidRequest) as error:
        open_doubts = [f"\n{doubt.seen}: answer with {doubt.otherwise}" for doubt in found.doubts if doubt.stops]
        if not open_doubts:
            raise
        raise type(error)(f"{error}; what the columns are may be misunderstood:{''.join(open_doubts)}") from error
    return OwnData(path, found, decided)


def _found(path: Path, answers: Answers, task: Task | None) -> Found:
    if path.is_dir():
        if any(file.suffix.lower() == ".ts" for file in path.iterdir()):
            return read_pair(path)
        return read_folder(path, answers, task)
    if path.suffix.lower() == ".ts":
        return read_pair(path)
    if path.suffix.lower() == ".npz":
        return read_arrays(path, answers)
    if suffix(path) in _TABLES:
        return read_long(path, answers, task)
    raise InvalidRequest(f"{path} ends with {path.suffix!r}, expected {', '.join(_SUFFIXES)} or a folder")


def _state(path: Path) -> tuple[object, ...]:
    """What changes when the data does: sizes and times of all files."""
    # Of a pair, either file may be named.
    pair = path.parent.glob("*.ts") if path.suffix.lower() == ".ts" else pair_of(path) or [path]
    stats = ((str(file), file.stat()) for file in (path.rglob("*") if path.is_dir() else pair) if file.exists())
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))
