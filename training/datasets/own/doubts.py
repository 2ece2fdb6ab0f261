"""One pass of doubt over data of your own, whatever form it came in: a check a line in `CHECKS`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Task
from training.datasets.own.answers import Answers
from training.datasets.own.doubt import Doubt, answer
from training.datasets.own.parsed import Found, number

_ROWS = 20_000
_CHANNELS = 64
_ALMOST = 0.99999
_EPOCH = 1e8
# Different whole numbers from which on labels are rather amounts than classes, unless they count from 0 or 1.
_MANY_CLASSES = 10
_NAMED = 3


@dataclass(frozen=True)
class Evidence:
    """What the checks look at.

    Attributes:
        found: The data as it was read.
        task: What is to be predicted of it.
        answers: What a person said.
        task_said: Whether the task was said, not inferred.
    """

    found: Found
    task: Task
    answers: Answers
    task_said: bool

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of every sequence."""
        return np.array([len(sequence) for sequence in self.found.sequences], np.int64)

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """All steps, `[steps, channels]`."""
        return np.concatenate(list(self.found.sequences))

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each sequence begins in `values`."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def constant(self) -> list[int]:
        """The channels that never change within a sequence, of sequences of several steps."""
        if np.median(self.lengths) < 2:
            return []
        first = np.repeat(self.values[self.starts], self.lengths, axis=0)
        return [int(channel) for channel in np.flatnonzero((self.values == first).all(axis=0))]

    def is_said(self, channel: int) -> bool:
        """Whether a person said what a channel is."""
        name = self.found.channels[channel]
        return name in (*self.answers.channels, *self.answers.static, *self.answers.target) or name in self.found.static


def doubts(evidence: Evidence) -> tuple[Doubt, ...]:
    """What the data leaves open, once its columns have their roles.

    Args:
        evidence: The data, and what was said of it.
    """
    return tuple(doubt for check in CHECKS for doubt in check(evidence))


def _one_step(evidence: Evidence) -> list[Doubt]:
    lengths = evidence.lengths
    share = float((lengths == 1).mean())
    if len(lengths) < 2 or share <= 0.5 or any(doubt.stops for doubt in evidence.found.doubts):
        return []
    seen = f"{share:.0%} of {len(lengths)} sequences have one step, so there is nothing to learn over time"
    return [Doubt(seen, "that is so", answer("layout", "sequences") + " where a row of the table is a sequence")]


def _channels_before_steps(evidence: Evidence) -> list[Doubt]:
    found, lengths = evidence.found, evidence.lengths
    channels = len(found.channels)
    if found.by_form or channels <= lengths.max() or evidence.answers.layout or lengths.max() < 2:
        return []
    seen = f"there are more channels ({channels}) than steps ({lengths.max()})"
    if found.columns:
        return [Doubt(seen, "a column is a channel", f"{answer('layout', 'sequences')} where a row is a sequence")]
    along_steps = np.mean(
        [np.abs(np.diff(sequence, axis=0)).mean() for sequence in found.sequences[:200] if len(sequence) > 1]
    )
    along_channels = np.mean([np.abs(np.diff(sequence, axis=1)).mean() for sequence in found.sequences[:200]])
    stops = bool(along_channels < along_steps)
    smoother = ", and what is taken for channels changes less from one to the next" if stops else ""
    return [
        Doubt(
            seen + smoother,
            "arrays are [n, steps, channels]",
            f"{answer('layout', 'channels_first')} for [n, channels, steps], or {answer('layout', 'steps')}",
            stops,
        )
    ]


def _clocks_in_arrays(evidence: Evidence) -> list[Doubt]:
    found, lengths = evidence.found, evidence.lengths
    if found.by_form or found.columns or len(found.channels) < 2 or lengths.min() < 3:
        return []
    rises = np.diff(evidence.values, axis=0)
    rises = np.delete(rises, evidence.starts[1:] - 1, axis=0)
    # Epochs are so large that float32 may lose some of their steps.
    epochs = np.abs(evidence.values).min(axis=0) >= _EPOCH
    growing = np.where(epochs, (rises >= 0).all(axis=0) & (rises > 0).any(axis=0), (rises > 0).all(axis=0))
    if growing.all():
        return []
    even = epochs | (np.isclose(rises, np.median(rises, axis=0), rtol=1e-3).mean(axis=0) > 0.9)
    named = [
        found.channels[channel] for channel in np.flatnonzero(growing & even) if not evidence.is_said(int(channel))
    ]
    return [
        Doubt(
            f"{name!r} only grows, and evenly, as a clock does",
            "a channel",
            f"{answer('ignore', name)}, or {answer('channels', name)}",
            stops=True,
        )
        for name in named
    ]


