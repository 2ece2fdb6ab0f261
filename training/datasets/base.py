"""The interface of datasets: their description and their examples."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.datasets.targets import (
    TARGETS,
    InvalidExamples as InvalidExamples,
    Targets,
    Task as Task,
    check_integers,
    kind_of,
)
from zoo.suggest import unknown

Split = Literal["train", "test"]
PADDING, UNKNOWN = "", "[UNK]"
"""The first two entries of every vocabulary, as Keras's `TextVectorization` has them."""


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
    """The description of a dataset, known without reading it.

    Attributes:
        name: Its key in `DATASETS`.
        features: What one step holds, with units and parameters.
        channels: Values per step; 1 for text, whose steps are tokens.
        classes: Classification and labelling: the label names; label `k` is `classes[k]`.
        lengths: Steps of the shortest and of the longest sequence over all splits; None where they are not known.
        counts: Examples per split.
        licence: Licence of the data (not of this project).
        citation: Whom to cite.
        homepage: Where the data comes from.
        split_rule: How an example got into its split.
        references: Published figures on this data; empty where none is known for this split.
        task: What is predicted. "classification": a label for each sequence. "labelling": a label for each step.
            "regression": `outputs` numbers for each sequence. "forecasting": the `horizon` steps after the sequence,
            `outputs` numbers each. "language_model": at each step the next token.
        outputs: Regression and forecasting: the names of the predicted numbers, with units.
        horizon: Forecasting: how many steps ahead.
        text: Steps are tokens, whose vocabulary the examples bring along.
        summary: In a few words what the data is, for the list of all datasets.
        needs: What has to be there before it can be prepared.
    """

    name: str
    features: str
    channels: int
    classes: tuple[str, ...]
    lengths: tuple[int, int] | None
    counts: dict[str, int]
    licence: str
    citation: str
    homepage: str
    split_rule: str
    references: tuple[Reference, ...] = ()
    task: Task = "classification"
    outputs: tuple[str, ...] = ()
    horizon: int = 1
    text: bool = False
    # Not compared: they say nothing about the data, and stored descriptions may lack them.
    summary: str = field(default="", compare=False)
    needs: str = field(default="nothing", compare=False)


class Slices(Sequence[NDArray[Any]]):
    """Sequences that lie one behind the other in one array, which may be a file mapped into memory.

    Args:
        values: `[all steps, channels]`, or `[all steps]` of tokens.
        starts: Where each sequence begins, `[n]`.
        lengths: Its steps, `[n]`.

    Example:
    >>> slices = Slices(np.arange(5.0)[:, None], np.array([0, 2]), np.array([2, 3]))
    >>> len(slices), slices[1][:, 0].tolist()
    (2, [2.0, 3.0, 4.0])
    """

    def __init__(self, values: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self.values, self.starts, self.lengths = values, starts, lengths

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice | np.ndarray):
            return Slices(self.values, self.starts[index], self.lengths[index])
        return self.values[self.starts[index] : self.starts[index] + self.lengths[index]]

    @classmethod
    def of(cls, sequences: Sequence[NDArray[Any]]) -> "Slices":
        """The same sequences, behind one another."""
        if isinstance(sequences, Slices):
            return sequences
        lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        return cls(np.concatenate(sequences), np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True, eq=False)
