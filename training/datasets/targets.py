"""The kinds of targets, a class for each; no other module distinguishes them."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["classification", "labelling", "regression", "forecasting", "language_model"]


class InvalidExamples(ValueError):
    """Examples that no model can be trained on, or that are not what the dataset's spec promises."""

    exit_code = 1


class Targets:
    """One kind of targets.

    Attributes:
        has_classes: Whether each target is one of several classes.
        are_numbers: Whether each target is a number or several.
        has_horizon: Whether each target has a time axis of its own, of steps that follow the sequence.
    """

    has_classes = are_numbers = has_horizon = False

    def check(self, targets: Any, lengths: NDArray[np.int64]) -> None:
        """Check targets against the lengths of their sequences, `[n]`.

        Raises:
            InvalidExamples: They do not fit; the message names the example.
        """

    def shape(self, outputs: int, horizon: int) -> str:
        """Type and shape that a dataset with so many outputs and steps ahead promises, in words."""
        return "nothing"

    def received(self, targets: Any) -> str:
        """Type and shape of `targets`, in the same words."""
        return self.shape(0, 0)

    def content(self, targets: Any) -> Iterator[bytes]:
        """The targets as bytes that are the same on every machine, for a digest."""
        return iter(())

    def highest(self, targets: Any) -> NDArray[np.int64]:
        """The highest label of each example, `[n]`, where there are classes."""
        return np.zeros(0, np.int64)

    def labels(self, targets: Any) -> NDArray[np.int64]:
        """All labels of all examples, one behind the other; -1 where a step has none."""
        return np.zeros(0, np.int64)

    def strata(self, targets: Any, examples: int) -> NDArray[np.int64]:
        """What a split keeps in proportion, `[n]`: the class of each example where it has one, else all zeros."""
        return np.zeros(examples, np.int64)


class NoTargets(Targets):
    """None: the sequences themselves say what follows."""


class Labels(Targets):
    """A class for each sequence: int64 `[n]`, none negative."""

    has_classes = True

    def check(self, targets: Any, lengths: NDArray[np.int64]) -> None:
        check_integers("labels", targets, len(lengths))
        if targets.min() < 0:
            index = int(np.argmin(targets))
            raise InvalidExamples(
                f"label of example {index} is {targets[index]}, expected 0 or more: "
                "number the classes from 0 and leave out unlabelled examples"
            )

    def shape(self, outputs: int, horizon: int) -> str:
        return "int64 [n]"

    def received(self, targets: Any) -> str:
        return f"{targets.dtype} [{', '.join(['n', *map(str, targets.shape[1:])])}]"

    def content(self, targets: Any) -> Iterator[bytes]:
        yield targets.astype("<i8").tobytes()

    def highest(self, targets: Any) -> NDArray[np.int64]:
        return np.asarray(targets)

    def labels(self, targets: Any) -> NDArray[np.int64]:
        return np.asarray(targets)

    def strata(self, targets: Any, examples: int) -> NDArray[np.int64]:
        return np.asarray(targets)


class StepLabels(Targets):
    """A class for each step: a sequence of int64 `[steps]`, one for each sequence; -1 where a step has none."""

    has_classes = True

    def check(self, targets: Any, lengths: NDArray[np.int64]) -> None:
        if len(targets) != len(lengths):
            raise InvalidExamples(
                f"labels of {len(targets)} sequences, expected {len(lengths)}: one array for each sequence"
            )
        for index, (labels, length) in enumerate(zip(targets, lengths, strict=True)):
            check_integers(f"labels of example {index}", labels, int(length))
            if labels.min() < -1:
                raise InvalidExamples(
                    f"labels of example {index} hold {labels.min()}, expected 0 or more, or -1 where a step has none"
                )

    def shape(self, outputs: int, horizon: int) -> str:
        return "int64 [steps] a sequence"

    def content(self, targets: Any) -> Iterator[bytes]:
        yield b"labels a step"
        for labels in targets:
            yield labels.astype("<i8").tobytes()

    def highest(self, targets: Any) -> NDArray[np.int64]:
        return np.array([labels.max() for labels in targets])

    def labels(self, targets: Any) -> NDArray[np.int64]:
        return np.concatenate(list(targets))


class Numbers(Targets):
    """Numbers for each sequence: float32 `[n, outputs]`."""

    are_numbers = True

    def check(self, targets: Any, lengths: NDArray[np.int64]) -> None:
        if len(targets) != len(lengths) or targets.ndim not in (2, 3) or 0 in targets.shape:
            raise InvalidExamples(
                f"targets are float32 {list(targets.shape)}, expected [{len(lengths)}, outputs], or "
                f"[{len(lengths)}, horizon, outputs] of a forecast: one row for each sequence"
            )
        unfit = np.flatnonzero(~np.isfinite(targets).reshape(len(targets), -1).all(axis=1))
        if unfit.size:
            raise InvalidExamples(f"the target of example {unfit[0]} is not finite: leave out or fill missing targets")

    def shape(self, outputs: int, horizon: int) -> str:
        return f"float32 [n, {outputs}]"

    def received(self, targets: Any) -> str:
        return f"{targets.dtype} [{', '.join(['n', *map(str, targets.shape[1:])])}]"

    def content(self, targets: Any) -> Iterator[bytes]:
        yield targets.astype("<f4").tobytes()


class Forecasts(Numbers):
    """Numbers for each of the steps that follow each sequence: float32 `[n, horizon, outputs]`."""

    has_horizon = True

    def shape(self, outputs: int, horizon: int) -> str:
        return f"float32 [n, {horizon}, {outputs}]"


NO_TARGETS, LABELS, STEP_LABELS, NUMBERS, FORECASTS = NoTargets(), Labels(), StepLabels(), Numbers(), Forecasts()

TARGETS: dict[Task, Targets] = {
    "classification": LABELS,
    "labelling": STEP_LABELS,
    "regression": NUMBERS,
    "forecasting": FORECASTS,
    "language_model": NO_TARGETS,
}
"""The targets of each task."""


def kind_of(targets: Any) -> Targets:
    """The kind that these targets are of, whether or not they are right.

    Example:
    >>> type(kind_of(np.zeros((2, 1), "float32"))).__name__, type(kind_of([np.array([1, -1])])).__name__
    ('Numbers', 'StepLabels')
    """
    if targets is None:
        return NO_TARGETS
    if not isinstance(targets, np.ndarray):
        return STEP_LABELS
    if targets.dtype == np.float32:
        return FORECASTS if targets.ndim == 3 else NUMBERS
    return LABELS


def check_integers(name: str, values: Any, count: int) -> None:
    """Check that `values` are int64 `[count]`.

    Raises:
        InvalidExamples: They are not; the message begins with `name`.
    """
    if not isinstance(values, np.ndarray) or values.dtype != np.int64 or values.shape != (count,):
        received = f"{getattr(values, 'dtype', type(values).__name__)} {list(np.shape(values))}"
        raise InvalidExamples(
            f"{name} are {received}, expected int64 [{count}], one per sequence: "
            f"convert them with np.asarray({name}, 'int64')"
        )
