"""The vendored data file: where it lies, how it is read, and the hash that guards it."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ARCHIVE = Path(__file__).with_name("japanese_vowels.npz")
ARCHIVE_SHA256 = "d6f8cfc5a64e3db8b0d50f586aa0fe1944220c73d23271f976fc19a29875a52d"


class CorruptArchive(ValueError):
    """The data file is not the one that this version of the package was made with."""

    exit_code = 1


class Series(NamedTuple):
    """One split, all utterances behind one another.

    Attributes:
        values: float32 `[sum of lengths, 12]`.
        lengths: int64 `[utterances]`.
        labels: int64 `[utterances]`, 0 to 8.
    """

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]


def read_archive(path: Path = ARCHIVE) -> dict[str, Series]:
    """Read both splits in the order of the source files.

    Args:
        path: The data file; the packaged one unless told otherwise.

    Returns:
        `{"train": Series, "test": Series}`.

    Raises:
        CorruptArchive: The file's SHA-256 is not `ARCHIVE_SHA256`.
        FileNotFoundError: There is no such file.
    """
    content = path.read_bytes()
    received = hashlib.sha256(content).hexdigest()
    if received != ARCHIVE_SHA256:
        raise CorruptArchive(
            f"{path} has SHA-256 {received}, expected {ARCHIVE_SHA256}: "
            "the file is damaged or was changed; reinstall the package"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {
            split: Series(arrays[f"{split}_values"], arrays[f"{split}_lengths"], arrays[f"{split}_labels"])
            for split in ("train", "test")
        }
