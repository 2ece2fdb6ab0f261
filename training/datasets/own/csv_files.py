"""Own data in tables: one long table, or a folder with a table a sequence.

The first line names the columns. What each is, `roles` decides, by what a person says, by its name and by its form:

    id                     which sequence a row belongs to (one long table only)
    time, timestamp, date  where in its sequence a row stands: a number or a date
    label, target, class   what is to be predicted
    group, subject         sequences of one group are never parted by a split
    split                  train or test (one long table only)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Task
from training.datasets.own.answers import Answers
from training.datasets.own.clocks import Spacing, as_duration, spacing
from training.datasets.own.doubt import Doubt, answer, lost_in_float32
from training.datasets.own.found import Found, InvalidData, Problems, in_order, joined
from training.datasets.own.roles import NAMES, Roles, is_text, roles_of
from training.datasets.own.tables import BINARY_SUFFIXES, TEXT_SUFFIXES, Table, behind_one_another, read_table, suffix
from training.datasets.own.wide import doubt_of_width, pair_of, read_pair_of_rows, read_rows

_TABLE_OF_LABELS = "labels.csv"
_FILE = "file"
_MISSING_LABELS = ("", "nan", "?")
_UNEVEN = 0.01


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
    found = _sequences(table, roles, task)
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
    return _sequences(together, roles_of(together, answers, task), task)


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


# === From rows to sequences ===


def _sequences(table: Table, roles: Roles, task: Task | None) -> Found:
    """Sort the rows into sequences."""
    names, owners = _owners(table, roles)
    keys = (table.lines, owners) if roles.times is None else (table.lines, roles.times, owners)
    order = np.lexsort(keys)
    owners = owners[order]
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    rows = _Sorted(table, roles, names, order, starts)
    if roles.times is not None:
        rows.refuse_equal_times(owners)
    values, channels = _channels(table, roles)
    groups = rows.constant("group") if "group" in roles.columns else None
    labels, texts, by_step = rows.labels(task) if "label" in roles.columns else (None, (), ())
    numbers, outputs = None, roles.columns.get("label", ("target",))
    targets = roles.columns.get("target", ())
    if targets and task != "forecasting":
        numbers, outputs = rows.numbers(targets), targets
        labels, texts = None, ()
    return Found(
        sequences=np.split(values[order], starts[1:]),
        channels=channels,
        labels=labels,
        texts=texts,
        numbers=numbers,
        outputs=outputs,
        groups=None if groups is None else groups.tolist(),
        in_test=rows.in_test(),
        split_rule=f"the data's own: the column {roles.columns.get('split', ('',))[0]}",
        notes=by_step,
        doubts=(
            *roles.doubts,
            *_lost(table, roles),
            *_moved(roles, owners, order),
            *_uneven(roles, order, starts),
        ),
        forecast=tuple(name for name in channels if name in targets),
        static=tuple(name for name in channels if name.partition("=")[0] in roles.columns.get("static", ())),
        columns=roles.columns,
        clock=_clock(roles, order, starts),
        dates=roles.dates,
    )


def _owners(table: Table, roles: Roles) -> tuple[list[str], NDArray[np.int64]]:
    """The names of all sequences in their order, and the one that each row belongs to."""
    import pandas as pd

    if "id" not in roles.columns:
        return [path.name for path in table.paths], table.files
    parts = [table.columns[name].as_texts() for name in roles.columns["id"]]
    cells = parts[0] if len(parts) == 1 else np.array([", ".join(each) for each in zip(*parts, strict=True)], object)
    codes, distinct = pd.factorize(cells)
    names = [str(name) for name in distinct]
    if "" in names:
        column = " or ".join(roles.columns["id"])
        table.problems(
            np.flatnonzero(codes == names.index("")).tolist(),
            lambda row: f"'' in column {column!r}, expected something",
        )
    # The order of rows in the file is to change nothing.
    ranked = in_order(names)
    rank = np.empty(len(names), np.int64)
    rank[ranked] = np.arange(len(names))
    return [names[position] for position in ranked], rank[codes]


def _channels(table: Table, roles: Roles) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The values of all channels, `[rows, channels]`; of static text, a channel of 0 and 1 for every text."""
    named = [
        name
        for name in table.names
        if any(name in roles.columns.get(role, ()) for role in ("channels", "static"))
        or ("target" in roles.columns and name in roles.columns["target"] and roles.forecasts)
    ]
    columns: list[NDArray[np.float32]] = []
    channels: list[str] = []
    for name in named:
        column = table.columns[name]
        if column.numbers is None and name in roles.columns.get("static", ()):
            texts = column.as_texts()
            kinds = sorted(set(texts.tolist()))
            columns += [(texts == kind).astype(np.float32) for kind in kinds]
            channels += [f"{name}={kind}" for kind in kinds]
            continue
        table.refuse_no_numbers(name)
        columns.append(np.asarray(column.numbers, np.float32))
        channels.append(name)
    if not columns:
        raise InvalidData(
            f"{table.path} has the columns {', '.join(table.names)}, expected at least one channel beside them; a "
            f"column that was taken for something else is a channel with {answer('channels', 'COLUMN')}, and one named "
            "target is forecast with --task forecasting --horizon STEPS"
        )
    return np.stack(columns, axis=1), tuple(channels)


