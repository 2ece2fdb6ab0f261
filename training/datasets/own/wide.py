"""Own data in tables of a row a sequence: a label and the values of all steps, as the UCR archive has it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets.own.answers import Answers
from training.datasets.own.doubt import Doubt, answer
from training.datasets.own.parsed import Found, InvalidData, joined
from training.datasets.own.roles import NAMES
from training.datasets.own.tables import Table, read_table, suffix

_PAIR = re.compile(r"(.*)_(TRAIN|TEST)(\..*)", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*?)(\d+)")
_MANY = 16


def pair_of(path: Path) -> tuple[Path, Path] | None:
    """The train and the test file where a path names either of such a pair, else None."""
    match = _PAIR.fullmatch(path.name)
    if match is None or suffix(path) not in (".tsv", ".txt", ".csv"):
        return None
    spelt = [{"TRAIN": "TEST", "TEST": "TRAIN", "train": "test", "test": "train"}.get(match[2], match[2]), match[2]]
    files = {word.upper(): path.with_name(f"{match[1]}_{word}{match[3]}") for word in spelt}
    if not all(file.is_file() for file in files.values()) or len(files) < 2:
        return None
    return files["TRAIN"], files["TEST"]


def read_pair_of_rows(train: Path, test: Path, answers: Answers) -> Found:
    """Read both files of a pair.

    Raises:
        InvalidData: A file is not a row a sequence, or they do not go together.
    """
    found = joined(
        read_rows(train, answers),
        read_rows(test, answers),
        f"the data's own: {train.name} is train, {test.name} is test",
    )
    return replace(found, by_form=True)


def read_rows(path: Path, answers: Answers) -> Found:
    """Read a table of a row a sequence.

    Without a header, the first column is the label. With one, the label is the column that a person or its name says,
    and all others are steps, in their order; an id and a group are not. Empty cells and NaN at the end of a row are
    no steps.

    Args:
        path: The file.
        answers: What a person said of its columns.

    Raises:
        InvalidData: A row has no step, or a hole.
    """
    table = read_table(path, lambda name: _role(name, answers) in ("label", "group", "id", "split"), _headless)
    answers.resolved(table.names, str(path))
    roles = {name: _role(name, answers) for name in table.names}
    steps = [name for name in table.names if roles[name] is None]
    values = np.stack([_numbers(table, name) for name in steps], axis=1) if steps else np.empty((len(table), 0))
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        finite = np.isfinite(values.astype(np.float32))
    lengths = values.shape[1] - np.argmax(finite[:, ::-1], axis=1) if values.shape[1] else np.zeros(len(table), int)
    lengths = np.where(finite.any(axis=1), lengths, 0)
    holes = (~finite & (np.arange(values.shape[1]) < lengths[:, None])).any(axis=1) | (lengths == 0)
    table.problems(
        np.flatnonzero(holes).tolist(), lambda row: "a value that is no number, before the end of the sequence"
    )
    label = next((name for name, role in roles.items() if role == "label"), None)
    group = next((name for name, role in roles.items() if role == "group"), None)
    split = next((name for name, role in roles.items() if role == "split"), None)
    found = Found(
        in_test=None if split is None else _in_test(table, split),
        split_rule=f"the data's own: the column {split}",
        sequences=[np.asarray(row[:length, None], np.float32) for row, length in zip(values, lengths, strict=True)],
        channels=("value",),
        groups=None if group is None else table.columns[group].as_texts().tolist(),
        outputs=(label or "target",),
        columns={"label": (label,)} if label else {"steps": tuple(steps[:1])},
    )
    if label is None:
        return found
    cells = table.columns[label].as_texts()
    texts, codes = np.unique(cells.astype(str), return_inverse=True)
    table.problems(np.flatnonzero(cells == "").tolist(), lambda row: f"no {label}")
    return replace(found, labels=codes.reshape(-1).astype(np.int64), texts=tuple(texts.tolist()))


def _in_test(table: Table, split: str) -> NDArray[np.bool_]:
    cells = table.columns[split].as_texts()
    words = np.array([str(cell).lower() for cell in cells])
    unfit = np.flatnonzero(~np.isin(words, ("train", "test"))).tolist()
    table.problems(unfit, lambda row: f"{cells[row]!r} in column {split!r}, expected train or test")
    if len(set(words.tolist())) < 2:
        raise InvalidData(f"{table.path}: every row has the same {split}, expected train and test")
    return np.asarray(words == "test", bool)


def _headless(count: int) -> list[str]:
    return ["label", *(f"step {index}" for index in range(count - 1))]


def _role(name: str, answers: Answers) -> str | None:
    said = answers.said()
    if name in said:
        return said[name] if said[name] != "channels" else None
    for role in ("label", "group", "id", "split"):
        if name.lower() in NAMES[role] and not (role == "label" and answers.label):
            return role
    return "ignore" if name == "" else None


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    numbers = table.columns[name].numbers
    if numbers is None:
        cells = table.columns[name].as_texts()
        raise InvalidData(
            f"{table.path}, line {table.lines[0]}: {cells[0]!r} in column {name!r} is not a number, expected a step "
            f"of the sequence; say what the column is: {answer('label', name)} or {answer('ignore', name)}"
        )
    return numbers


def doubt_of_width(names: tuple[str, ...]) -> Doubt | None:
    """Whether columns that are numbered through are the steps of a sequence a row, and not channels.

    Example:
    >>> doubt_of_width(("label", *(f"v{index}" for index in range(100)))).otherwise
    '--layout sequences, or --layout steps'
    >>> doubt_of_width(("id", "time", "x", "y"))
    """
    known = {name for role in ("id", "time") for name in NAMES[role]}
    if any(name.lower() in known for name in names):
        return None
    by_stem: dict[str, list[int]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            by_stem.setdefault(match[1], []).append(int(match[2]))
    for stem, numbers in by_stem.items():
        if len(numbers) >= _MANY and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            return Doubt(
                f"{len(numbers)} columns are numbered through, from {stem}{numbers[0]} to {stem}{numbers[-1]}",
                "a row is a step and a column a channel" if stem else "a row is a sequence and a column a step of it",
                f"{answer('layout', 'sequences')}, or {answer('layout', 'steps')}",
                stops=bool(stem),
            )
    return None
