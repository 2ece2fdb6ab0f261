"""Own data in CSV files: one long file, or a folder with a file a sequence.

The first line names the columns; commas, semicolons or tabs part them. Some names mean something, in capitals or not;
every other column is a channel:

    id                     which sequence a row belongs to (one long file only)
    time, timestamp, date  where in its sequence a row stands: a number, or a date such as 2024-05-01T12:00:00
    label, target, class   what is to be predicted
    group, subject         sequences of one group are never parted by a split
    split                  train or test (one long file only)
"""

import csv
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.own.parsed import Found, InvalidData, Problems, in_order, joined, number

_ROLES = {
    "id": ("id",),
    "time": ("time", "timestamp", "date"),
    "label": ("label", "target", "class"),
    "group": ("group", "subject"),
    "split": ("split",),
}
_TABLE_OF_LABELS = "labels.csv"
_FILE = "file"
_DELIMITERS = ",;\t"
_EMPTY = {"", "na", "n/a", "nan", "none", "null", "?"}


def read_long(path: Path, labels_by_step: bool) -> Found:
    """Read one long CSV file, in which the column `id` says which sequence a row belongs to.

    Rows may come in any order: those of a sequence are sorted by time. A file without `id` is one sequence.

    Args:
        path: The file.
        labels_by_step: Take labels by step even where none changes within a sequence.

    Raises:
        InvalidData: Anything in the file that cannot be used: every bad line is counted, the first are named.
    """
    rows = _read(path)
    if "id" in rows.columns and rows.times is None:
        raise InvalidData(f"{path} has a column id but none named {' or '.join(_ROLES['time'])}: rows need an order")
    return _sequences(rows, labels_by_step)


def read_folder(folder: Path, labels_by_step: bool) -> Found:
    """Read a folder of CSV files, one sequence each.

    What is to be predicted is said by the names of sub-folders, by a table `labels.csv` with the columns file, label
    and, if wanted, group, or by a label column in the files. Folders `train` and `test` around that give the split.

    Args:
        folder: The folder.
        labels_by_step: Take labels by step even where none changes within a file.

    Raises:
        InvalidData: Anything in the folder that cannot be used; the message names the file, and the lines in it.
    """
    inside = {path.name for path in _visible(folder)}
    if inside >= {"train", "test"} and (folder / "train").is_dir() and (folder / "test").is_dir():
        if others := sorted(inside - {"train", "test"}):
            raise InvalidData(
                f"{folder} holds {', '.join(others[:3])} beside the folders train and test: move everything into them"
            )
        return joined(
            _read_part(folder / "train", labels_by_step),
            _read_part(folder / "test", labels_by_step),
            "the data's own: the folders train and test",
        )
    return _read_part(folder, labels_by_step)


def _read_part(folder: Path, labels_by_step: bool) -> Found:
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
    found = _joined_files(files, said if labels is not None else set(), labels_by_step)
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
        kinds[0 if path.is_dir() else 1 if path.suffix.lower() == ".csv" else 2].append(path)
    return kinds


def _visible(folder: Path) -> list[Path]:
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    names = [path.name for path in paths]
    return [paths[position] for position in in_order(names)]


def _joined_files(files: Sequence[Path], said: set[str], labels_by_step: bool) -> Found:
    """The files as sequences, with the columns of the first; roles in `said` are given outside of the files."""
    every: list[_Rows] = []
    for path in files:
        rows = _read(path)
        for role in sorted({"id", "split"} | said):
            if role in rows.columns:
                raise InvalidData(
                    f"{path} has a column {rows.columns[role]!r}, but it is one of the files of a folder, a sequence "
                    f"each, and the folder says the {role}: leave the column out"
                )
        expected = every[0] if every else rows
        if set(rows.channels) != set(expected.channels) or set(rows.columns) != set(expected.columns):
            raise InvalidData(
                f"{path} has the columns {rows.header}, expected those of {expected.path}: {expected.header}"
            )
        reordered = [rows.channels.index(channel) for channel in expected.channels]
        every.append(replace(rows, channels=expected.channels, values=rows.values[:, reordered]))
    return _sequences(_Rows.behind_one_another(every), labels_by_step)


