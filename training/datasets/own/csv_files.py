"""Own data in tables: one long table, or a folder with a table a sequence.

The first line names the columns. What each is, `roles` decides, by what a person says, by its name and by its form:

    id                     which sequence a row belongs to (one long table only)
    time, timestamp, date  where in its sequence a row stands: a number or a date
    label, target, class   what is to be predicted
    group, subject         sequences of one group are never parted by a split
    split                  train or test (one long table only)
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.datasets.base import Task
from training.datasets.own.answers import Answers
from training.datasets.own.doubt import answer
from training.datasets.own.parsed import Found, InvalidData, Problems, in_order, joined
from training.datasets.own.roles import NAMES, is_text, roles_of
from training.datasets.own.sorting import sequences_of
from training.datasets.own.tables import BINARY_SUFFIXES, TEXT_SUFFIXES, Table, behind_one_another, read_table, suffix
from training.datasets.own.wide import doubt_of_width, pair_of, read_pair_of_rows, read_rows

_TABLE_OF_LABELS = "labels.csv"
_FILE = "file"


def read_long(path: Path, answers: Answers, task: Task | None) -> Found:
    """Read one long table, in which a column says which sequence a row belongs to.

    Rows may come in any order: those of a sequence are sorted by time. A file without ids is one sequence.

    Args:
        path: The file.
        answers: What a person said of its columns.
        task: What is to be predicted, where that is known. When labelling, labels are taken by step even where none
            changes within a sequence.

    Raises:
        InvalidData: Anything in the file that cannot be used: every bad line is counted, the first are named.
        InvalidRequest: A column that a person named is not there.
    """
    if answers.layout == "sequences":
        return read_rows(path, answers)
    if answers.layout is None and task != "forecasting" and (pair := pair_of(path)):
        return read_pair_of_rows(*pair, answers)
    table = read_table(path, is_text(answers))
    width = doubt_of_width(table.names) if answers.layout is None else None
    if width is not None and not width.stops and task != "forecasting":
        found = read_rows(path, answers)
        return replace(found, doubts=(width,))
    roles = roles_of(table, answers, task)
    if "id" in roles.columns and roles.times is None and not (roles.doubts or answers.id):
        raise InvalidData(
            f"{path} has a column {roles.columns['id'][0]} but none named {' or '.join(NAMES['time'][:3])}: rows "
            f"need an order; name the column that says it: {answer('time', 'COLUMN')}"
        )
    found = sequences_of(table, roles, task)
    return found if width is None else replace(found, doubts=(*found.doubts, width))


def read_folder(folder: Path, answers: Answers, task: Task | None) -> Found:
    """Read a folder of CSV files, one sequence each.

    What is to be predicted is said by the names of sub-folders, by a table `labels.csv` with the columns file, label
    and, if wanted, group, or by a label column in the files. Folders `train` and `test` around that give the split.

    Args:
        folder: The folder.
        answers: What a person said of the columns.
        task: What is to be predicted, where that is known.

    Raises:
        InvalidData: Anything in the folder that cannot be used; the message names the file, and the lines in it.
    """
    halves = {path.name.lower(): path for path in _visible(folder) if path.is_dir()}
    if {"train", "test"} <= set(halves):
        if others := sorted(path.name for path in _visible(folder) if path.name.lower() not in ("train", "test")):
            raise InvalidData(
                f"{folder} holds {', '.join(others[:3])} beside the folders train and test: move everything into them"
            )
        return joined(
            _read_part(halves["train"], answers, task),
            _read_part(halves["test"], answers, task),
            "the data's own: the folders train and test",
        )
    return _read_part(folder, answers, task)


def _read_part(folder: Path, answers: Answers, task: Task | None) -> Found:
    folders, files, ignored = _sorted_by_kind(folder)
    if files and folders:
        raise InvalidData(
            f"{folder} holds both CSV files ({files[0].name}) and folders ({folders[0].name}), expected a folder for "
            f"every label, or files and {_TABLE_OF_LABELS}"
        )
    labels: list[str] | None = None
    groups: list[str] | None = None
    if folders:
        files, labels = [], []
        for label in folders:
            deeper, chosen, others = _sorted_by_kind(label)
            if deeper:
                raise InvalidData(f"{deeper[0]} is a folder, expected CSV files only in {label}, which names a label")
            ignored += others
            files += chosen
            labels += [label.name] * len(chosen)
    elif (table := folder / _TABLE_OF_LABELS) in files:
        files, labels, groups = _read_table_of_labels(table, [path for path in files if path != table])
    if not files:
        raise InvalidData(f"{folder} holds no CSV file, expected one a sequence")
    said = {"label"} if groups is None else {"label", "group"}
    found = _joined_files(files, said if labels is not None else set(), answers, task)
    if labels is not None:
        texts = sorted(set(labels))
        codes = {text: code for code, text in enumerate(texts)}
        found = replace(found, labels=np.array([codes[label] for label in labels], np.int64), texts=tuple(texts))
    if ignored:
        names = ", ".join(path.name for path in ignored[:3]) + (", ..." if len(ignored) > 3 else "")
        found = replace(found, notes=(*found.notes, f"{len(ignored)} files of {folder} are no CSV: {names}"))
    return found if groups is None else replace(found, groups=groups)


def _sorted_by_kind(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """The folders, the CSV files and all other files in `folder`."""
    kinds: tuple[list[Path], list[Path], list[Path]] = ([], [], [])
    for path in _visible(folder):
        kinds[0 if path.is_dir() else 1 if suffix(path) in (*TEXT_SUFFIXES[:2], *BINARY_SUFFIXES) else 2].append(path)
    return kinds


def _visible(folder: Path) -> list[Path]:
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    names = [path.name for path in paths]
    return [paths[position] for position in in_order(names)]


def _joined_files(files: Sequence[Path], said: set[str], answers: Answers, task: Task | None) -> Found:
    """The files as sequences, with the columns of the first; roles in `said` are given outside of the files."""
    every: list[Table] = []
    for path in files:
        table = read_table(path, is_text(answers))
        for role in sorted({"id", "split"} | said):
            named = [name for name in table.names if name.lower() in NAMES[role] and name not in answers.said()]
            if named:
                raise InvalidData(
                    f"{path} has a column {named[0]!r}, but it is one of the files of a folder, a sequence "
                    f"each, and the folder says the {role}: leave the column out, or give {answer('ignore', named[0])}"
                )
        first = every[0] if every else table
        if set(table.names) != set(first.names):
            raise InvalidData(
                f"{path} has the columns {', '.join(table.names)}, expected those of {first.path}: "
                f"{', '.join(first.names)}"
            )
        every.append(table)
    together = behind_one_another(every)
    return sequences_of(together, roles_of(together, answers, task), task)


def _read_table_of_labels(table: Path, files: Sequence[Path]) -> tuple[list[Path], list[str], list[str] | None]:
    """The files in their order, with the label and the group of each."""
    cells = read_table(table, lambda name: True)
    spelt = {"label": NAMES["label"], "group": NAMES["group"], _FILE: (_FILE,)}
    columns = {role: name for role, names in spelt.items() for name in cells.names if name.lower() in names}
    if not {_FILE, "label"} <= set(columns) or len(cells.names) != len(columns):
        raise InvalidData(
            f"{table} has the columns {', '.join(cells.names)}, expected file, label and perhaps group, no more"
        )
    problems = Problems(table)
    known = {path.name for path in files}
    texts = {role: cells.columns[name].as_texts().tolist() for role, name in columns.items()}
    found: dict[str, tuple[str, str]] = {}
    for row, line in enumerate(cells.lines.tolist()):
        name, label, group = texts[_FILE][row], texts["label"][row], texts.get("group", texts["label"])[row]
        if name not in known:
            problems.add(line, f"there is no file {name!r} beside the table")
        elif name in found:
            problems.add(line, f"the file {name!r} was labelled before")
        elif "" in (label, group):
            problems.add(line, "an empty cell")
        else:
            found[name] = (label, group)
    problems.refuse_any()
    names = [path.name for path in files]
    if missing := [name for name in names if name not in found]:
        raise InvalidData(f"{table} says nothing of {len(missing)} files beside it, the first is {missing[0]}")
    groups = [found[name][1] for name in names] if "group" in columns else None
    return list(files), [found[name][0] for name in names], groups
