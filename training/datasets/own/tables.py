"""Tables as people keep them: CSV of any delimiter, Parquet and Feather, compressed or not; read by pandas."""

import csv
import gzip
import io
import re
import zipfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import psutil
from numpy.typing import NDArray

from training.datasets.own.parsed import InvalidData, Problems, number

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
BINARY_SUFFIXES = (".parquet", ".feather")
_DELIMITERS = (",", ";", "\t", "|")
_EMPTY = ("", "na", "n/a", "nan", "none", "null", "?", "NA", "N/A", "NaN", "Nan", "NAN", "None", "NONE", "NULL", "Null")
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_HEAD = 1 << 16
# Bytes of memory for each byte of text, measured on a million rows of two channels, an id and a label: the cells that
# stay text cost most.
_MEMORY = 10
_COMPRESSED = 4


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        numbers: float64 `[rows]`, NaN where a cell is empty or no number; None of a column of text.
        texts: The cells as they are written; None where all are numbers and nothing is known to need the text.
    """

    numbers: NDArray[np.float64] | None
    texts: NDArray[Any] | None

    def as_texts(self) -> NDArray[Any]:
        """The cells as text, whole numbers without a point."""
        if self.texts is not None:
            return self.texts
        import pandas as pd

        codes, distinct = pd.factorize(self.numbers)
        written = [str(int(value)) if value == int(value) else repr(float(value)) for value in distinct.tolist()]
        return np.asarray(np.array([*written, ""], object)[codes])


@dataclass(frozen=True)
class Table:
    """The rows of a file, or of many files with the same columns.

    Attributes:
        path: The file, or the first.
        columns: By name, in their order.
        lines: The line that each row stands in, the first is 1.
        files: Index into `paths`, of each row.
        paths: All files.
    """

    path: Path
    columns: dict[str, Column]
    lines: NDArray[np.int64]
    files: NDArray[np.int64]
    paths: tuple[Path, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns."""
        return tuple(self.columns)

    def __len__(self) -> int:
        return len(self.lines)

    def problems(self, rows: Iterable[int], what: Callable[[int], str]) -> None:
        """Refuse rows, by file and line.

        Raises:
            InvalidData: There are any.
        """
        rows = list(rows)
        if rows:
            file = self.files[rows[0]]
            problems = Problems(self.paths[file])
            for row in rows:
                if self.files[row] == file:
                    problems.add(int(self.lines[row]), what(row))
            problems.refuse_any()

    def refuse_no_numbers(self, name: str) -> None:
        """Refuse cells of a channel that are no finite numbers.

        Raises:
            InvalidData: There are any; the message names file, line and column.
        """
        column = self.columns[name]
        numbers = column.numbers if column.numbers is not None else np.full(len(self), np.nan)
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            unfit = np.flatnonzero(~np.isfinite(numbers.astype(np.float32)))
        self.problems(unfit.tolist(), lambda row: _no_number(self._cell(column, row), name))

    def _cell(self, column: Column, row: int) -> str:
        if column.texts is not None:
            return str(column.texts[row])
        value = float(column.numbers[row]) if column.numbers is not None else float("nan")
        return "" if np.isnan(value) else str(value)


def behind_one_another(tables: Sequence[Table]) -> Table:
    """The rows of all tables, which have the columns of the first, in whatever order."""
    first = tables[0]
    columns = {}
    for name in first.names:
        parts = [table.columns[name] for table in tables]
        numeric = all(part.numbers is not None for part in parts)
        texts = any(part.texts is not None for part in parts) or not numeric
        columns[name] = Column(
            np.concatenate([_numbers(part) for part in parts]) if numeric else None,
            np.concatenate([part.as_texts() for part in parts]) if texts else None,
        )
    return replace(
        first,
        columns=columns,
        lines=np.concatenate([table.lines for table in tables]),
        files=np.repeat(np.arange(len(tables)), [len(table) for table in tables]),
        paths=tuple(table.path for table in tables),
    )


def _numbers(column: Column) -> NDArray[np.float64]:
    return column.numbers if column.numbers is not None else np.empty(0)


def _no_number(cell: str, column: str) -> str:
    if cell in _EMPTY:
        return f"no value in column {column!r}: fill it, or leave it out"
    hint = ""
    if re.fullmatch(r"-?\d{1,3}([ ,.']\d{3})+([.,]\d+)?", cell):
        hint = " (write it without marks between the thousands)"
    elif cell.endswith("%"):
        hint = " (write it without the percent sign)"
    return f"{cell!r} in column {column!r} is not a number that float32 can hold{hint}"


