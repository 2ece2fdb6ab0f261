"""From the rows of a table to sequences, once it is known what its columns are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Task
from training.datasets.own.clocks import Spacing, as_duration, spacing
from training.datasets.own.doubt import Doubt, answer, lost_in_float32
from training.datasets.own.parsed import Found, InvalidData, in_order
from training.datasets.own.roles import Roles
from training.datasets.own.tables import Table

_MISSING_LABELS = ("", "nan", "?")
_UNEVEN = 0.01


def sequences_of(table: Table, roles: Roles, task: Task | None) -> Found:
    """Sort the rows of a table into sequences.

    Args:
        table: The rows.
        roles: What its columns are.
        task: What is to be predicted, where that is known.

    Raises:
        InvalidData: A cell cannot be used, or what must not change within a sequence does; by file and line.
    """
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