def _read_table_of_labels(table: Path, files: Sequence[Path]) -> tuple[list[Path], list[str], list[str] | None]:
    """The files in their order, with the label and the group of each."""
    problems = Problems(table)
    known = {path.name: path for path in files}
    found: dict[str, tuple[str, str]] = {}
    with _opened(table) as (header, lines):
        columns = _columns(table, header)
        names = [name.lower() for name in header]
        if _FILE not in names or "label" not in columns:
            raise InvalidData(f"{table} has the columns {', '.join(header)}, expected file, label and perhaps group")
        if len(header) != 2 + ("group" in columns):
            raise InvalidData(f"{table} has the columns {', '.join(header)}, expected no more than file, label, group")
        label, group = names.index(columns["label"].lower()), columns.get("group", "").lower()
        for line, cells in lines:
            if len(cells) != len(header):
                problems.add(line, f"{len(cells)} cells, expected {len(header)}")
                continue
            name = cells[names.index(_FILE)]
            if name not in known:
                problems.add(line, f"there is no file {name!r} beside the table")
            elif name in found:
                problems.add(line, f"the file {name!r} was labelled before")
            elif "" in cells:
                problems.add(line, "an empty cell")
            else:
                found[name] = (cells[label], cells[names.index(group)] if group else "")
    problems.refuse_any()
    if missing := [name for name in known if name not in found]:
        raise InvalidData(f"{table} says nothing of {len(missing)} files beside it, the first is {missing[0]}")
    groups = [found[name][1] for name in known] if group else None
    return list(files), [found[name][0] for name in known], groups


# === One file ===


@dataclass(frozen=True)
class _Rows:
    """The rows of a file, or of many, as they stand there; what is text is an index into the texts of its role."""

    path: Path
    header: str
    columns: dict[str, str]
    channels: tuple[str, ...]
    values: NDArray[np.float32]
    lines: NDArray[np.int64]
    files: NDArray[np.int64]
    times: NDArray[np.float64] | None
    codes: dict[str, NDArray[np.int64]]
    texts: dict[str, list[str]]
    paths: tuple[Path, ...]

    @classmethod
    def behind_one_another(cls, parts: "Sequence[_Rows]") -> "_Rows":
        """The rows of all parts; every part is a sequence."""
        codes: dict[str, NDArray[np.int64]] = {}
        texts: dict[str, list[str]] = {}
        for role in parts[0].codes:
            texts[role] = list(dict.fromkeys(text for part in parts for text in part.texts[role]))
            position = {text: index for index, text in enumerate(texts[role])}
            recoded = [np.array([position[text] for text in part.texts[role]], np.int64) for part in parts]
            codes[role] = np.concatenate([new[part.codes[role]] for new, part in zip(recoded, parts, strict=True)])
        times = [part.times for part in parts if part.times is not None]
        return replace(
            parts[0],
            values=np.concatenate([part.values for part in parts]),
            lines=np.concatenate([part.lines for part in parts]),
            files=np.repeat(np.arange(len(parts)), [len(part.lines) for part in parts]),
            times=np.concatenate(times) if times else None,
            codes=codes,
            texts=texts,
            paths=tuple(part.path for part in parts),
        )