def _lost(table: Table, roles: Roles) -> list[Doubt]:
    """Channels whose changes float32 cannot hold."""
    columns = {name: table.columns[name].numbers for name in roles.columns.get("channels", ())}
    doubts = [lost_in_float32(name, numbers) for name, numbers in columns.items() if numbers is not None]
    return [doubt for doubt in doubts if doubt is not None]


def _moved(roles: Roles, owners: NDArray[np.int64], order: NDArray[np.int64]) -> list[Doubt]:
    """Rows that sorting put before one that stood before them."""
    if roles.times is None or len(owners) == len(np.unique(owners)):
        return []
    back = (np.diff(order) < 0) & (np.diff(owners) == 0)
    if not back.any() or roles.is_backward(order):
        return []
    column = " and ".join(map(repr, roles.columns["time"]))
    return [
        Doubt(
            f"the rows of a sequence are not in the order of {column}: {int(back.sum())} of {len(order)} stand "
            "before an earlier one",
            f"the order of {column}",
            answer("time", "COLUMN"),
        )
    ]


def _clock(roles: Roles, order: NDArray[np.int64], starts: NDArray[np.int64]) -> Spacing | None:
    if roles.times is None or roles.form == "in that order":
        return None
    return spacing(roles.times[order], starts, roles.dates)


def _uneven(roles: Roles, order: NDArray[np.int64], starts: NDArray[np.int64]) -> list[Doubt]:
    """Time that does not pass evenly from step to step."""
    clock = _clock(roles, order, starts)
    if clock is None or clock.uneven <= _UNEVEN:
        return []
    usual, longest = as_duration(clock.usual, roles.dates), as_duration(clock.longest, roles.dates)
    return [
        Doubt(
            f"{clock.uneven:.0%} of the steps are not {usual} after the one before; the longest gap is {longest}",
            "steps count as evenly spaced",
            "resample the data, or add the distance in time as a channel",
        )
    ]