def _constant_channels(evidence: Evidence) -> list[Doubt]:
    found = evidence.found
    if len(found.channels) < 2:
        return []
    doubts, plain = [], []
    first = evidence.values[evidence.starts]
    for channel in evidence.constant:
        if evidence.is_said(channel):
            continue
        name, values = found.channels[channel], first[:, channel]
        distinct = np.unique(values)
        whole = bool((distinct == np.round(distinct)).all())
        if len(distinct) == 1:
            doubts.append(Doubt(f"{name!r} is {distinct[0]:g} everywhere", "a channel", answer("ignore", name)))
        elif whole and len(distinct) == len(values) > 2 and not found.by_form:
            doubts.append(
                Doubt(
                    f"{name!r} is a whole number of its own in each of {len(values)} sequences, as an id is",
                    "a channel",
                    f"{answer('ignore', name)}, or {answer('static', name)}",
                    stops=True,
                )
            )
        elif isinstance(found.labels, np.ndarray) and evidence.task != "forecasting" and _says(values, found.labels):
            doubts.append(
                Doubt(
                    f"{name!r} is constant within every sequence and says its label: each of its {len(distinct)} "
                    "values goes with one label",
                    "a channel",
                    f"{answer('ignore', name)}, or {answer('static', name)}",
                    stops=not found.by_form,
                )
            )
        else:
            plain.append(name)
    if plain and len(evidence.lengths) > 1:
        named = ", ".join(map(repr, plain[:_NAMED])) + (", ..." if len(plain) > _NAMED else "")
        seen = f"{named} {'is' if len(plain) == 1 else 'are'} constant within every sequence"
        forecast = " that is forecast" if evidence.task == "forecasting" and not found.forecast else ""
        doubts.append(Doubt(seen, f"a channel{forecast}", answer("static", *plain[:_NAMED])))
    return doubts


def _says(values: NDArray[np.float32], labels: NDArray[np.int64]) -> bool:
    """Whether each of a few values goes with one label."""
    pairs = np.unique(np.stack([values.astype(np.float64), labels]), axis=1).shape[1]
    distinct = len(np.unique(values))
    return pairs == distinct and len(np.unique(labels)) > 1 and distinct <= len(values) / 2


def _almost_equal(evidence: Evidence) -> list[Doubt]:
    found = evidence.found
    channels = min(len(found.channels), _CHANNELS)
    if channels < 2 or len(evidence.values) < 3 or found.by_form:
        return []
    values = evidence.values[:: max(len(evidence.values) // _ROWS, 1), :channels].astype(np.float64)
    varying = np.flatnonzero(values.std(axis=0) > 0)
    if len(varying) < 2 or len(values) < 3:
        return []
    alike = np.abs(np.corrcoef(values[:, varying], rowvar=False)) > _ALMOST
    pairs = [(varying[a], varying[b]) for a, b in np.argwhere(np.triu(alike, 1))]
    if not pairs:
        return []
    named = ", ".join(f"{found.channels[a]!r} and {found.channels[b]!r}" for a, b in pairs[:_NAMED])
    more = f" (and {len(pairs) - _NAMED} pairs more)" if len(pairs) > _NAMED else ""
    seen = f"channels that almost equal each other, but for scale: {named}{more}"
    return [Doubt(seen, "each is a channel", answer("ignore", found.channels[pairs[0][1]]))]


def _labels(evidence: Evidence) -> list[Doubt]:
    found = evidence.found
    if (
        evidence.task not in ("classification", "labelling")
        or evidence.task_said
        or found.declared
        or found.labels is None
    ):
        return []
    codes = np.concatenate(found.labels) if isinstance(found.labels, list) else found.labels
    used, counts = np.unique(codes[codes >= 0], return_counts=True)
    values = [number(found.texts[code]) for code in used]
    if not values or any(value is None or value != int(value) for value in values):
        return []
    whole = sorted({int(value) for value in values if value is not None})
    counted = whole[0] in (0, 1) and whole[-1] - whole[0] == len(whole) - 1 and counts.min() > 1
    doubts = []
    if len(whole) > _MANY_CLASSES and not counted:
        doubts.append(
            Doubt(
                f"the labels are {len(whole)} different whole numbers from {whole[0]} to {whole[-1]}",
                f"classes, to be told apart ({evidence.task})",
                "--task regression for amounts, or --task classification",
                stops=True,
            )
        )
    if whole[0] == -1 and whole[1:2] and whole[1] == 0 and len(whole) > 2:
        seen = f"a label is -1 beside {', '.join(map(str, whole[1:4]))}"
        doubts.append(
            Doubt(seen, "a class like the others", "leave those sequences out where -1 means that there is none")
        )
    return doubts


def _told_by_one_channel(evidence: Evidence) -> list[Doubt]:
    found = evidence.found
    if evidence.task != "classification" or not isinstance(found.labels, np.ndarray) or len(found.channels) < 2:
        return []
    labels, sums = found.labels, np.add.reduceat(evidence.values.astype(np.float64), evidence.starts, axis=0)
    means = sums / evidence.lengths[:, None]
    classes, counts = np.unique(labels, return_counts=True)
    if not 2 <= len(classes) <= 20 or counts.min() < 5:
        return []
    told = []
    for channel in range(min(len(found.channels), _CHANNELS)):
        bounds = sorted(
            (means[labels == each, channel].min(), means[labels == each, channel].max()) for each in classes
        )
        if all(above[0] > below[1] for below, above in pairwise(bounds)):
            told.append(found.channels[channel])
    told = [name for name in told if found.channels.index(name) not in evidence.constant]
    if not told:
        return []
    seen = f"the mean of {told[0]!r} alone tells the {len(classes)} classes apart without an error"
    return [Doubt(seen, "a channel", f"{answer('ignore', told[0])} where it is known only once the label is")]


CHECKS: tuple[Callable[[Evidence], list[Doubt]], ...] = (
    _one_step,
    _channels_before_steps,
    _clocks_in_arrays,
    _constant_channels,
    _almost_equal,
    _labels,
    _told_by_one_channel,
)
"""Each looks at the data in one way. What columns are is doubted in `roles`, the clock where rows are sorted."""
