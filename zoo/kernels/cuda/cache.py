"""Compiled files that are made once and kept on the disk.

A file is what was made and, behind it, the SHA-256 of that: 32 bytes that no reader of ELF files looks at. One that was
cut off or changed is known by them and made again.
"""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

_DIGEST = hashlib.sha256().digest_size
_instead: dict[Path, Path] = {}  # where a file is that could not be written to its place


def folder() -> Path:
    """Where compiled files are kept.

    Returns:
        `$ZOO_CACHE_DIR/cuda`; without that variable `$XDG_CACHE_HOME/sequence-zoo/cuda`, or that below `~/.cache`.
    """
    zoo_folder = os.environ.get("ZOO_CACHE_DIR")
    shared = os.environ.get("XDG_CACHE_HOME")
    base = Path(zoo_folder) if zoo_folder else (Path(shared) if shared else Path.home() / ".cache") / "sequence-zoo"
    return base.absolute() / "cuda"


def cached(ingredients: Any, suffix: str, make: Callable[[], bytes]) -> Path:
    """The file that was made of `ingredients`, made now where there is none that is whole.

    Several processes may ask for one file at once. Where the folder cannot be written, a warning says so and the file
    goes to a folder of this process, which is removed when the process ends.

    Args:
        ingredients: All that decides what is made, as values that JSON can hold.
        suffix: End of the file's name, such as ".cubin".
        make: Gives what the file holds.

    Example:
    >>> from unittest import mock
    >>> with tempfile.TemporaryDirectory() as place, mock.patch.dict(os.environ, ZOO_CACHE_DIR=place):
    ...     first = cached(["source", "options"], ".txt", lambda: b"made").read_bytes()
    ...     again = cached(["source", "options"], ".txt", lambda: b"never asked").read_bytes()
    >>> first[:4], again == first
    (b'made', True)
    """
    name = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()
    path = folder() / f"{name}{suffix}"
    path = _instead.get(path, path)
    if _is_whole(path):
        return path
    made = make()
    content = made + hashlib.sha256(made).digest()
    try:
        _write(path, content)
    except OSError as error:
        _instead[path] = path = _private_folder(path.parent, error) / path.name
        _write(path, content)
    return path


def _is_whole(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-_DIGEST]).digest() == content[-_DIGEST:]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(prefix=path.stem, suffix=".new", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(fresh).replace(path)  # not flushed: after a power cut, the digest tells
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def _private_folder(wanted: Path, error: OSError) -> Path:
    if _instead:
        return next(iter(_instead.values())).parent
    made = Path(tempfile.mkdtemp(prefix="sequence-zoo-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    warnings.warn(
        f"compiled kernels cannot be kept in {wanted} ({error}), so that every process compiles them anew; "
        "name a folder that can be written in ZOO_CACHE_DIR",
        RuntimeWarning,
        stacklevel=4,
    )
    return made
