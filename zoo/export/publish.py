"""Publishes a version atomically: it is complete and on disk, or not there at all."""

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from zoo.files import flush

_HIDDEN = ".writing-"


@contextlib.contextmanager
def hidden_folder(directory: Path) -> Iterator[Path]:
    """A new hidden folder in `directory`, removed at the end unless `publish` has renamed it.

    Folders of writers that were killed are removed first. A writer holds a lock on its folder while it runs, so the
    folders of other exports in progress stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _sweep(directory)
    hidden, descriptor = _claim(directory)
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(descriptor)


def _claim(directory: Path) -> tuple[Path, int]:
    while True:
        hidden = directory / f"{_HIDDEN}{uuid.uuid4().hex}"
        hidden.mkdir()
        # Before it is locked, another export may treat the folder as abandoned: then that export has the lock, or the
        # folder is gone.
        try:
            descriptor = os.open(hidden, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if _locked(descriptor) and hidden.exists():
            return hidden, descriptor
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(directory: Path) -> None:
    for left in directory.glob(f"{_HIDDEN}*"):
        try:
            descriptor = os.open(left, os.O_RDONLY)
        except OSError:  # its writer has just published or removed it
            continue
        try:
            if _locked(descriptor):
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(descriptor)


def publish(hidden: Path, directory: Path) -> Path:
    """Flush to disk, then rename to the next free version; a version that exists is never touched."""
    for path in [*hidden.rglob("*"), hidden]:
        flush(path)
    while True:
        taken = [int(child.name) for child in directory.iterdir() if child.name.isdecimal()]
        target = directory / str(max(taken, default=0) + 1)
        try:
            # Atomic, and an error if another export has taken the number since: a folder cannot replace a full one.
            os.rename(hidden, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue
            raise
        flush(directory)
        return target