@dataclass(frozen=True)
class _Sorted:
    """Rows in the order `order`, in which those of a sequence stand together and begin at `starts`."""

    table: Table
    roles: Roles
    names: Sequence[str]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    def refuse_equal_times(self, owners: NDArray[np.int64]) -> None:
        times = self.roles.times
        if times is None:
            return
        equal = np.flatnonzero((np.diff(owners) == 0) & (np.diff(times[self.order]) == 0))
        column = " and ".join(self.roles.columns["time"])
        hint = f" (if rows of several sequences stand here, name what tells them apart: {answer('id', 'COLUMN')})"
        if "id" in self.roles.columns or len(self.table.paths) > 1:
            hint = ""
        self._refuse(equal + 1, lambda row: f"the same {column} as in line {self._line(row - 1)}{hint}")

    def constant(self, role: str) -> NDArray[Any]:
        """The text of every sequence in a column that may not change within one."""
        name = self.roles.columns[role][0]
        cells = self.table.columns[name].as_texts()[self.order]
        expected = "train or test" if role == "split" else "something"
        unfit = (
            np.isin(np.char.lower(cells.astype(str)), ("train", "test"), invert=True)
            if role == "split"
            else cells == ""
        )
        self._refuse(np.flatnonzero(unfit), lambda row: f"{cells[row]!r} in column {name!r}, expected {expected}")
        first = cells[self.starts]
        self._refuse(
            np.flatnonzero(cells != np.repeat(first, self._lengths())),
            lambda row: f"the {name} changes within a sequence",
        )
        return first

    def in_test(self) -> NDArray[np.bool_] | None:
        if "split" not in self.roles.columns:
            return None
        in_test = np.array([text.lower() == "test" for text in self.constant("split")])
        if in_test.all() or not in_test.any():
            name = self.roles.columns["split"][0]
            raise InvalidData(f"{self.table.path}: every row has the same {name}, expected train and test")
        return in_test

    def numbers(self, names: Sequence[str]) -> NDArray[np.float32]:
        """What is to be predicted of every sequence, `[n, outputs]`."""
        for name in names:
            self.table.refuse_no_numbers(name)
        values = np.stack([np.asarray(self.table.columns[name].numbers) for name in names], axis=1)[self.order]
        first = values[self.starts]
        changed = (values != np.repeat(first, self._lengths(), axis=0)).any(axis=1)
        self._refuse(
            np.flatnonzero(changed),
            lambda row: (
                f"the {', '.join(names)} changes within a sequence, where a number a sequence is to be predicted "
                "(to forecast it, give --task forecasting --horizon STEPS)"
            ),
        )
        return first.astype(np.float32)

    def labels(self, task: Task | None) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
        """Labels by sequence, or by step where they change within one; their texts; and what to say of that."""
        import pandas as pd

        name = self.roles.columns["label"][0]
        codes, distinct = pd.factorize(self.table.columns[name].as_texts())
        texts = tuple(str(text) for text in distinct)
        codes = np.asarray(codes, np.int64)[self.order]
        empty = [code for code, text in enumerate(texts) if text.lower() in _MISSING_LABELS]
        codes = np.where(np.isin(codes, empty), -1, codes)
        if task == "forecasting":  # labels are not used
            return codes[self.starts], texts, ()
        parts = np.split(codes, self.starts[1:])
        known = codes >= 0
        lowest = np.minimum.reduceat(np.where(known, codes, len(texts)), self.starts)
        highest = np.maximum.reduceat(codes, self.starts)
        changing = np.flatnonzero((highest > lowest) & (highest >= 0) & (lowest < len(texts)))
        if len(changing) or task == "labelling":
            notes: tuple[str, ...] = ()
            if len(changing) and task != "labelling":
                notes = (
                    f"the {name} changes within {len(changing)} of {len(parts)} sequences (the "
                    f"first is {self.names[changing[0]]!r}), so a label is predicted at every step",
                )
            return parts, texts, notes
        self._refuse(np.flatnonzero(codes < 0), lambda row: f"no {name}")
        return codes[self.starts], texts, ()

    def _lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts, append=len(self.order))

    def _line(self, row: int) -> int:
        return int(self.table.lines[self.order[row]])

    def _refuse(self, rows: NDArray[np.int64], what: Callable[[int], str]) -> None:
        """Refuse the rows at these positions of the order, by file and line."""
        position = {int(self.order[row]): int(row) for row in rows.tolist()}
        self.table.problems(position, lambda row: what(position[row]))
