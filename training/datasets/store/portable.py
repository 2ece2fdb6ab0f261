"""Datasets brought from a machine that can prepare them to one that cannot, as plain arrays.

    <data directory>/carried/<name>/spec.json  train/  test/  ...

TensorFlow Datasets prepares, and needs TensorFlow. What it has prepared is written here part by part, kept as in
`row_store.py`, and read back under the same name where the dataset is not prepared: the same values, labels, groups,
vocabulary and order, to the bit.
"""

import dataclasses
import importlib.util
import inspect
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from training.datasets.base import Dataset, Examples, Reference, Spec
from training.datasets.store import rows as row_store, tfds as tfds_store
from training.files import write_safely

_SPEC = "spec.json"
_PARTS = ("train", "validation", "test")


class Portable(row_store.RowsDataset):
    """A dataset that was brought here.

    Args:
        folder: From `carry`.
        original: The dataset that it was made of, which says what can be said without reading it.

    Raises:
        PreparationFailed: What was brought is damaged, or of another version of the dataset.
    """

    def __init__(self, folder: Path, original: Dataset) -> None:
        self.folder = folder
        self.spec = _read_spec(folder / _SPEC)
        self.parts = {part: None for part in _PARTS if row_store.is_made(folder / part)}  # type: ignore[misc]
        self.tokens = getattr(original, "tokens", None)
        known = inspect.getattr_static(original, "spec")  # of some datasets it is read from the prepared data
        if isinstance(known, Spec) and known != self.spec:
            raise tfds_store.PreparationFailed(
                f"{folder} holds another version of {known.name} than this one of the zoo: carry it here again"
            )

    def folders(self) -> Sequence[Path]:
        return [self.folder]

    def _folder(self, part: str) -> Path:
        return self.folder / part

    def _part(self, part: str) -> Examples:
        return row_store.read(self._folder(part))


def carry(dataset: Dataset, to: Path) -> Path:
    """Write the examples of `dataset`, prepared first where that has not been done, for another machine.

    Args:
        dataset: From `training.datasets.get`.
        to: What `TFDS_DATA_DIR` is to name there.

    Returns:
        The folder that was written, in place of an older one.

    Raises:
        PreparationFailed: The dataset cannot be prepared here, or the disk is full.
    """
    folder = to / "carried" / dataset.spec.name
    if isinstance(dataset, Portable) and folder.resolve() == dataset.folder.resolve():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for part in _PARTS:
        examples, stored = _examples(dataset, part), dataset.stored_rows(part)
        if stored is not None:
            shutil.copytree(stored, folder / part)  # what has just been read, so it is whole
        elif examples is not None:
            _keep(folder / part, examples)
    # Written last: what is half written is not read.
    write_safely(folder / _SPEC, json.dumps(dataclasses.asdict(dataset.spec), indent=2).encode())
    return folder


def instead_of(dataset: Dataset, name: str) -> Dataset:
    """What was brought here under `name`, where the dataset itself is not prepared; else the dataset."""
    if dataset.is_prepared():
        return dataset
    folder = tfds_store.data_directory() / "carried" / name
    return Portable(folder, dataset) if (folder / _SPEC).is_file() else dataset


@contextmanager
def where_prepared(name: str) -> Iterator[None]:
    """Say how a dataset gets here where it cannot be prepared.

    Raises:
        PreparationFailed: The block needed TensorFlow or TensorFlow Datasets, and they are not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        needed = [package for package in ("tensorflow", "tensorflow_datasets") if not importlib.util.find_spec(package)]
        if error.name not in needed:
            raise
        raise tfds_store.PreparationFailed(
            f"{name} is not prepared here, and preparing it takes {' and '.join(needed)}. Where that is installed: "
            f"zoo datasets carry {name} --to FOLDER; then bring FOLDER here and let TFDS_DATA_DIR name it"
        ) from error


def _examples(dataset: Dataset, part: str) -> Examples | None:
    if part == "validation":
        return dataset.validation()
    return dataset.load("train" if part == "train" else "test", in_memory=False)


def _keep(folder: Path, examples: Examples) -> None:
    def rows() -> Iterator[row_store.Row]:
        targets, groups = examples.targets, examples.groups
        for index, sequence in enumerate(examples.sequences):
            target: Any = None if targets is None else targets[index]
            group = None if groups is None else int(groups[index])
            yield row_store.Row(sequence, int(target) if isinstance(target, np.integer) else target, group)

    vocabulary = examples.vocabulary
    row_store.read_or_make(folder, rows, None if vocabulary is None else lambda: vocabulary)


def _read_spec(path: Path) -> Spec:
    try:
        about: dict[str, Any] = json.loads(path.read_text())
        about |= {name: tuple(about[name]) for name in ("classes", "outputs")}
        about["lengths"] = None if about["lengths"] is None else tuple(about["lengths"])
        about["references"] = tuple(Reference(**reference) for reference in about["references"])
        return Spec(**about)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise tfds_store.PreparationFailed(f"{path} is damaged ({error}): carry the dataset here again") from error