@contextmanager
def _opened(path: Path) -> "Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]":
    """The header of a CSV file, and its other lines, numbered from 1, with cells stripped."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = max(_DELIMITERS, key=file.readline().count)
            file.seek(0)
            lines = _numbered(path, csv.reader(file, delimiter=delimiter, strict=True))
            _, header = next(lines, (0, []))
            if not header:
                raise InvalidData(f"{path} is empty, expected a first line that names the columns")
            yield header, lines
    except UnicodeDecodeError as error:
        raise InvalidData(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise InvalidData(f"{path} is no CSV ({error}): see to its quotation marks") from error


def _numbered(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    blank = None
    for cells in reader:
        if not cells:
            blank = blank or reader.line_num
            continue
        if blank is not None:  # blank lines at the end hold nothing; elsewhere, a value may be missing
            raise InvalidData(f"{path}, line {blank}: empty, with more lines behind it: fill it or take it out")
        yield reader.line_num, [cell.strip() for cell in cells]


def _columns(path: Path, header: list[str]) -> dict[str, str]:
    """The name of the column that has each role."""
    if all(number(name) is not None for name in header):
        raise InvalidData(f"{path}, line 1: {','.join(header[:4])} are numbers, expected the names of the columns")
    if "" in header:
        raise InvalidData(
            f"{path}, line 1: column {header.index('') + 1} has no name: name it, or leave the column out "
            "(pandas writes such a column unless told index=False)"
        )
    lower = [name.lower() for name in header]
    if twice := next((name for name in header if lower.count(name.lower()) > 1), None):
        raise InvalidData(f"{path}, line 1: the column {twice!r} is there twice: rename one")
    columns = {}
    for role, names in _ROLES.items():
        named = [name for name in header if name.lower() in names]
        if len(named) > 1:
            raise InvalidData(f"{path}, line 1: both {named[0]!r} and {named[1]!r} name the {role}: rename one")
        if named:
            columns[role] = named[0]
    return columns


def _read(path: Path) -> _Rows:
    problems = Problems(path)
    with _opened(path) as (header, numbered):
        columns = _columns(path, header)
        channels = [index for index, name in enumerate(header) if name not in columns.values()]
        if not channels:
            raise InvalidData(f"{path} has the columns {', '.join(header)}, expected at least one channel beside them")
        texts: dict[str, dict[str, int]] = {role: {} for role in columns if role != "time"}
        codes = {role: array("q") for role in texts}
        places = {role: header.index(column) for role, column in columns.items()}
        time_at = places.pop("time", None)
        values, times, lines = array("d"), array("d"), array("q")
        clock = _number_or_nan
        for line, cells in numbered:
            if len(cells) != len(header):
                problems.add(line, f"{len(cells)} cells, expected {len(header)}")
                continue
            try:
                values.extend([float(cells[index]) for index in channels])
            except ValueError:
                index = next(index for index in channels if number(cells[index]) is None)
                problems.add(line, _no_number(cells[index], header[index]))
                continue
            lines.append(line)
            for role, place in places.items():
                codes[role].append(texts[role].setdefault(cells[place], len(texts[role])))
            if time_at is not None:
                if len(times) == 0 and number(cells[time_at]) is None:
                    clock = _seconds  # the first row decides for all: numbers and dates have no common order
                times.append(clock(cells[time_at]))
    count = len(lines)
    if not count and not problems.count:
        raise InvalidData(f"{path} has no line behind the first, expected a line a step")
    rows = _Rows(
        path=path,
        header=", ".join(header),
        columns=columns,
        channels=tuple(header[index] for index in channels),
        values=_as_float32(np.array(values, np.float64).reshape(count, len(channels))),
        lines=np.array(lines, np.int64),
        files=np.zeros(count, np.int64),
        times=np.array(times, np.float64) if time_at is not None else None,
        codes={role: np.array(column, np.int64) for role, column in codes.items()},
        texts={role: list(known) for role, known in texts.items()},
        paths=(path,),
    )
    _check_cells(rows, values, problems)
    problems.refuse_any()
    return rows


def _as_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what becomes infinite is refused by line
        return values.astype(np.float32)


def _check_cells(rows: _Rows, values: "array[float]", problems: Problems) -> None:
    """Find what is not seen while reading: values that are not finite numbers, and empty cells of text."""
    for row, channel in np.argwhere(~np.isfinite(rows.values)):
        received = values[row * len(rows.channels) + channel]
        problems.add(int(rows.lines[row]), _no_number(str(received), rows.channels[channel]))
    if rows.times is not None:
        for row in np.flatnonzero(~np.isfinite(rows.times)):
            problems.add(
                int(rows.lines[row]),
                f"the {rows.columns['time']} is not a number (nor, if the first is a date, like 2024-05-01T12:00:00)",
            )
    for role, texts in rows.texts.items():
        unfit = [code for code, text in enumerate(texts) if _is_unfit(role, text)]
        expected = "train or test" if role == "split" else "something"
        for row in np.flatnonzero(np.isin(rows.codes[role], unfit)):
            problems.add(
                int(rows.lines[row]),
                f"{texts[rows.codes[role][row]]!r} in column {rows.columns[role]!r}, expected {expected}",
            )


def _is_unfit(role: str, text: str) -> bool:
    # Whether a label may be missing is known later: a step may have none, a sequence may not.
    return text.lower() not in ("train", "test") if role == "split" else role != "label" and text == ""


def _no_number(cell: str, column: str) -> str:
    if cell.lower() in _EMPTY:
        return f"no value in column {column!r}: fill it, or leave the sequence out"
    return f"{cell!r} in column {column!r} is not a number that float32 can hold"


def _number_or_nan(cell: str) -> float:
    value = number(cell)
    return float("nan") if value is None else value


def _seconds(cell: str) -> float:
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


# === From rows to sequences ===


def _sequences(rows: _Rows, labels_by_step: bool) -> Found:
    """Sort the rows into sequences."""
    names = rows.texts["id"] if "id" in rows.columns else [path.name for path in rows.paths]
    owners = rows.codes["id"] if "id" in rows.columns else rows.files
    if "id" in rows.columns:  # the order of rows in the file is to change nothing
        rank = np.empty(len(names), np.int64)
        rank[in_order(names)] = np.arange(len(names))
        owners, names = rank[owners], [names[position] for position in in_order(names)]
    keys = (rows.lines, owners) if rows.times is None else (rows.lines, rows.times, owners)
    order = np.lexsort(keys)
    owners, lines = owners[order], rows.lines[order]
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    found = _Sorted(rows, names, order, lines, starts)
    if rows.times is not None:
        found.refuse_equal_times(rows.times[order], owners)
    in_test = None
    if "split" in rows.columns:
        tests = [text.lower() == "test" for text in rows.texts["split"]]
        in_test = np.array(tests)[found.constant("split")]
        if in_test.all() or not in_test.any():
            raise InvalidData(f"{rows.path}: every row has the same {rows.columns['split']}, expected train and test")
    groups = [rows.texts["group"][code] for code in found.constant("group")] if "group" in rows.columns else None
    labels, notes = found.labels(labels_by_step) if "label" in rows.columns else (None, ())
    return Found(
        sequences=np.split(rows.values[order], starts[1:]),
        channels=rows.channels,
        labels=labels,
        texts=tuple(rows.texts.get("label", ())),
        outputs=(rows.columns.get("label", "target"),),
        groups=groups,
        in_test=in_test,
        split_rule=f"the data's own: the column {rows.columns.get('split')}",
        notes=notes,
    )


@dataclass(frozen=True)
class _Sorted:
    """Rows in the order `order`, in which those of a sequence stand together and begin at `starts`."""

    rows: _Rows
    names: Sequence[str]
    order: NDArray[np.int64]
    lines: NDArray[np.int64]
    starts: NDArray[np.int64]

    def refuse_equal_times(self, times: NDArray[np.float64], owners: NDArray[np.int64]) -> None:
        equal = np.flatnonzero((np.diff(owners) == 0) & (np.diff(times) == 0))
        self._refuse(equal + 1, lambda row: f"the same {self.rows.columns['time']} as in line {self.lines[row - 1]}")

    def constant(self, role: str) -> NDArray[np.int64]:
        """The code of every sequence in a column that may not change within one."""
        codes = self.rows.codes[role][self.order]
        first = codes[self.starts]
        changed = np.flatnonzero(codes != np.repeat(first, self._lengths()))
        self._refuse(changed, lambda row: f"the {self.rows.columns[role]} changes within a sequence")
        return first

    def labels(self, by_step: bool) -> tuple[NDArray[np.int64] | list[NDArray[np.int64]], tuple[str, ...]]:
        """Labels by sequence, or by step where they change within one, and what to say of that."""
        codes = self.rows.codes["label"][self.order]
        empty = [code for code, text in enumerate(self.rows.texts["label"]) if text.lower() in ("", "nan", "?")]
        codes = np.where(np.isin(codes, empty), -1, codes)
        parts = np.split(codes, self.starts[1:])
        changing = [index for index, part in enumerate(parts) if len(np.unique(part[part >= 0])) > 1]
        if changing or by_step:
            notes: tuple[str, ...] = ()
            if changing and not by_step:
                notes = (
                    f"the {self.rows.columns['label']} changes within {len(changing)} of {len(parts)} sequences (the "
                    f"first is {self.names[changing[0]]!r}), so a label is predicted at every step",
                )
            return parts, notes
        self._refuse(np.flatnonzero(codes < 0), lambda row: f"no {self.rows.columns['label']}")
        return codes[self.starts], ()

    def _lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts, append=len(self.order))

    def _refuse(self, rows: NDArray[np.int64], what: Callable[[int], str]) -> None:
        """Refuse the rows at these positions, by file and line."""
        if not len(rows):
            return
        files = self.rows.files[self.order][rows]
        problems = Problems(self.rows.paths[files[0]])
        for row in rows[files == files[0]]:
            problems.add(int(self.lines[row]), what(int(row)))
        problems.refuse_any()
