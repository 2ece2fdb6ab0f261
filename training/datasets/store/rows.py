"""Examples packed into a few files: written once, row by row, then read whole or mapped into memory.

    <folder>/values.bin  targets.bin  lengths.npy  ...  packed.json

`packed.json` names every file with its size and SHA-256, and holds its own. The folder appears under its name when it
is complete, and what it holds is compared with `packed.json` whenever it is opened, so half-written or damaged data is
never read.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Dataset, Examples, InvalidExamples, Slices, Split
from training.datasets.store.tfds import PreparationFailed, data_directory
from zoo.files import flush

_FORMAT = 1

# Written last, with the size and hash of every other file.
_DESCRIPTION = "packed.json"


@dataclass(frozen=True)
class Row:
    """One example on its way to the file.

    Attributes:
        sequence: float32 `[steps, channels]`, or int32 `[steps]` of tokens.
        target: As in `Examples`, of this example: an int, int64 `[steps]`, float32 `[outputs]` or
            `[horizon, outputs]`, or None.
        group: The speaker, the patient, or None.
    """

    sequence: NDArray[Any]
    target: Any = None
    group: int | None = None


def read_or_make(
    folder: Path, make: Callable[[], Iterable[Row]], vocabulary: Callable[[], tuple[str, ...]] | None = None
) -> Examples:
    """The examples in `folder`, made first where that has not been done.

    Args:
        folder: Where they are kept. Its name should change with everything that they depend on.
        make: Gives the rows, one after the other; only one is held at a time.
        vocabulary: Gives the vocabulary, of text only; asked after the last row.

    Returns:
        `Examples` whose sequences are mapped from the file: what does not fit into memory is read as it is needed.

    Raises:
        PreparationFailed: The disk is full or cannot be written, or what is kept is damaged.
        InvalidExamples: `make` gave no row, rows of different kinds, or what are no `Examples`; nothing is kept then.
    """
    if folder.exists():
        # Checked second: the folder is renamed into place once complete, so it never appears without this file.
        if not is_made(folder):
            raise PreparationFailed(
                f"{folder} exists without packed.json, so it is not complete: delete that folder and run again"
            )
        return read(folder)
    unfinished = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.incomplete")
    try:
        unfinished.mkdir(parents=True)
        _write(unfinished, make(), vocabulary)
        examples = _read(unfinished, Examples)  # checked value by value before it is kept, and never again
        return examples if _publish(unfinished, folder) else read(folder)
    except OSError as error:
        raise PreparationFailed(
            f"cannot write {folder} ({type(error).__name__}: {error}): see that the folder can be written and has "
            "space (TFDS_DATA_DIR names another)"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def is_made(folder: Path) -> bool:
    """Whether the folder is complete; does not read the files."""
    return (folder / _DESCRIPTION).is_file()


def read(folder: Path) -> Examples:
    """The examples in `folder`, which were checked before they were kept: only the hashes of the files are compared.

    Raises:
        PreparationFailed: A file is not as `packed.json` says.
    """
    return _read(folder, Examples.trusted)


def _read(folder: Path, make: Callable[..., Examples]) -> Examples:
    try:
        about = json.loads((folder / _DESCRIPTION).read_text())
        if about["format"] != _FORMAT:
            raise ValueError(f"format {about['format']}, expected {_FORMAT}")
        if about.pop("sha256") != _digest(about):
            raise ValueError("the SHA-256 in packed.json does not match its content")
        for name, expected in about["files"].items():
            _check_file(folder / name, expected)
        lengths = np.load(folder / "lengths.npy")
        slices = Slices(_mapped(folder / "values.bin", about["values"]), np.cumsum(lengths) - lengths, lengths)
        return make(
            slices,
            _targets(folder, about, slices),
            np.load(folder / "groups.npy") if about["groups"] else None,
            tuple(about["vocabulary"]) if about["vocabulary"] is not None else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InvalidExamples):
            raise
        raise PreparationFailed(
            f"the data kept in {folder} is damaged ({type(error).__name__}: {error}): delete that folder and run again"
        ) from error


class RowsDataset(Dataset):
    """A dataset whose parts are kept row by row, each in a folder of its own.

    A subclass sets `spec`, implements `_made_of` and `_rows`, and says what differs from the values here:

    Attributes:
        parts: What is kept, by name: "train", "test" and, where there is a part that is set aside for validation,
            "validation"; to each whatever the subclass wants to know of it.
        source: The TFDS builder that the rows are made from; "" for one of the dataset's own name.
        kept_as: The folder under "packed" that holds them; "" for one of the dataset's own name.
    """

    parts: ClassVar[Mapping[str, Any]] = {"train": "train", "test": "test"}
    source: str = ""
    kept_as: str = ""

    def validation(self) -> Examples | None:
        """The part for validation, where there is one."""
        return self._part("validation").in_memory() if "validation" in self.parts else None

    def marks(self) -> Sequence[Path]:
        return [self._folder(part) / _DESCRIPTION for part in self.parts]

    def folders(self) -> Sequence[Path]:
        return [data_directory() / (self.source or self.spec.name), self._root()]

    def stored_rows(self, part: str) -> Path | None:
        return self._folder(part) if part in self.parts else None

    def prepare(self) -> None:
        for part in self.parts:
            if not is_made(self._folder(part)):
                self._part(part)

    def _read(self, split: Split) -> Examples:
        return self._part(split)

    def _root(self) -> Path:
        return data_directory() / "packed" / (self.kept_as or self.spec.name)

    def _folder(self, part: str) -> Path:
        return self._root() / self._made_of() / part

    def _part(self, part: str) -> Examples:
        return read_or_make(self._folder(part), lambda: self._rows(part))

    def _made_of(self) -> str:
        """All that the rows depend on, as the name of a folder."""
        raise NotImplementedError

    def _rows(self, part: str) -> Iterable[Row]:
        """The rows of a part, one after the other."""
        raise NotImplementedError


def _write(folder: Path, rows: Iterable[Row], vocabulary: Callable[[], tuple[str, ...]] | None) -> None:
    lengths: list[int] = []
    scalars: list[int] = []
    groups: list[int] = []
    kinds: set[Any] = set()
    with (folder / "values.bin").open("wb") as values, (folder / "targets.bin").open("wb") as targets:
        for row in rows:
            target = _target(row, len(lengths))
            kinds.add((_kind(row.sequence), _target_kind(target), row.group is None))
            if len(kinds) > 1:
                raise InvalidExamples(f"row {len(lengths)} differs in kind from the rows before it: {kinds}")
            values.write(np.ascontiguousarray(row.sequence).data)
            lengths.append(len(row.sequence))
            if isinstance(target, int):
                scalars.append(target)
            elif target is not None:
                targets.write(np.ascontiguousarray(target).data)
            if row.group is not None:
                groups.append(row.group)
    if not lengths:
        raise InvalidExamples("received 0 sequences, expected at least 1: nothing can be learnt from none")
    [(value_kind, target_kind, ungrouped)] = kinds
    np.save(folder / "lengths.npy", np.array(lengths, np.int64))
    if scalars:
        np.save(folder / "labels.npy", np.array(scalars, np.int64))
    if not ungrouped:
        np.save(folder / "groups.npy", np.array(groups, np.int64))
    about = {
        "format": _FORMAT,
        "values": value_kind,
        "targets": target_kind,
        "groups": not ungrouped,
        "vocabulary": vocabulary() if vocabulary else None,
        "files": {path.name: _described(path) for path in sorted(folder.iterdir())},
    }
    (folder / _DESCRIPTION).write_text(json.dumps({**about, "sha256": _digest(about)}, indent=2) + "\n")


def _target(row: Row, index: int) -> Any:
    """The target as an int, an array or None; what lies in one file must have the size that is read again."""
    if not len(row.sequence):
        raise InvalidExamples(f"row {index} has no steps, expected at least one: leave out empty sequences")
    if row.target is None or isinstance(row.target, int):
        return row.target
    target = np.asarray(row.target)
    if target.dtype.kind == "i" and (target.dtype != np.int64 or target.shape != row.sequence.shape[:1]):
        raise InvalidExamples(
            f"the target of row {index} is {target.dtype} {list(target.shape)}, expected an int, or int64 "
            f"[{len(row.sequence)}], a label a step"
        )
    return target


def _kind(array: NDArray[Any]) -> tuple[str, tuple[int, ...]]:
    """What all steps of all sequences have in common."""
    return array.dtype.str, array.shape[1:]


def _target_kind(target: Any) -> tuple[str, tuple[int, ...]] | str | None:
    if target is None:
        return None
    if isinstance(target, int):
        return "label"
    # Labels a step are as many as the steps; numbers to predict have one shape.
    return "labels" if target.dtype.kind == "i" else (target.dtype.str, target.shape)


def _targets(folder: Path, about: dict[str, Any], slices: Slices) -> Any:
    kind = about["targets"]
    if kind is None:
        return None
    if kind == "label":
        return np.load(folder / "labels.npy")
    if kind == "labels":
        return Slices(_mapped(folder / "targets.bin", ("<i8", ())), slices.starts, slices.lengths)
    return np.fromfile(folder / "targets.bin", kind[0]).reshape(-1, *kind[1])


def _mapped(path: Path, kind: Any) -> NDArray[Any]:
    dtype, tail = np.dtype(kind[0]), tuple(kind[1])
    steps = path.stat().st_size // (dtype.itemsize * int(np.prod(tail, dtype=np.int64)))
    return np.memmap(path, dtype, mode="r", shape=(steps, *tail))


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _check_file(path: Path, expected: dict[str, Any]) -> None:
    received = _described(path)
    if received != expected:
        raise ValueError(f"{path.name} is {received}, expected {expected}")


def _publish(unfinished: Path, folder: Path) -> bool:
    """Give the folder its name; False where another process has made the same meanwhile."""
    for path in [*unfinished.iterdir(), unfinished]:
        flush(path)
    try:
        os.rename(unfinished, folder)
    except OSError:
        if not is_made(folder):
            raise
        return False
    return True


def tracked(rows: Iterable[Row], total: int, what: str) -> Iterator[Row]:
    """The same rows, with progress and the time left on stderr."""
    from rich.console import Console
    from rich.progress import track

    return iter(track(rows, f"preparing {what}", total=total, console=Console(stderr=True), transient=True))