# === Reading ===


def suffix(path: Path) -> str:
    """The ending that says the form, that of a compression left out.

    Example:
    >>> suffix(Path("a.CSV.gz")), suffix(Path("b.tsv.zip")), suffix(Path("c.zip"))
    ('.csv', '.tsv', '.csv')
    """
    name = path.name.lower()
    for ending in (".gz", ".zip"):
        if name.endswith(ending):
            return Path(name.removesuffix(ending)).suffix or ".csv"
    return path.suffix.lower()


def read_table(
    path: Path, is_text: Callable[[str], bool], headless: Callable[[int], Sequence[str]] | None = None
) -> Table:
    """Read a file.

    Args:
        path: The file.
        is_text: Of which columns the cells are to be kept as they are written.
        headless: The names of so many columns, where a first line of numbers is data; None refuses such a line.

    Raises:
        InvalidData: It cannot be read, or lines have different numbers of cells, or it is too large for the memory.
    """
    if suffix(path) in BINARY_SUFFIXES:
        return _read_binary(path, is_text)
    _refuse_too_large(path)
    with readable(path):
        form = _form(path, headless)
        lines = _structure(path, form)
        return _read_values(path, form, lines, is_text)


def _refuse_too_large(path: Path) -> None:
    size = path.stat().st_size * (_COMPRESSED if path.suffix.lower() in (".gz", ".zip") else 1)
    available = int(psutil.virtual_memory().available)
    if size * _MEMORY > available:
        raise InvalidData(
            f"{path} has {size / 1e9:.1f} GB of text, for which reading needs about {size * _MEMORY / 1e9:.1f} GB of "
            f"memory, and {available / 1e9:.1f} GB are free: split it into several files, leave columns or rows out, "
            "or write it as float32 arrays in an .npz file"
        )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of what cannot be read why, and what to do.

    Raises:
        InvalidData: The block met bytes that are no text, or no CSV.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise InvalidData(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise InvalidData(f"{path} is no CSV ({error}): see to its quotation marks") from error
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError) as error:
        raise InvalidData(f"{path} is damaged ({error}): write it again") from error


