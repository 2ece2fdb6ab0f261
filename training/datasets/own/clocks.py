"""Points in time as people write them: numbers, dates in many forms, months, quarters, clocks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_QUARTER = re.compile(r"(\d{4})[ -]?[Qq]([1-4])")
_MONTH = re.compile(r"(\d{4})[Mm](\d{1,2})")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y")
_NAMED_MONTHS = (
    "%b %Y",
    "%B %Y",
    "%b-%Y",
    "%b-%y",
    "%d %b %Y",
    "%d %B %Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%b %d, %Y",
    "%b %d %Y",
    "%Y %b",
    "%Y-%b",
)
_TIMES_OF_DAY = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")
# Days that follow each other unevenly in the calendar, yet evenly to whoever counts months, quarters or years.
_CALENDAR = ((28, 31, "month"), (89, 92, "quarter"), (365, 366, "year"))
_DAY = 86400.0


@dataclass(frozen=True)
class Reading:
    """One way to read all cells of a column.

    Attributes:
        form: What it takes them for.
        values: Seconds since 1970 or a midnight, or the numbers themselves; NaN where a cell is something else.
    """

    form: str
    values: NDArray[np.float64]


def readings(texts: Sequence[str] | NDArray[Any]) -> list[Reading]:
    """Every way in which the cells can be read as points in time, all that read as many cells as the best.

    More than one: the day and the month could be either.

    Args:
        texts: The cells; empty ones are nothing.

    Returns:
        None where the first cell cannot be read.

    Example:
    >>> [reading.form for reading in readings(["05/06/2020", "06/06/2020"])]
    ['%d/%m/%Y', '%m/%d/%Y']
    >>> [reading.form for reading in readings(["1959Q1", "1959Q2"])], readings(["noon"])
    (['quarters'], [])
    """
    import pandas as pd

    codes, distinct = pd.factorize(np.asarray(texts, object))
    if not len(distinct):
        return []
    tried = [Reading(form, values) for form, values in _attempts([str(text) for text in distinct], pd)]
    if not tried:
        return []
    counts = [int(np.isfinite(reading.values).sum()) for reading in tried]
    best = [reading for reading, count in zip(tried, counts, strict=True) if count == max(counts)]
    return [Reading(reading.form, np.where(codes < 0, np.nan, reading.values[codes])) for reading in best]


def _attempts(texts: list[str], pd: Any) -> list[tuple[str, NDArray[np.float64]]]:
    numbers = pd.to_numeric(pd.Series(texts), errors="coerce").to_numpy(np.float64)
    if np.isfinite(numbers[0]):
        days = _parsed(texts, "%Y%m%d", pd) if (numbers >= 1e7).all() and (numbers < 1e8).all() else None
        return [("numbers", numbers)] if days is None or not np.isfinite(days).all() else [("%Y%m%d", days)]
    for form, pattern, months in (("quarters", _QUARTER, 3), ("months", _MONTH, 1)):
        if pattern.fullmatch(texts[0]):
            matches = [pattern.fullmatch(text) for text in texts]
            iso = [f"{m[1]}-{(int(m[2]) - 1) * months + 1:02}" if m else "" for m in matches]
            return [(form, _parsed(iso, "%Y-%m", pd))]
    forms = ["ISO8601"]
    if not np.isfinite(_parsed(texts[:1], "ISO8601", pd)[0]):
        forms = [day + clock for day in _DAYS for clock in _CLOCKS] + [*_NAMED_MONTHS, *_TIMES_OF_DAY]
        forms = [form for form in forms if np.isfinite(_parsed(texts[:1], form, pd)[0])]
        # The day or the month may come first, which a later cell tells apart.
        sample = texts[:1000]
        forms += [
            day + clock
            for day in _DAYS
            for clock in _CLOCKS
            if day + clock not in forms and np.isfinite(_parsed(sample, day + clock, pd)).all()
        ]
    return [(form, _parsed(texts, form, pd)) for form in forms]


def _parsed(texts: list[str], form: str, pd: Any) -> NDArray[np.float64]:
    moments = pd.to_datetime(pd.Series(texts, dtype=object), format=form, errors="coerce", utc=True)
    nanoseconds = moments.to_numpy("datetime64[ns]")
    seconds = nanoseconds.astype(np.int64) / 1e9
    return np.where(np.isnat(nanoseconds), np.nan, seconds)


def in_order_of(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One rising number for each different row of several columns, of which the first counts most.

    Example:
    >>> in_order_of([np.array([1.0, 1, 2]), np.array([30.0, 5, 0])]).tolist()
    [1.0, 0.0, 2.0]
    """
    order = np.lexsort(tuple(reversed(columns)))
    differs = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    ranks = np.empty(len(order))
    ranks[order] = np.concatenate([[0], np.cumsum(differs)])
    return ranks


@dataclass(frozen=True)
class Spacing:
    """How far apart the steps of sequences are.

    Attributes:
        usual: The distance that is usual, in the unit of the clock.
        uneven: Share of steps that are not that far from the one before.
        longest: The longest distance.
        even_months: "month", "quarter" or "year" where steps are even in the calendar.
    """

    usual: float
    uneven: float
    longest: float
    even_months: str = ""


def spacing(times: NDArray[np.float64], starts: NDArray[np.int64], dates: bool) -> Spacing | None:
    """How far apart steps are, `None` where no sequence has two.

    Args:
        times: Of all rows, sequence by sequence.
        starts: Where each sequence begins.
        dates: Whether the times are seconds of dates.

    Example:
    >>> spacing(np.array([0.0, 1, 2, 4]), np.array([0]), dates=False)
    Spacing(usual=1.0, uneven=0.333..., longest=2.0, even_months='')
    """
    distances = np.delete(np.diff(times), starts[1:] - 1)
    if not len(distances):
        return None
    usual, longest = float(np.median(distances)), float(distances.max())
    if dates:
        days = distances / _DAY
        for fewest, most, name in _CALENDAR:
            inside = (days >= fewest) & (days <= most)
            if inside.mean() > 0.5 and fewest <= usual / _DAY <= most:
                return Spacing(usual, float(1 - inside.mean()), longest, name)
    return Spacing(usual, float((np.abs(distances - usual) > 0.01 * abs(usual)).mean()), longest)


def as_duration(value: float, dates: bool) -> str:
    """A distance in time, for a person.

    Example:
    >>> as_duration(5400, dates=True), as_duration(0.02, dates=False), as_duration(86400, dates=True)
    ('1.5 h', '0.02', '1 d')
    """
    if not dates:
        return f"{value:g}"
    for unit, name in ((_DAY, "d"), (3600.0, "h"), (60.0, "min")):
        if value >= unit:
            return f"{value / unit:.4g} {name}"
    return f"{value:g} s"
