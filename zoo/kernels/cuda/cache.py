"""Compiled files that are made once and kept on the disk.

At the end of each file is the SHA-256 of the rest: 32 bytes that readers of ELF files ignore. A file that was truncated
or changed is recognised by it and made again.
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
_instead: dict[Path, Path] = {}  # the replacement of each file that could not be written to its place


def folder() -> Path:
    """The folder of compiled files.

    Returns:
        `$ZOO_CACHE_DIR/cuda`; else `$XDG_CACHE_HOME/sequence-zoo/cuda`; else `~/.cache/sequence-zoo/cuda`.
    """
    zoo_folder = os.environ.get("ZOO_CACHE_DIR")
    shared = os.environ.get("XDG_CACHE_HOME")
    base = Path(zoo_folder) if zoo_folder else (Path(shared) if shared else Path.home() / ".cache") / "sequence-zoo"
    return base.absolute() / "cuda"


def cached(ingredients: Any, suffix: str, make: Callable[[], bytes]) -> Path:
    """The file that is made of `ingredients`, which is made now unless it exists and is complete.

    Several processes may request one file at once. If the folder cannot be written, there is a warning, and the file
    goes to a folder of this process, which is removed when the process ends.

    Args:
        ingredients: Everything that decides the content, as values that JSON can hold.
        suffix: End of the file's name, such as ".cubin".
        make: Function that returns the content.

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
    # Written beside its place and then moved there, so that no other process reads half a file.
    descriptor, fresh = tempfile.mkstemp(prefix=path.stem, suffix=".new", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(fresh).replace(path)  # not flushed: after a power cut the digest does not match
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def _private_folder(preferred: Path, error: OSError) -> Path:
    if _instead:
        return next(iter(_instead.values())).parent
    made = Path(tempfile.mkdtemp(prefix="sequence-zoo-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    warnings.warn(
        f"compiled kernels cannot be kept in {preferred} ({error}), so every process compiles them again; "
        "set ZOO_CACHE_DIR to a folder that can be written",
        RuntimeWarning,
        stacklevel=4,
    )
    return made