@contextmanager
def opened(path: Path, encoding: str = "utf-8-sig") -> Iterator[TextIO]:
    """The text of a file, decompressed where its name says that it is compressed."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path, "rt", encoding=encoding, newline="") as file:
            yield file
    elif path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            members = [
                name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")
            ]
            if len(members) != 1:
                raise InvalidData(f"{path} holds {len(members)} files, expected one table: unpack it")
            with archive.open(members[0]) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as file:
                yield file
    else:
        with path.open(newline="", encoding=encoding) as file:
            yield file


@dataclass(frozen=True)
class _Form:
    """How a text file is written."""

    encoding: str
    delimiter: str
    decimal: str
    names: tuple[str, ...]
    before: int  # lines before the first row


def _form(path: Path, headless: Callable[[int], Sequence[str]] | None) -> _Form:
    encoding = _encoding(path)
    with opened(path, encoding) as file:
        head = file.read(_HEAD).splitlines()
    said = _SEPARATOR_LINE.fullmatch(head[0]) if head else None
    skipped = 1 if said else 0
    header = head[skipped] if len(head) > skipped else ""
    delimiter = said[1] if said else max(_DELIMITERS, key=lambda mark: len(_cells(header, mark)))
    if delimiter not in header and _are_words(head[skipped:-1] or head[skipped:]):
        delimiter = " "
    below = [cell for line in head[skipped + 1 : skipped + 50] for cell in _cells(line, delimiter)]
    comma = delimiter != "," and any(_DECIMAL_COMMA.fullmatch(cell.strip()) for cell in below)
    with opened(path, encoding) as file:
        for _ in range(skipped):
            file.readline()
        reader = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=True)
        names = [cell.strip() for cell in next((cells for cells in reader if cells), [])]
        before = skipped + reader.line_num
    if not names:
        raise InvalidData(f"{path} is empty, expected a first line that names the columns")
    numeric = [number(name.replace(",", ".") if comma else name) is not None for name in names]
    # An index that pandas wrote has no name, and columns may be named by numbers.
    if any(numeric) and names[0] and all(known or name in _EMPTY for known, name in zip(numeric, names, strict=True)):
        if headless is None:
            raise InvalidData(
                f"{path}, line 1: {','.join(names[:4])} are numbers, expected the names of the columns; if a "
                "row is a sequence, give --layout sequences"
            )
        names, before = list(headless(len(names))), skipped
    return _Form(encoding, delimiter, "," if comma else ".", _checked(path, names), before)


def _are_words(lines: list[str]) -> bool:
    """Whether spaces part the cells: all lines have as many words, more than one."""
    counts = {len(line.split()) for line in lines if line.strip()}
    return len(counts) == 1 and counts != {1}


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def _checked(path: Path, names: list[str]) -> tuple[str, ...]:
    if "" in names[1:]:
        raise InvalidData(
            f"{path}, line 1: column {names.index('', 1) + 1} has no name: name it, or leave the column out"
        )
    lower = [name.lower() for name in names]
    if twice := next((name for name in names if lower.count(name.lower()) > 1), None):
        raise InvalidData(f"{path}, line 1: the column {twice!r} is there twice: rename one")
    return tuple(names)


def _structure(path: Path, form: _Form) -> NDArray[np.int64]:
    """The line of every row, once each is known to have all its cells."""
    problems, lines, blank = Problems(path), array("q"), 0
    count = len(form.names)
    with opened(path, form.encoding) as file:
        for _ in range(form.before):
            file.readline()
        reader = csv.reader(file, delimiter=form.delimiter, strict=True, skipinitialspace=True)
        for cells in reader:
            line = form.before + reader.line_num
            if not cells:
                blank = blank or line
                continue
            if blank:  # blank lines at the end hold nothing; elsewhere, a value may be missing
                raise InvalidData(f"{path}, line {blank}: empty, with more lines behind it: fill it or take it out")
            if len(cells) != count:
                problems.add(line, f"{len(cells)} cells, expected {count}")
            lines.append(line)
    problems.refuse_any()
    if not lines:
        raise InvalidData(f"{path} has no line behind the first, expected a line a step")
    return np.array(lines, np.int64)


def _read_values(path: Path, form: _Form, lines: NDArray[np.int64], is_text: Callable[[str], bool]) -> Table:
    import pandas as pd

    texts = [index for index, name in enumerate(form.names) if is_text(name)]
    with opened(path, form.encoding) as file:
        for _ in range(form.before):
            file.readline()
        frame = pd.read_csv(
            file,
            sep=form.delimiter,
            header=None,
            names=list(range(len(form.names))),
            index_col=False,
            decimal=form.decimal,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            na_values={index: list(_EMPTY) for index in range(len(form.names)) if index not in texts},
            skipinitialspace=True,
            low_memory=False,
        )
    columns = {name: _column(frame[index], index in texts) for index, name in enumerate(form.names)}
    return Table(path, columns, lines, np.zeros(len(lines), np.int64), (path,))


def _column(series: Any, text: bool) -> Column:
    import pandas as pd

    if text:
        texts = series.fillna("").astype(str).str.strip().to_numpy(object)
        return Column(None, texts)
    if pd.api.types.is_bool_dtype(series.dtype) or pd.api.types.is_numeric_dtype(series.dtype):
        return Column(series.to_numpy(np.float64, na_value=np.nan), None)
    texts = series.fillna("").astype(str).str.strip()
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    filled = texts.to_numpy(object) != ""
    # A column where most cells are numbers holds numbers, and the others are mistakes.
    mostly = np.isfinite(numbers).sum() * 2 >= max(int(filled.sum()), 1)
    return Column(numbers if mostly else None, texts.to_numpy(object))


def _read_binary(path: Path, is_text: Callable[[str], bool]) -> Table:
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if suffix(path) == ".parquet" else pd.read_feather(path)
    except Exception as error:  # pyarrow raises whatever damaged bytes lead it to
        raise InvalidData(f"{path} cannot be read ({type(error).__name__}: {error}): write it again") from error
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    frame.columns = [str(name) for name in frame.columns]
    columns = {}
    for name in _checked(path, list(frame.columns)):
        series = frame[name]
        if pd.api.types.is_datetime64_any_dtype(series.dtype) or isinstance(series.dtype, pd.PeriodDtype):
            columns[name] = Column(None, series.astype(str).to_numpy(object))
        elif is_text(name):
            columns[name] = Column(None, series.astype(object).where(series.notna(), "").astype(str).to_numpy(object))
        else:
            columns[name] = _column(series, text=False)
    if not len(frame):
        raise InvalidData(f"{path} has no row, expected a row a step")
    return Table(path, columns, np.arange(len(frame)) + 1, np.zeros(len(frame), np.int64), (path,))
