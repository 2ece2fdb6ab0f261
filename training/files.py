"""Writes files that a power cut cannot leave half written."""

import os
import uuid
from pathlib import Path

from zoo.files import flush

UNFINISHED = ".incomplete"


def write_safely(path: Path, content: bytes | memoryview) -> None:
    """Write a file completely or not at all.

    The content is written under another name, flushed to the disk, and renamed.

    Args:
        path: The file to write; an existing one is replaced. Its folder must exist.
        content: The bytes to write.

    Raises:
        OSError: The disk is full or cannot be written; what was at `path` is unchanged.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safely(Path(folder) / "note", b"whole")
    ...     (Path(folder) / "note").read_text(), len(os.listdir(folder))
    ('whole', 1)
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    flush(path.parent)  # a rename is lost in a power cut unless the folder is flushed as well
