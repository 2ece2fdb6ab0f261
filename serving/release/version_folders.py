"""The folders of versions in a model's folder."""

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

_LARGEST_VERSION = 2**63 - 1


def find_versions(base_path: Path) -> dict[int, Path]:
    """The versions in a model's folder: every folder whose name is an integer, however it is written.

    Raises:
        OSError: The folder cannot be read.
    """
    versions: dict[int, Path] = {}
    for child in sorted(base_path.iterdir()):
        name = child.name
        if name.isascii() and name.isdecimal() and int(name) <= _LARGEST_VERSION and child.is_dir():
            if int(name) in versions:
                logger.warning("%s and %s are the same version; serving the first", versions[int(name)], child)
            versions.setdefault(int(name), child)
    return versions
