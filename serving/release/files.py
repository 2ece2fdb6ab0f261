"""Files that a power cut cannot leave half written."""

import os
import uuid
from pathlib import Path


def write_safely(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under another name, flushed to the disk, renamed.

    As `training.files.write_safely`: serving runs where neither training nor zoo is installed.

    Args:
        path: Replaced if there; its folder must be there.
        content: The new content.

    Raises:
        OSError: The disk is full or refuses; what was at `path` is as it was.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safely(Path(folder) / "note", b"whole")
    ...     (Path(folder) / "note").read_text(), len(os.listdir(folder))
    ('whole', 1)
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.incomplete")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name too
    finally:
        os.close(folder)
