"""Raw files of official TFDS builders: found where people put them, or one clear sentence when offline.

TFDS retries a download for minutes before it says that there is no network. Asked first, the answer is there
within two seconds, and names the file that is missing.
"""

import hashlib
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

from training.datasets.store.tfds import (
    PreparationFailed,
    data_directory,
    full_name,
    full_version,
    is_prepared,
    read,
)

# Together with the start of the thread this stays within the promised two seconds.
_ANSWER_WITHIN = 1.7


class RawFileMissing(PreparationFailed):
    """A raw file is not on this machine and cannot be downloaded."""


class WrongRawFile(PreparationFailed):
    """A raw file of the right name holds something else."""


def manual_directory(name: str) -> Path:
    """Where raw files of dataset `name` are looked for before they are downloaded.

    `ZOO_MANUAL_DIR/<name>` where that variable is set, else `downloads/manual/<name>` in TFDS's data directory: a
    folder for each dataset, because some want different files of the same name.
    """
    configured = os.environ.get("ZOO_MANUAL_DIR")
    return (Path(configured).expanduser() if configured else data_directory() / "downloads" / "manual") / name


def check_raw_files(builder_class: Any, needed: Collection[str] | None = None) -> Path:
    """Make sure that TFDS will find, or can download, the raw files of a builder.

    Args:
        builder_class: A builder whose files are registered with checksums.
        needed: Names of the files that matter, of a builder that has more of them for other configurations; None
            checks all.

    Returns:
        The manual directory to hand to TFDS.

    Raises:
        RawFileMissing: A file is not there and its address does not answer.
        WrongRawFile: A file is there with another SHA-256.
    """
    directory = manual_directory(builder_class.name)
    for url, expected in builder_class.url_infos.items():
        if not expected.filename:
            # Older lists of checksums hold no names. TFDS reads this object again: nameless, it would download the
            # file although it has been placed by hand.
            expected.filename = PurePosixPath(urlparse(url).path).name
        if needed is not None and expected.filename not in needed:
            continue
        path = directory / expected.filename
        if path.is_file():
            _check_content(path, expected.checksum, url)
        elif problem := _why_unreachable(url):
            raise RawFileMissing(
                f"{builder_class.name} needs {expected.filename} ({expected.size}, SHA-256 {expected.checksum}); "
                f"it is not in {directory}, and {url} cannot be reached ({problem}): "
                "put the file there, or try again online"
            )
    return directory


def read_official(
    name: str, split: str, config: str | None = None, needed: Collection[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Examples of one split of an official TFDS builder, prepared first where that has not been done.

    Args:
        name: The builder's name.
        split: One of its splits.
        config: One of its configurations, of those that have some.
        needed: As for `check_raw_files`.

    Raises:
        PreparationFailed: As for `check_raw_files` and `prepared.read`.
    """
    import tensorflow_datasets as tfds

    builder_class = tfds.builder_cls(name)
    manual_dir = None
    if not is_prepared(full_name(builder_class, config), full_version(builder_class, config)):
        manual_dir = check_raw_files(builder_class, needed)
    return read(builder_class, split, manual_dir, config)


def check_reachable(url: str, needed: str, remedy: str) -> None:
    """Make sure that the network is there, for what can only be downloaded.

    Args:
        url: An address that will be asked.
        needed: What is to be downloaded; the error message begins with it.
        remedy: What to do without a network; the error message ends with it.

    Raises:
        RawFileMissing: The address does not answer.
    """
    if problem := _why_unreachable(url):
        raise RawFileMissing(f"{needed}; {url} cannot be reached ({problem}): {remedy}")


def _check_content(path: Path, expected: str, url: str) -> None:
    with path.open("rb") as file:
        received = hashlib.file_digest(file, "sha256").hexdigest()
    if received != expected:
        raise WrongRawFile(f"{path} has SHA-256 {received}, expected {expected}: replace it by the file from {url}")


def _why_unreachable(url: str) -> str | None:
    import requests

    problems: list[str | None] = [f"no answer within {_ANSWER_WITHIN} s"]

    def ask() -> None:
        try:
            # Honours the proxy settings that the download itself will use.
            requests.head(url, timeout=_ANSWER_WITHIN, allow_redirects=True).raise_for_status()
            problems.append(None)
        except requests.RequestException as error:
            problems.append(type(error).__name__)

    # A thread, because looking up a name has no timeout of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_ANSWER_WITHIN)
    return problems[-1]
