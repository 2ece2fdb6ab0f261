"""What every reader of own data hands over, whatever form the data came in."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.own.clocks import Spacing
from training.datasets.own.doubt import Doubt

_NAMED = 3


class InvalidData(ValueError):
    """Own data that cannot be used as it is; the message says where it is wrong, and what to do."""

    exit_code = 1


class InvalidRequest(ValueError):
    """A path, a task or a horizon that does not go with the data."""

    exit_code = 2


@dataclass(frozen=True)
class Found:
    """Sequences and what the data says about them, before a task is decided and a split is made.

    Attributes:
        sequences: float32 `[steps, channels]` each.
        channels: The name of every channel.
        labels: Indices into `texts`: int64 `[n]`, or a list of int64 `[steps]`, one for each sequence, where labels
            change from step to step, -1 for a step that has none. None where the data has no labels.
        texts: Labels as they are written; a text may be there twice.
        declared: `texts` are all the classes that there are, in the order in which the data itself lists them.
        numbers: float32 `[n, outputs]` where the form of the data says that numbers are to be predicted, else None.
        outputs: What is predicted where it is a number: the name of each.
        groups: The group of every sequence, or None.
        in_test: bool `[n]` where the data brings a split along, else None.
        split_rule: How it says so.
        notes: What a person should know before training: one sentence each.
        doubts: What was assumed, and how to say otherwise.
        forecast: The channels that are to be forecast; all where empty.
        static: The channels that are true of a whole sequence.
        columns: Of a table: the columns of each role.
        clock: Of a table with points in time: how far apart steps are.
        dates: Whether the clock counts seconds.
        by_form: The form of the data says what channels and labels are, so that there is nothing to doubt about them.
    """

    sequences: Sequence[NDArray[np.float32]]
    channels: tuple[str, ...]
    labels: NDArray[np.int64] | list[NDArray[np.int64]] | None = None
    texts: tuple[str, ...] = ()
    declared: bool = False
    numbers: NDArray[np.float32] | None = None
    outputs: tuple[str, ...] = ("target",)
    groups: list[str] | None = None
    in_test: NDArray[np.bool_] | None = None
    split_rule: str = ""
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    forecast: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    clock: Spacing | None = None
    dates: bool = False
    by_form: bool = False


def joined(train: Found, test: Found, split_rule: str) -> Found:
    """Both parts of data that brings its split along.

    Raises:
        InvalidData: They differ in channels, in groups or in what is to be predicted.
    """
    for what, of_train, of_test in (
        ("labels", _form(train), _form(test)),
        ("channels", list(train.channels), list(test.channels)),
        ("outputs", list(train.outputs), list(test.outputs)),
        ("groups", train.groups is not None, test.groups is not None),
    ):
        if of_train != of_test:
            raise InvalidData(f"{what} of train are {of_train}, those of test are {of_test}: expected the same of both")
    # The texts of test come behind those of train, unless both are one list that the data declares.
    declared = train.declared and train.texts == test.texts
    texts = train.texts if declared else train.texts + test.texts
    labels, numbers = train.labels, train.numbers
    if train.labels is not None and test.labels is not None:
        shifted = _shifted(test.labels, 0 if declared else len(train.texts))
        both_parts = [*train.labels, *shifted]
        labels = both_parts if isinstance(train.labels, list) else np.array(both_parts, np.int64)
    if train.numbers is not None and test.numbers is not None:
        numbers = np.concatenate([train.numbers, test.numbers])
    return replace(
        train,
        sequences=[*train.sequences, *test.sequences],
        labels=labels,
        texts=texts,
        declared=declared,
        numbers=numbers,
        groups=train.groups + test.groups if train.groups is not None and test.groups is not None else None,
        in_test=np.repeat([False, True], [len(train.sequences), len(test.sequences)]),
        split_rule=split_rule,
        notes=tuple(dict.fromkeys(train.notes + test.notes)),
        doubts=tuple(dict.fromkeys(train.doubts + test.doubts)),
    )


def _shifted(labels: Any, offset: int) -> Any:
    if isinstance(labels, list):
        return [_shifted(steps, offset) for steps in labels]
    return np.where(labels < 0, labels, labels + offset)


def _form(found: Found) -> str:
    if found.numbers is not None:
        return "numbers"
    if found.labels is None:
        return "none"
    return "one a step" if isinstance(found.labels, list) else "one a sequence"


@dataclass
class Problems:
    """What is wrong with one file: all is counted, the first few are named.

    Args:
        path: The file.
    """

    path: Path
    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, line: int, what: str) -> None:
        """Note that `what` is wrong with the line of that number; the first line is 1."""
        self.count += 1
        if len(self.named) < _NAMED:
            self.named.append(f"line {line}: {what}")

    def refuse_any(self) -> None:
        """Raise where something is wrong.

        Raises:
            InvalidData: Something is.
        """
        if self.count:
            more = f"; and {self.count - len(self.named)} more" if self.count > len(self.named) else ""
            raise InvalidData(
                f"{self.path}, {'; '.join(self.named)}{more}: correct the file; nothing is left out by itself"
            )


def number(text: str) -> float | None:
    """The finite number that `text` is, or None.

    Example:
    >>> number(" 2.50 "), number("two"), number("nan")
    (2.5, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def in_order(names: Sequence[str]) -> list[int]:
    """Positions of `names` when sorted: by value where all are numbers, else as text.

    Example:
    >>> in_order(["10", "9", "100"]), in_order(["b", "a10", "a9"])
    ([1, 0, 2], [1, 2, 0])
    """
    values: list[Any] = [number(name) for name in names]
    if any(value is None for value in values):
        values = list(names)
    return sorted(range(len(names)), key=lambda position: (values[position], names[position]))
