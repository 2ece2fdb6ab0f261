"""The zip file in the zip file, and the text files in that."""

import contextlib
import hashlib
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.datasets.store.tfds import PreparationFailed

URL = "https://archive.ics.uci.edu/static/public/240/human+activity+recognition+using+smartphones.zip"
INNER = "UCI HAR Dataset.zip"
INNER_SHA256 = "2045e435c955214b38145fb5fa00776c72814f01b203fec405152dac7d5bfeb0"
SIGNALS = tuple(f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
STEPS = 128
CLASSES, SUBJECTS = 6, 30


class UnusableArchive(PreparationFailed):
    """An archive that does not hold what it should."""


class Window(NamedTuple):
    """One example.

    Attributes:
        series: float32 `[128, 9]`, channels in the order of `SIGNALS`.
        label: 0 to 5.
        subject: Who wore the phone, 1 to 30.
    """

    series: NDArray[np.float32]
    label: int
    subject: int


def read_inner(path: str | os.PathLike[str]) -> bytes:
    """The inner zip file, 61 MB.

    Raises:
        UnusableArchive: The outer one is damaged or does not hold it, or its SHA-256 is another.
    """
    with _told(path), zipfile.ZipFile(path) as outer:
        if INNER not in outer.namelist():
            raise UnusableArchive(f"{path} holds {_listed(outer)}, expected {INNER}: {_REMEDY}")
        content = outer.read(INNER)
    received = hashlib.sha256(content).hexdigest()
    if received != INNER_SHA256:
        raise UnusableArchive(f"{INNER} in {path} has SHA-256 {received}, expected {INNER_SHA256}: {_REMEDY}")
    return content


def read_split(content: bytes, split: str) -> Iterator[Window]:
    """The windows of one split, in the order of the files.

    Args:
        content: The inner zip file.
        split: "train" or "test".

    Raises:
        UnusableArchive: A file is missing, ends too early, or holds something else than numbers; the message says
            which file, and where.
    """
    folder = f"UCI HAR Dataset/{split}"
    names = [f"{folder}/Inertial Signals/{signal}_{split}.txt" for signal in SIGNALS]
    names += [f"{folder}/y_{split}.txt", f"{folder}/subject_{split}.txt"]
    with _told(INNER), contextlib.ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(io.BytesIO(content)))
        if missing := [name for name in names if name not in archive.namelist()]:
            raise UnusableArchive(f"{INNER} holds {_listed(archive)}, expected {missing[0]} too: {_REMEDY}")
        files = [stack.enter_context(io.TextIOWrapper(archive.open(name), "ascii", "replace")) for name in names]
        for number, lines in enumerate(zip_longest(*files), 1):
            if None in lines:
                raise UnusableArchive(
                    f"{names[lines.index(None)]} ends before line {number}, expected as many lines as in the files "
                    f"beside it: {_REMEDY}"
                )
            places = [f"{name}, line {number}" for name in names]
            *signals, label, subject = zip(places, lines, strict=True)
            yield Window(
                np.stack([_values(*signal) for signal in signals], axis=1),
                _whole(*label, CLASSES) - 1,
                _whole(*subject, SUBJECTS),
            )


def _values(place: str, line: str) -> NDArray[np.float32]:
    fields = line.split()
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        raise UnusableArchive(f"{place}: {error}, expected {STEPS} numbers: {_REMEDY}") from None
    if len(values) != STEPS or not all(map(math.isfinite, values)):
        finite = sum(map(math.isfinite, values))
        raise UnusableArchive(f"{place}: received {finite} finite numbers, expected {STEPS}: {_REMEDY}")
    return np.array(values, np.float64).astype(np.float32)


def _whole(place: str, line: str, highest: int) -> int:
    text = line.strip()
    if not text.isdecimal() or not 1 <= int(text) <= highest:
        raise UnusableArchive(f"{place}: received {text!r}, expected a whole number from 1 to {highest}: {_REMEDY}")
    return int(text)


@contextlib.contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what zipfile raises into a sentence."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UnusableArchive(f"{path} is damaged or no zip file ({error}): {_REMEDY}") from error


def _listed(archive: zipfile.ZipFile) -> str:
    return ", ".join(sorted(archive.namelist())[:20]) or "nothing"


_REMEDY = f"delete the archive and get {URL} again"