class Examples:
    """Sequences of different lengths and what is to be predicted of them, checked when made.

    Attributes:
        sequences: Per example float32 `[steps, channels]`, all values finite, or, with a vocabulary, int32 `[steps]`,
            indices into it. At least one step. A list, or `Slices`.
        targets: What is predicted, by the task of the spec. Classification: int64 `[n]`, none negative. Labelling: a
            list or `Slices` of int64 `[steps]`, one for each sequence and as long as it; -1 where a step has no label.
            Regression: float32 `[n, outputs]`. Forecasting: float32 `[n, horizon, outputs]`. Language model: None.
        groups: int64 `[n]` or None. Examples of one group (a speaker, a patient) are never parted by a split.
        spans: int64 `[n, 3]` or None: of windows that are cut from longer series to be forecast, which series, and the
            first step of the window and the one behind the last step to be predicted. They are split in time.
        vocabulary: The text of each token, of text only; it begins with `PADDING` and `UNKNOWN`.

    Raises:
        InvalidExamples: Something above does not hold; the message names the example's index.

    Example:
    >>> examples = Examples([np.zeros((3, 2), "float32"), np.ones((5, 2), "float32")], np.array([0, 1]))
    >>> len(examples), examples.channels, examples.lengths.tolist()
    (2, 2, [3, 5])
    """

    sequences: Sequence[NDArray[Any]]
    targets: Any = None
    groups: NDArray[np.int64] | None = None
    vocabulary: tuple[str, ...] | None = None
    spans: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if not len(self.sequences):
            raise InvalidExamples("received 0 sequences, expected at least 1: nothing can be learnt from none")
        tokens = None if self.vocabulary is None else len(self.vocabulary)
        if self.vocabulary is not None and self.vocabulary[:2] != (PADDING, UNKNOWN):
            raise InvalidExamples(
                f"the vocabulary begins with {self.vocabulary[:2]}, expected {(PADDING, UNKNOWN)}: token 0 stands for "
                "padding and 1 for what is not in the vocabulary"
            )
        for index, sequence in enumerate(self.sequences):
            if tokens is None:
                _check_sequence(index, sequence)
            else:
                _check_tokens(index, sequence, tokens)
            if tokens is None and sequence.shape[1] != self.channels:
                raise InvalidExamples(
                    f"sequence {index} has {sequence.shape[1]} channels, expected {self.channels} as in sequence 0: "
                    "all sequences of a dataset need the same channels"
                )
        if self.groups is not None:
            check_integers("groups", self.groups, len(self.sequences))
        if self.spans is not None and self.spans.shape != (len(self.sequences), 3):
            raise InvalidExamples(
                f"spans are {list(self.spans.shape)}, expected [{len(self.sequences)}, 3]: series, first step and end "
                "of every example"
            )
        self.kind.check(self.targets, self.lengths)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def channels(self) -> int:
        """Values per step; 1 for text."""
        return 1 if self.vocabulary is not None else int(self.sequences[0].shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of every sequence, `[n]`."""
        if isinstance(self.sequences, Slices):
            return self.sequences.lengths
        return np.array([len(sequence) for sequence in self.sequences], np.int64)

    @property
    def kind(self) -> Targets:
        """What kind of targets these are."""
        return kind_of(self.targets)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The targets of a classification, `[n]`."""
        return np.asarray(self.targets)

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> "Examples":
        """The examples at `indices`, in that order; the sequences are shared, not copied.

        Args:
            indices: Integer positions, or a boolean mask `[n]`.

        Raises:
            InvalidExamples: No index is given.
            IndexError: An index lies outside.
        """
        chosen = np.arange(len(self))[np.asarray(indices)] if len(indices) else np.array([], np.int64)
        if not len(chosen):
            raise InvalidExamples("received 0 sequences, expected at least 1: nothing can be learnt from none")
        return self._unchecked(
            sequences=_chosen(self.sequences, chosen),
            targets=None if self.targets is None else _chosen(self.targets, chosen),
            groups=None if self.groups is None else self.groups[chosen],
            spans=None if self.spans is None else self.spans[chosen],
        )

    def in_memory(self) -> "Examples":
        """Copy the examples into memory, so that none of them stays in a file."""
        loaded = {name: _loaded(value) for name, value in (("sequences", self.sequences), ("targets", self.targets))}
        unchanged = loaded["sequences"] is self.sequences and loaded["targets"] is self.targets
        return self if unchanged else self._unchecked(**loaded)

    def _unchecked(self, **changes: Any) -> "Examples":
        # What was checked once need not be read again.
        fields = {name: getattr(self, name) for name in ("sequences", "targets", "groups", "vocabulary", "spans")}
        return Examples.trusted(**{**fields, **changes})

    @classmethod
    def trusted(
        cls,
        sequences: Sequence[NDArray[Any]],
        targets: Any = None,
        groups: NDArray[np.int64] | None = None,
        vocabulary: tuple[str, ...] | None = None,
        spans: NDArray[np.int64] | None = None,
    ) -> "Examples":
        """Examples that are known to be right, since they were checked before they were kept: none of them is read."""
        made = object.__new__(cls)
        fields = {
            "sequences": sequences,
            "targets": targets,
            "groups": groups,
            "vocabulary": vocabulary,
            "spans": spans,
        }
        for name, value in fields.items():
            object.__setattr__(made, name, value)
        return made

    def digest(self) -> str:
        """SHA-256 over values, lengths, targets, groups, vocabulary and order: the same on every machine."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(f"examples-1:{self.channels}:{self.groups is not None}".encode())
        digest.update(self.lengths.astype("<i8").tobytes())
        for content in self.kind.content(self.targets):
            digest.update(content)
        if self.groups is not None:
            digest.update(self.groups.astype("<i8").tobytes())
        if self.vocabulary is not None:
            digest.update("\0".join(self.vocabulary).encode())
        for sequence in self.sequences:
            digest.update(np.ascontiguousarray(sequence, "<f4" if self.vocabulary is None else "<i4").data)
        return digest.hexdigest()


def _loaded(value: Any) -> Any:
    if isinstance(value, Slices) and isinstance(value.values, np.memmap):
        return Slices(np.array(value.values), value.starts, value.lengths)
    return value


def _chosen(items: Any, indices: NDArray[np.int64]) -> Any:
    return items[indices] if isinstance(items, Slices | np.ndarray) else [items[index] for index in indices]


class Dataset(ABC):
    """A dataset of the zoo: its spec, and its examples on demand.

    A subclass sets `spec` and implements `_read`. One that keeps prepared data on disk subclasses `RowsDataset` or
    `TfdsDataset` of `training.datasets.store`, which say where it lies.
    """

    spec: Spec

    def load(self, split: Split, in_memory: bool = True) -> Examples:
        """Read one split, preparing the data first where that is still to be done.

        Args:
            split: "train" or "test".
            in_memory: Read everything now. Otherwise a dataset that is kept packed stays in its file, and what is
                needed is read when it is needed.

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
        return examples.in_memory() if in_memory else examples

    def validation(self) -> Examples | None:
        """The examples that the dataset itself sets aside for choosing a model, in memory.

        None, as here, of a dataset that has no such part: the pipeline then sets one aside from train.
        """
        return None

    def marks(self) -> Sequence[Path]:
        """The files that are there once the data is prepared, completely; none where there is nothing to prepare."""
        return ()

    def folders(self) -> Sequence[Path]:
        """The folders in which this dataset's data lies, or would lie."""
        return ()

    def stored_rows(self, part: str) -> Path | None:
        """The folder of `store.rows` that holds exactly the examples of `part`; `None` where they are made of it."""
        return None

    def is_prepared(self) -> bool:
        """Whether `load` can start to read at once; looks for files and reads none."""
        return all(mark.is_file() for mark in self.marks())

    def bytes_on_disk(self) -> int:
        """The size of everything in `folders`."""
        files = (file for folder in self.folders() for file in folder.rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in files)

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


def _check_tokens(index: int, sequence: NDArray[np.int32], tokens: int) -> None:
    if not isinstance(sequence, np.ndarray) or sequence.dtype != np.int32 or sequence.ndim != 1 or not len(sequence):
        received = f"{getattr(sequence, 'dtype', type(sequence).__name__)} {list(np.shape(sequence))}"
        raise InvalidExamples(
            f"sequence {index} is {received}, expected int32 [steps] with at least one step: "
            "indices into the vocabulary"
        )
    if sequence.min() < 1 or sequence.max() >= tokens:
        wrong = sequence[(sequence < 1) | (sequence >= tokens)][0]
        raise InvalidExamples(
            f"sequence {index} holds token {wrong}, expected 1 to {tokens - 1}: 0 is for padding, 1 for what is not "
            "in the vocabulary"
        )


def _check_against_spec(examples: Examples, spec: Spec, split: Split) -> None:
    where = f"dataset {spec.name}, split {split}"
    remedy = "prepare the data again, or correct the spec"
    if len(examples) != spec.counts[split]:
        raise InvalidExamples(f"{where}: read {len(examples)} examples, expected {spec.counts[split]}: {remedy}")
    if (examples.vocabulary is not None) != spec.text:
        raise InvalidExamples(f"{where}: text is {examples.vocabulary is not None}, expected {spec.text}: {remedy}")
    if examples.channels != spec.channels:
        raise InvalidExamples(f"{where}: read {examples.channels} channels, expected {spec.channels}: {remedy}")
    lengths = examples.lengths
    shortest, longest = spec.lengths or (1, int(lengths.max()))
    outside = np.flatnonzero((lengths < shortest) | (lengths > longest))
    if outside.size:
        raise InvalidExamples(
            f"{where}: sequence {outside[0]} has {lengths[outside[0]]} steps, "
            f"expected {shortest} to {longest}: {remedy}"
        )
    _check_targets_against_spec(examples, spec, f"{where}: ", remedy)


def _check_targets_against_spec(examples: Examples, spec: Spec, where: str, remedy: str) -> None:
    kind = examples.kind
    expected = TARGETS[spec.task].shape(len(spec.outputs), spec.horizon)
    received = kind.received(examples.targets)
    if received != expected:
        raise InvalidExamples(f"{where}targets are {received}, expected {expected} of a {spec.task}: {remedy}")
    highest = kind.highest(examples.targets)
    beyond = np.flatnonzero(highest >= len(spec.classes))
    if beyond.size:
        raise InvalidExamples(
            f"{where}label of example {beyond[0]} is {highest[beyond[0]]}, "
            f"expected 0 to {len(spec.classes) - 1}: {remedy}"
        )
