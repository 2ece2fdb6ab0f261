"""Which column of a table is what: said by a person, or seen by its name and its form.

A name and a form that agree are believed, and a note says so. A form alone, or a name that its form contradicts, is a
doubt that stops training until a person says which it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Task
from training.datasets.own.answers import Answers
from training.datasets.own.clocks import Reading, in_order_of, readings
from training.datasets.own.doubt import Doubt, answer
from training.datasets.own.parsed import InvalidData
from training.datasets.own.tables import Table

NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "unique_id", "item_id", "series_id", "sequence_id", "seq_id", "case_id", "ts_id"),
    "time": ("time", "timestamp", "date", "datetime", "ds", "date_time", "time_stamp"),
    "label": ("label", "target", "class"),
    "group": ("group", "subject"),
    "split": ("split",),
}
"""Names that are believed whatever the form."""

_ORDER = ("id", "time", "label", "target", "group", "split", "static", "ignore", "channels")

_LIKE_A_CLOCK = re.compile(
    r"t|ts|yr|years?|quarters?|months?|mon|weeks?|days?|dom|hours?|hr|minutes?|min|sec|secs|seconds?|ms|millis|obs|observation|index|idx"
    r"|step|frame|tick|epoch|period|elapsed|row|rows|rownames|rowid|unnamed: \d+||(.*[^a-z])?"
    r"(year|date|time|timestamp|datetime)([^a-z].*)?|date.*|time.*"
)
_A_TIME = re.compile(r"t|ts|(.*[^a-z])?(time|timestamp|datetime)([^a-z].*)?|timer")
_CALENDAR = (("year", "yr"), ("quarter", "month", "mon"), ("week",), ("day", "dom"), ("hour", "hr"), ("minute", "min"))


def is_text(answers: Answers) -> Any:
    """Of which columns the cells matter as they are written: ids and labels, where 01 is not 1."""
    said = answers.said()
    by_name = {name for role in ("id", "label", "group", "split") for name in NAMES[role]} - {"target"}

    def check(name: str) -> bool:
        return said[name] in ("id", "label") if name in said else name.lower() in by_name

    return check


@dataclass(frozen=True)
class Roles:
    """What every column is.

    Attributes:
        columns: The columns of each role, "channels" among them.
        times: Where each row stands in its sequence, `[rows]`, or None.
        dates: Whether `times` are seconds.
        form: How the times were read.
        doubts: What was assumed.
    """

    columns: dict[str, tuple[str, ...]]
    times: NDArray[np.float64] | None
    dates: bool
    form: str
    doubts: tuple[Doubt, ...]
    forecasts: bool = False

    def is_backward(self, order: NDArray[np.int64]) -> bool:
        """Whether the file holds its rows from the last to the first, as exports of bank and stock data do."""
        return bool((np.diff(order) == -1).mean() > 0.99)


def roles_of(table: Table, answers: Answers, task: Task | None) -> Roles:
    """Decide what every column of a table is.

    Args:
        table: The rows of one file, or of several, a sequence each.
        answers: What a person said.
        task: What is to be predicted, where that is known: names mean something else when forecasting.

    Raises:
        InvalidData: Two columns claim one role, or points in time cannot be read.
        InvalidRequest: A column that a person named is not there.
    """
    deciding = _Deciding(table, answers.resolved(table.names, str(table.path)), task)
    for step in (
        deciding.by_name,
        deciding.row_numbers,
        deciding.clock,
        deciding.clock_in_two_columns,
        deciding.identity,
        deciding.other_clocks,
        deciding.identity_of_every_row,
        deciding.texts,
    ):
        step()
    return deciding.roles()


class _Deciding:
    """The roles of columns while they are being decided."""

    def __init__(self, table: Table, answers: Answers, task: Task | None) -> None:
        self.table, self.answers, self.task = table, answers, task
        self.role: dict[str, str] = answers.said()
        self.doubts: list[Doubt] = []
        self.time: tuple[str, ...] = answers.time
        self._cache: dict[tuple[str, ...], Reading | None] = {}
        self._codes: dict[str, NDArray[np.int64]] = {}
        self._owners: dict[tuple[str, ...], NDArray[np.int64]] = {}

    def free(self) -> list[str]:
        return [name for name in self.table.names if name not in self.role]

    def has(self, role: str) -> bool:
        return role in self.role.values()

    def give(self, role: str, *names: str) -> None:
        for name in names:
            self.role[name] = role
        if role == "time":
            self.time = names

    def doubt(self, seen: str, assumed: str, otherwise: str = "", stops: bool = False) -> None:
        self.doubts.append(Doubt(seen, assumed, otherwise, stops))

    # --- What columns hold ---

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        return self.table.columns[name].numbers

    def codes(self, name: str) -> NDArray[np.int64]:
        import pandas as pd

        if name not in self._codes:
            column = self.table.columns[name]
            cells = column.numbers if column.texts is None else column.texts
            self._codes[name] = np.asarray(pd.factorize(cells)[0], np.int64)
        return self._codes[name]

    def owners(self) -> NDArray[np.int64]:
        """The sequence of each row, as far as that is known."""
        ids = tuple(name for name, role in self.role.items() if role == "id")
        if not ids:
            return self.table.files
        if ids not in self._owners:
            columns = [self.codes(name) for name in ids]
            together = columns[0] if len(columns) == 1 else in_order_of([codes.astype(np.float64) for codes in columns])
            self._owners[ids] = together.astype(np.int64)
        return self._owners[ids]

    def reading(self, *names: str) -> Reading | None:
        """The columns as points in time, or None where they are none."""
        if names not in self._cache:
            self._cache[names] = self._read(names)
        return self._cache[names]

    def _read(self, names: tuple[str, ...]) -> Reading | None:
        if len(names) > 1:
            return self._read_together(names)
        column = self.table.columns[names[0]]
        numbers = column.numbers if column.texts is None else None
        if numbers is not None and not ((numbers >= 1.9e7) & (numbers < 2.2e7)).all():
            return Reading("numbers", numbers)
        possible = readings(column.as_texts())
        if len(possible) > 1:
            possible = self._told_apart(names[0], possible)
        return possible[0] if possible else None

    def _read_together(self, names: tuple[str, ...]) -> Reading | None:
        columns = [self.table.columns[name] for name in names]
        if any(column.numbers is None for column in columns):
            texts = np.array([" ".join(cells) for cells in zip(*(c.as_texts() for c in columns), strict=True)], object)
            together = readings(texts)
            if together:
                return together[0]
        parts = [self.reading(name) for name in names]
        if any(part is None for part in parts):
            return None
        return Reading("in that order", in_order_of([part.values for part in parts if part is not None]))

    def _told_apart(self, name: str, possible: list[Reading]) -> list[Reading]:
        """The readings whose times rise in the file, where only one does."""
        rising = [reading for reading in possible if self.grows(reading.values, strictly=False)]
        even = [reading for reading in rising if self._is_even(reading.values)]
        chosen = even if len(even) == 1 else rising if len(rising) == 1 else possible
        equal = all(np.array_equal(chosen[0].values, other.values, equal_nan=True) for other in chosen)
        if not equal:
            self.doubt(
                f"the dates of column {name!r} can be read with the day or with the month first",
                f"{possible[0].form}",
                "write them as 2024-05-31",
                stops=True,
            )
        return chosen

    def _is_even(self, values: NDArray[np.float64]) -> bool:
        distances = np.diff(values)
        return bool(len(distances)) and float((distances == np.median(distances)).mean()) > 0.9

    def grows(self, values: NDArray[np.float64], strictly: bool = True, by: NDArray[np.int64] | None = None) -> bool:
        """Whether values rise from row to row within every sequence, in the order of the file."""
        owners = self.owners() if by is None else by
        order = np.argsort(owners, kind="stable")
        inside = np.diff(owners[order]) == 0
        rises = np.diff(values[order])[inside]
        return bool(len(rises) >= 2 and ((rises > 0) if strictly else (rises >= 0)).all())

    def repeats(self, values: NDArray[np.float64]) -> int:
        """Rows whose value another row of the same sequence has before it."""
        pairs = in_order_of([self.owners().astype(np.float64), values])
        return len(pairs) - len(np.unique(pairs))

    # --- Steps, in their order ---

    def by_name(self) -> None:
        for role, names in NAMES.items():
            if self.has(role) or (role == "label" and self.has("target")):
                continue
            named = [name for name in self.free() if name.lower() in names]
            if role == "label" and self.task == "forecasting" and (told := self._targets(named)):
                self.give("target", *told)
                named = [name for name in named if name not in told]
            if role == "time" and len(named) == 2:
                named = self._day_and_clock(named)
            if len(named) > 1:
                raise InvalidData(
                    f"{self.table.path}, line 1: both {named[0]!r} and {named[1]!r} name the {role}: rename one, or "
                    f"say which it is, as in "
                    f"{answer(role, named[0]) if role in ('id', 'time', 'label') else 'one of them'}"
                )
            if named:
                self.give(role, named[0])

    def _targets(self, named: Sequence[str]) -> list[str]:
        """What is to be forecast by the conventions of the field: `target`, or `y` beside `ds`."""
        lower = {name.lower(): name for name in self.table.names}
        told = [name for name in named if name.lower() == "target" and self.numbers(name) is not None]
        if not told and "ds" in lower and "y" in lower and lower["y"] not in self.role:
            told = [lower["y"]]
        return told

    def _day_and_clock(self, named: list[str]) -> list[str]:
        """Both columns as the time, where one holds dates and the other times of day."""
        forms = {name: reading.form for name in named if (reading := self.reading(name)) is not None}
        days = [name for name in named if forms.get(name, "numbers") not in ("numbers",) and "%H" not in forms[name]]
        clocks = [name for name in named if forms.get(name, "").startswith("%H")]
        if len(days) == 1 and len(clocks) == 1:
            self.give("time", days[0], clocks[0])
            return []
        return named

    def row_numbers(self) -> None:
        """A column that numbers the rows, as pandas and R write it: not a channel, and not needed."""
        for name in self.free():
            if not _LIKE_A_CLOCK.fullmatch(name.lower()) or not self._numbers_rows(name):
                continue
            if self.has("time") or name == "":
                self.give("ignore", name)
                self.doubt(f"column {name!r} numbers the rows", "not used", answer("channels", name) if name else "")

    def _numbers_rows(self, name: str) -> bool:
        numbers = self.numbers(name)
        if numbers is None or len(numbers) < 2:
            return False
        return bool(numbers[0] in (0, 1) and (np.diff(numbers) == 1).all())

    def clock(self) -> None:
        """The column, or the columns, that say when: by dates, or by a name and a growth that agree."""
        if self.has("time"):
            return
        texts = [name for name in self.free() if self.numbers(name) is None]
        dated = [name for name in texts if (reading := self.reading(name)) and np.isfinite(reading.values).all()]
        if dated:
            chosen = dated[:1]
            if len(dated) == 2:
                chosen = self._day_and_clock(dated) or list(self.time)
            self.give("time", *chosen)
            if all(_LIKE_A_CLOCK.fullmatch(name.lower()) for name in chosen):
                return
            self.doubt(
                f"column {' and '.join(map(repr, chosen))} holds points in time",
                "the order of rows",
                answer("time", *chosen[:0], "COLUMN"),
            )
            return
        named = [name for name in self.free() if self._is_named_like_a_clock(name)]
        parts = [name for names in _CALENDAR for name in named if name.lower() in names]
        if len(parts) > 1 and not any(self._grows(name) for name in named) and self._grows(*parts):
            self.give("time", *parts)
            self.doubt(
                f"columns {', '.join(map(repr, parts))} only grow together, as a date does",
                "the order of rows",
                answer("channels", *parts),
            )
            return
        if growing := [name for name in named if self._grows(name)]:
            growing.sort(key=self._numbers_rows)
            self.give("time", growing[0])
            self.doubt(
                f"column {growing[0]!r} is named like a clock and only grows",
                "it says the order of rows and is not a channel",
                answer("channels", growing[0]) if growing[0] else "",
            )
            self.row_numbers()

    def _is_named_like_a_clock(self, name: str) -> bool:
        return self.numbers(name) is not None and bool(_LIKE_A_CLOCK.fullmatch(name.lower()))

    def _grows(self, *names: str) -> bool:
        reading = self.reading(*names)
        return reading is not None and self.grows(reading.values)

    def clock_in_two_columns(self) -> None:
        """A clock that starts again with every day, the day being another column."""
        if len(self.time) != 1 or self.answers.time or (reading := self.reading(*self.time)) is None:
            return
        if self.grows(reading.values):
            return
        for name in self.free():
            day = self.reading(name) if self._is_named_like_a_clock(name) or self.numbers(name) is None else None
            if day is None or not self.grows(day.values, strictly=False):
                continue
            if self.grows(in_order_of([day.values, reading.values])):
                both = (name, self.time[0])
                self.give("time", *both)
                self.doubt(
                    f"column {both[1]!r} starts again where {name!r} grows, so that {both[1]!r} alone would put rows "
                    "in another order",
                    f"the order of rows is that of {name!r}, then {both[1]!r}",
                    answer("time", *both),
                    stops=True,
                )
                return

    def identity(self) -> None:
        """The column that says which sequence a row belongs to, where the clock repeats or starts again."""
        if self.has("id") or len(self.table.paths) > 1:
            return
        clocks = [self.time] if self.time else [(name,) for name in self.free() if self._is_named_like_a_clock(name)]
        for clock in clocks:
            reading = self.reading(*clock)
            if reading is None or not (repeats := self.repeats(reading.values)):
                continue
            for names in self._candidates():
                columns = [self.codes(name).astype(np.float64) for name in names]
                together = in_order_of([*columns, reading.values])
                if len(np.unique(together)) < len(together):
                    continue
                count = len(np.unique(in_order_of(columns)))
                self.give("id", *names)
                if not self.time:
                    self.give("time", *clock)
                self.doubt(
                    f"column {' and '.join(map(repr, clock))} repeats in {repeats} of {len(self.table)} rows, and "
                    f"{' and '.join(map(repr, names))} tells them apart",
                    f"{' and '.join(map(repr, names))} says which of {count} sequences a row belongs to",
                    f"{answer('id', *names)}, or the column that does",
                    stops=True,
                )
                return
        if not self.time:
            self._identity_in_runs()

    def _candidates(self) -> list[tuple[str, ...]]:
        """Columns that could say which sequence a row belongs to, the likeliest first."""
        rows = len(self.table)
        text = [name for name in self.free() if self.numbers(name) is None]
        text += [name for name, role in self.role.items() if role == "group"]
        whole = [name for name in self.free() if self._is_whole(name)]
        single = [name for name in [*text, *whole] if 2 <= len(np.unique(self.codes(name))) <= rows / 2]
        pairs = [(a, b) for index, a in enumerate(single) for b in single[index + 1 :] if a in text and b in text]
        return [*((name,) for name in single), *pairs]

    def _is_whole(self, name: str) -> bool:
        numbers = self.numbers(name)
        return numbers is not None and bool(np.isfinite(numbers).all() and (numbers == np.round(numbers)).all())

    def _identity_in_runs(self) -> None:
        """A column that is constant in runs, of which none comes back: sequences one behind the other."""
        for name in self.free():
            text = self.numbers(name) is None
            if not text and not self._is_whole(name):
                continue
            codes = self.codes(name)
            runs, distinct = 1 + int((np.diff(codes) != 0).sum()), len(np.unique(codes))
            if runs == distinct and distinct >= (2 if text else 3) and len(codes) / runs >= 2:
                self.give("id", name)
                self.doubt(
                    f"column {name!r} is constant in {runs} runs, and no value comes back",
                    f"{name!r} says which of {runs} sequences a row belongs to",
                    f"{answer('id', name)}, {answer('label', name)}, {answer('channels', name)} or "
                    f"{answer('ignore', name)}",
                    stops=True,
                )
                return

    def other_clocks(self) -> None:
        """Channels that only grow, as a clock does."""
        numeric = [name for name in self.free() if self.numbers(name) is not None]
        growing = [name for name in numeric if self.grows(self.numbers(name))]  # type: ignore[arg-type]
        if len(growing) == len(numeric) and not any(map(self._is_named_like_a_clock, growing)):
            return  # nothing else would be left
        for name in growing:
            values: Any = self.numbers(name)
            named = self._is_named_like_a_clock(name)
            even = self._is_even(values) or (values[0] >= 1e8 and self._is_whole(name))
            if named or (even and not self.time):
                self.doubt(
                    f"column {name!r} only grows, {'and is named like a clock' if named else 'and evenly'}",
                    "a channel" if self.time else "a channel, and the rows are in order",
                    f"{answer('ignore', name) if self.time else answer('time', name)}, or {answer('channels', name)}",
                    stops=True,
                )
        for name in numeric:
            if not self.time and _A_TIME.fullmatch(name.lower()) and name not in growing and len(numeric) > 1:
                self.doubt(
                    f"column {name!r} is named like a clock, and does not only grow",
                    "a channel, and the rows are in order",
                    f"{answer('time', name)}, {answer('ignore', name)} or {answer('channels', name)}",
                    stops=True,
                )

    def identity_of_every_row(self) -> None:
        ids = [name for name, role in self.role.items() if role == "id"]
        if not ids or self.answers.id or len(self.table) < 2:
            return
        if len(np.unique(self.owners())) == len(self.table):
            self.doubt(
                f"column {' and '.join(map(repr, ids))} is different in each of {len(self.table)} rows",
                "every row is a sequence of one step",
                f"{answer('ignore', *ids)} where it numbers the rows of one series, or {answer('id', *ids)}",
                stops=True,
            )

    def texts(self) -> None:
        """Columns of text that have no role: not used, unless a person says what they are."""
        for name in self.free():
            values = self.numbers(name)
            if values is not None:
                if np.isnan(values).all() and len(self.free()) > 1:
                    self.give("ignore", name)
                    self.doubt(f"column {name!r} is empty", "not used")
                continue
            codes = self.codes(name)
            examples = list(dict.fromkeys(self.table.columns[name].as_texts()[:100].tolist()))[:3]
            self.give("ignore", name)
            could = ["label", "static", "ignore"]
            if not self.has("id") and len(self.table.paths) == 1:
                could.insert(0, "id")
            self.doubt(
                f"column {name!r} holds text ({', '.join(map(repr, examples))}; {len(np.unique(codes))} different)",
                "not used",
                f"{', '.join(answer(role, name) for role in could[:-1])} or {answer('ignore', name)}",
                stops=True,
            )

    def roles(self) -> Roles:
        for name in self.free():
            self.give("channels", name)
        columns = {
            role: tuple(name for name in self.table.names if self.role[name] == role)
            for role in _ORDER
            if self.has(role)
        }
        if self.time:
            columns["time"] = self.time
        reading = self.reading(*self.time) if self.time else None
        if self.time and (reading is None or not np.isfinite(reading.values).all()):
            values = np.full(len(self.table), np.nan) if reading is None else reading.values
            self.table.problems(
                np.flatnonzero(~np.isfinite(values)).tolist(),
                lambda row: (
                    f"the {' and '.join(self.time)} is not a number (nor, if the first is a date, one that is written "
                    "like it: 2024-05-01T12:00:00, 2024/05/01 12:00, 05/31/2024, 2024-05 and 2024Q2 are understood)"
                ),
            )
        form = "" if reading is None else reading.form
        return Roles(
            columns,
            None if reading is None else reading.values,
            form not in ("", "numbers", "in that order"),
            form,
            tuple(self.doubts),
            self.task == "forecasting",
        )
