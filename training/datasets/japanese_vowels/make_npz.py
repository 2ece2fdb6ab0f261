"""Make `japanese_vowels.npz` from the two `.ts` files of the UEA archive.

Run as `python -m training.datasets.japanese_vowels.make_npz TRAIN.ts TEST.ts [OUTPUT.npz]`. The bytes written
depend on the zlib in use, the arrays do not.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from training.datasets.japanese_vowels.archive import ARCHIVE, Series
from training.datasets.ts_format import stream_ts

SOURCE_SHA256 = {
    "train": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "test": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}


class UnexpectedSource(ValueError):
    """A source file that is not the published one."""

    exit_code = 2


def read_series(path: Path, split: str) -> Series:
    """Read one of the two `.ts` files.

    Args:
        path: The file.
        split: "train" or "test"; says which SHA-256 is expected.

    Returns:
        All utterances in the order of the file; the header names the speakers "1" to "9", which become labels 0 to 8.

    Raises:
        UnexpectedSource: The file's SHA-256 is another.
    """
    content = path.read_bytes()
    received = hashlib.sha256(content).hexdigest()
    if received != SOURCE_SHA256[split]:
        raise UnexpectedSource(
            f"{path} has SHA-256 {received}, expected {SOURCE_SHA256[split]} for the {split} split: "
            "take the file from the archive named in ATTRIBUTION.md"
        )
    cases = list(stream_ts(content.decode("ascii").splitlines(), str(path))[1])
    lengths = np.array([len(case.sequence) for case in cases], np.int64)
    labels = np.array([case.label for case in cases], np.int64)
    return Series(np.concatenate([case.sequence for case in cases]), lengths, labels)


def main(arguments: list[str]) -> None:
    """Write the data file and print its SHA-256."""
    if len(arguments) not in (2, 3):
        raise SystemExit(f"received {len(arguments)} arguments, expected TRAIN.ts TEST.ts [OUTPUT.npz]")
    output = Path(arguments[2]) if len(arguments) == 3 else ARCHIVE
    arrays = {}
    for split, path in zip(("train", "test"), arguments, strict=False):
        for name, array in read_series(Path(path), split)._asdict().items():
            arrays[f"{split}_{name}"] = array
    np.savez_compressed(output, **arrays)
    print(f"{hashlib.sha256(output.read_bytes()).hexdigest()}  {output}")


if __name__ == "__main__":
    main(sys.argv[1:])
