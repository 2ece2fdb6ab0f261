"""The folders of versions in a model's folder: the one place that says what a version is."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

_LARGEST_VERSION = 2**63 - 1


def version_number(name: str) -> int | None:
    """The version that a folder of this name holds; None where the name is not that of a version.

    Example:
    >>> version_number("00000123"), version_number(".writing-7"), version_number("²")
    (123, None, None)
    """
    if not (name.isascii() and name.isdecimal()):
        return None
    return int(name) if len(name.lstrip("0")) <= 19 and int(name) <= _LARGEST_VERSION else None


def is_complete(folder: Path) -> bool:
    """Whether a version's folder holds a SavedModel."""
    return (folder / "saved_model.pb").is_file()


def find_versions(base_path: Path) -> dict[int, Path]:
    """The versions that TensorFlow Serving sees in a model's folder: every folder named by an integer.

    A folder counts from the moment it exists, even while it is being copied.

    Raises:
        OSError: The folder cannot be read.
    """
    versions: dict[int, Path] = {}
    for child in sorted(base_path.iterdir()):
        version = version_number(child.name)
        if version is not None and child.is_dir():
            if version in versions:
                logger.warning("%s and %s are the same version; serving the first", versions[version], child)
            versions.setdefault(version, child)
    return versions


def complete_versions(base_path: Path) -> dict[int, Path]:
    """Those of `find_versions` that hold a SavedModel, in order; empty where there is no such folder."""
    found = find_versions(base_path) if base_path.is_dir() else {}
    return {version: found[version] for version in sorted(found) if is_complete(found[version])}
