"""What a person checks first in data of their own: ranges, first steps, time between steps, the shape of sequences."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Examples, Slices
from training.datasets.own import OwnData
from training.datasets.own.clocks import as_duration

_FIRST = 5
_SHOWN = 4
_BARS = "▁▂▃▄▅▆▇█"


def ranges(data: OwnData) -> dict[str, dict[str, float]]:
    """Lowest, mean and highest value of each channel, over both splits."""
    parts = [_values(data.load("train")), _values(data.load("test"))]
    low = np.min([part.min(axis=0) for part in parts], axis=0)
    high = np.max([part.max(axis=0) for part in parts], axis=0)
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / sum(len(part) for part in parts)
    return {
        name: {"lowest": float(low[index]), "mean": float(mean[index]), "highest": float(high[index])}
        for index, name in enumerate(data.channels)
    }


def _values(examples: Examples) -> NDArray[np.float32]:
    if examples.spans is not None and isinstance(examples.sequences, Slices):
        return np.asarray(examples.sequences.values)  # windows overlap in it
    return np.concatenate(list(examples.sequences))


def first_steps(data: OwnData) -> list[list[float]]:
    """The first steps of the first training sequence, as understood, `[steps, channels]`."""
    return [[float(value) for value in step] for step in data.load("train").sequences[0][:_FIRST]]


def first_answer(data: OwnData) -> str:
    """What is to be predicted of that sequence."""
    examples, spec = data.load("train"), data.spec
    if spec.task == "classification":
        return str(spec.classes[examples.labels[0]])
    if spec.task == "labelling":
        return ", ".join(spec.classes[label] if label >= 0 else "no label" for label in examples.targets[0][:_FIRST])
    first = examples.targets[0].reshape(-1, len(spec.outputs))[0]
    return ", ".join(f"{name} {value:.4g}" for name, value in zip(spec.outputs, first, strict=True))


def time_between_steps(data: OwnData) -> str:
    """How far apart steps are, or "" where nothing says that."""
    clock = data.clock
    if clock is None:
        return ""
    usual = f"a {clock.even_months}" if clock.even_months else as_duration(clock.usual, data.dates)
    if not clock.uneven:
        return f"{usual}, evenly"
    longest = as_duration(clock.longest, data.dates)
    return f"mostly {usual}; {clock.uneven:.0%} of the steps differ, the longest is {longest}"


def shown_sequences(data: OwnData) -> list[tuple[str, NDArray[np.float32]]]:
    """A few sequences to look at, of different classes where there are classes, and what each is called."""
    examples, spec = data.load("train"), data.spec
    if examples.spans is not None and isinstance(examples.sequences, Slices):
        values = examples.sequences.values
        series = np.unique(examples.spans[:, 0])[:_SHOWN]
        bounds = []
        for each in series:
            begin = int(examples.sequences.starts[examples.spans[:, 0] == each].min())
            bounds.append((begin, begin + int(examples.spans[examples.spans[:, 0] == each, 2].max())))
        return [(f"series {each}", values[begin:end]) for each, (begin, end) in zip(series, bounds, strict=True)]
    if spec.task == "classification":
        chosen = [int(np.flatnonzero(examples.labels == label)[0]) for label in np.unique(examples.labels)[:_SHOWN]]
        return [(spec.classes[examples.labels[index]], examples.sequences[index]) for index in chosen]
    return [(f"sequence {index}", examples.sequences[index]) for index in range(min(_SHOWN, len(examples)))]


def bars(values: NDArray[np.float32], width: int = 60) -> str:
    """A sequence of numbers as a line of bars, for the terminal.

    Example:
    >>> bars(np.arange(8.0))
    '▁▂▃▄▅▆▇█'
    """
    parts = np.array_split(values, min(width, len(values)))
    means = np.array([part.mean() for part in parts], np.float64)
    low, high = means.min(), means.max()
    if high == low:
        return _BARS[0] * len(means)
    return "".join(_BARS[int(level)] for level in np.round((means - low) / (high - low) * (len(_BARS) - 1)))


def summary(data: OwnData) -> dict[str, Any]:
    """All of it, as plain values."""
    return {
        "ranges": ranges(data),
        "missing": 0,  # what is missing is refused, or filled and said in a note
        "first_steps": first_steps(data),
        "first_answer": first_answer(data),
        "time_between_steps": time_between_steps(data) or None,
    }
