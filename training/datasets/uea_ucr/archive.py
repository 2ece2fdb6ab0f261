"""A set's zip file: where it comes from, and the two `.ts` files in it."""

import contextlib
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from training.datasets.store.tfds import PreparationFailed
from training.datasets.ts_format import Case, Header, stream_ts


class UnusableArchive(PreparationFailed):
    """A zip file that does not hold what it should."""


def url_of(name: str) -> str:
    """Where the zip file of that set is downloaded.

    Example:
    >>> url_of("ECG5000")
    'https://timeseriesclassification.com/aeon-toolkit/ECG5000.zip'
    """
    return f"https://timeseriesclassification.com/aeon-toolkit/{name}.zip"


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], name: str, split: str) -> Iterator[tuple[Header, Iterator[Case]]]:
    """Read one split from a set's zip file while it is read: nothing is extracted.

    Args:
        path: The zip file.
        name: The set.
        split: "train" or "test".

    Yields:
        What `stream_ts` gives for the split's file.

    Raises:
        UnusableArchive: It is not a zip file, is damaged, or does not hold exactly one `<name>_TRAIN.ts` and one
            `<name>_TEST.ts`.
        MalformedTs: The `.ts` file is malformed.
    """
    wanted = f"{name}_{split.upper()}.ts"
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.namelist() if PurePosixPath(member).name == wanted]
            if len(members) != 1:
                held = ", ".join(sorted(archive.namelist())[:20]) or "nothing"
                raise UnusableArchive(
                    f"{os.fspath(path)} has {len(members)} files {wanted}, expected 1; it holds {held}: "
                    f"delete it and get {url_of(name)} again"
                )
            with io.TextIOWrapper(archive.open(members[0]), encoding="utf-8-sig", errors="replace") as lines:
                yield stream_ts(lines, f"{os.fspath(path)}: {members[0]}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UnusableArchive(
            f"{os.fspath(path)} is damaged or no zip file ({error}): delete it and get {url_of(name)} again"
        ) from error
