"""What a dataset says about itself, and what it hands over."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.suggest import unknown

Split = Literal["train", "test"]


class InvalidExamples(ValueError):
    """Examples that no model can be trained on, or that are not what the dataset's spec promises."""

    exit_code = 1


class UnknownSplit(LookupError):
    """A split name other than "train" or "test"."""

    exit_code = 2


@dataclass(frozen=True)
class Reference:
    """A published figure to compare with.

    Attributes:
        figure: What was measured, on what.
        value: The number, as a share of one where it is an accuracy.
        source: Where it is printed.
    """

    figure: str
    value: float
    source: str


@dataclass(frozen=True)
class Spec:
    """All that can be said about a dataset without reading it.

    Attributes:
        name: Its key in `DATASETS`.
        features: What one step holds, with units and parameters.
        channels: Values per step.
        classes: The label names; label `k` is `classes[k]`.
        lengths: Steps of the shortest and of the longest sequence over all splits.
        counts: Examples per split.
        licence: Licence of the data (not of this project).
        citation: Whom to cite.
        homepage: Where the data comes from.
        split_rule: How an example got into its split.
        references: Published figures on this data; empty where none is known for this split.
        task: What is predicted.
    """

    name: str
    features: str
    channels: int
    classes: tuple[str, ...]
    lengths: tuple[int, int]
    counts: dict[str, int]
    licence: str
    citation: str
    homepage: str
    split_rule: str
    references: tuple[Reference, ...] = ()
    task: str = "classification"


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled sequences of different lengths, checked when made.

    Attributes:
        sequences: One float32 array `[steps, channels]` per example, at least one step, all values finite.
        labels: int64 `[n]`, none negative.
        groups: int64 `[n]` or None. Examples of one group (a speaker, a patient) are never parted by a split.

    Raises:
        InvalidExamples: Something above does not hold; the message names the example's index.

    Example:
    >>> examples = Examples([np.zeros((3, 2), "float32"), np.ones((5, 2), "float32")], np.array([0, 1]))
    >>> len(examples), examples.channels, examples.lengths.tolist()
    (2, 2, [3, 5])
    """

    sequences: list[NDArray[np.float32]]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if not self.sequences:
            raise InvalidExamples("received 0 sequences, expected at least 1: nothing can be learnt from none")
        for index, sequence in enumerate(self.sequences):
            _check_sequence(index, sequence)
            if sequence.shape[1] != self.channels:
                raise InvalidExamples(
                    f"sequence {index} has {sequence.shape[1]} channels, expected {self.channels} as in sequence 0: "
                    "all sequences of a dataset need the same channels"
                )
        _check_integers("labels", self.labels, len(self.sequences))
        if self.groups is not None:
            _check_integers("groups", self.groups, len(self.sequences))
        if self.labels.min() < 0:
            index = int(np.argmin(self.labels))
            raise InvalidExamples(
                f"label of example {index} is {self.labels[index]}, expected 0 or more: "
                "number the classes from 0 and leave out unlabelled examples"
            )

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def channels(self) -> int:
        """Values per step."""
        return int(self.sequences[0].shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of every sequence, `[n]`."""
        return np.array([len(sequence) for sequence in self.sequences], np.int64)

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> "Examples":
        """The examples at `indices`, in that order; the sequences are shared, not copied.

        Args:
            indices: Integer positions, or a boolean mask `[n]`.

        Raises:
            InvalidExamples: No index is given.
            IndexError: An index lies outside.
        """
        chosen = np.arange(len(self))[np.asarray(indices)] if len(indices) else []
        groups = None if self.groups is None else self.groups[chosen]
        return Examples([self.sequences[index] for index in chosen], self.labels[chosen], groups)

    def digest(self) -> str:
        """SHA-256 over values, lengths, labels, groups and order: the same on every machine."""
        digest = hashlib.sha256(f"examples-1:{self.channels}:{self.groups is not None}".encode())
        digest.update(self.lengths.astype("<i8").tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        if self.groups is not None:
            digest.update(self.groups.astype("<i8").tobytes())
        for sequence in self.sequences:
            digest.update(np.ascontiguousarray(sequence, "<f4").data)
        return digest.hexdigest()


class Dataset(ABC):
    """A dataset of the zoo: its spec, and its examples on demand.

    A subclass sets `spec` and implements `_read`. One that keeps prepared data on disk overrides
    `is_prepared` and `prepare` as well.
    """

    spec: Spec

    def load(self, split: Split) -> Examples:
        """Read one split, preparing the data first where that is still to be done.

        Args:
            split: "train" or "test".

        Returns:
            As many examples as the spec says, checked against the spec.

        Raises:
            UnknownSplit: `split` is neither.
            InvalidExamples: What was read is not what the spec promises.
        """
        if split not in self.spec.counts:
            raise UnknownSplit(f"dataset {self.spec.name}: {unknown('split', split, self.spec.counts)}")
        examples = self._read(split)
        _check_against_spec(examples, self.spec, split)
        return examples

    def is_prepared(self) -> bool:
        """Whether `load` can start to read at once."""
        return True

    def prepare(self) -> None:
        """Bring the data into the form that `load` reads. Done already: returns at once."""
        return

    @abstractmethod
    def _read(self, split: Split) -> Examples: ...


def _check_sequence(index: int, sequence: NDArray[np.float32]) -> None:
    received = f"sequence {index} is {type(sequence).__name__}"
    if not isinstance(sequence, np.ndarray) or sequence.dtype != np.float32:
        dtype = getattr(sequence, "dtype", "no dtype")
        raise InvalidExamples(
            f"{received} ({dtype}), expected a float32 array: convert it with np.asarray(x, 'float32')"
        )
    if sequence.ndim != 2 or 0 in sequence.shape:
        raise InvalidExamples(
            f"sequence {index} has shape {sequence.shape}, expected [steps, channels] with at least one of each: "
            "leave out empty sequences, and give one channel as [steps, 1]"
        )
    if not np.isfinite(sequence).all():
        step, channel = np.argwhere(~np.isfinite(sequence))[0]
        raise InvalidExamples(
            f"sequence {index} holds {sequence[step, channel]} at step {step}, channel {channel}, "
            "expected finite values: fill or drop missing values first"
        )


def _check_integers(name: str, values: NDArray[np.int64], count: int) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != np.int64 or values.shape != (count,):
        received = f"{getattr(values, 'dtype', type(values).__name__)} {list(np.shape(values))}"
        raise InvalidExamples(
            f"{name} are {received}, expected int64 [{count}], one per sequence: "
            f"convert them with np.asarray({name}, 'int64')"
        )


def _check_against_spec(examples: Examples, spec: Spec, split: Split) -> None:
    where = f"dataset {spec.name}, split {split}"
    remedy = "prepare the data again, or correct the spec"
    if len(examples) != spec.counts[split]:
        raise InvalidExamples(f"{where}: read {len(examples)} examples, expected {spec.counts[split]}: {remedy}")
    if examples.channels != spec.channels:
        raise InvalidExamples(f"{where}: read {examples.channels} channels, expected {spec.channels}: {remedy}")
    lengths = examples.lengths
    shortest, longest = spec.lengths
    outside = np.flatnonzero((lengths < shortest) | (lengths > longest))
    if outside.size:
        raise InvalidExamples(
            f"{where}: sequence {outside[0]} has {lengths[outside[0]]} steps, "
            f"expected {shortest} to {longest}: {remedy}"
        )
    beyond = np.flatnonzero(examples.labels >= len(spec.classes))
    if beyond.size:
        raise InvalidExamples(
            f"{where}: label of example {beyond[0]} is {examples.labels[beyond[0]]}, "
            f"expected 0 to {len(spec.classes) - 1}: {remedy}"
        )
