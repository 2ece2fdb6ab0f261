"""Spoken digits: the official TFDS builder `spoken_digit`, heard as log-mel features."""

import re
from typing import ClassVar

from training.datasets.audio import Recordings
from training.datasets.base import Examples, Spec
from training.datasets.log_mel import LogMel
from training.datasets.store import rows as row_store, tfds as tfds_store

_TEST_INDICES = range(5)
_FILE_NAME = re.compile(r"\d_[a-z]+_(\d+)\.wav")


class SpokenDigit(Recordings):
    """The Free Spoken Digit Dataset: 5 speakers say 0 to 9, 50 times each, trimmed, 8 kHz."""

    log_mel = LogMel()
    version = "1.0.9"
    parts: ClassVar[dict[str, int]] = {"train": 2250, "test": 250}
    spec = Spec(
        name="spoken_digit",
        summary="five speakers say 0 to 9, as log-mel features",
        needs="extra `audio`, a download of 11.42 MiB",
        features=log_mel.describe(),
        channels=log_mel.mels,
        classes=tuple("0123456789"),
        lengths=(15, 229),
        counts=parts,
        licence="CC BY-SA 4.0",
        citation="Z. Jackson et al. Free Spoken Digit Dataset, version 1.0.9",
        homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
        split_rule="the dataset's own, by file name DIGIT_SPEAKER_INDEX.wav: recordings 0 to 4 of every digit and "
        "speaker are test, 5 to 49 are train; every speaker is in both",
    )

    def prepare(self) -> None:
        if self.is_prepared():
            return
        # Both parts at once, since both come from one split of the builder. They are few enough to be held.
        examples = sorted(self._examples("train"), key=lambda example: example["audio/filename"])
        names = [example["audio/filename"].decode() for example in examples]
        in_test = [_recording_index(name) in _TEST_INDICES for name in names]
        rows = list(row_store.tracked(self._heard(examples), len(examples), self.spec.name))
        self._keep("train", [row for row, is_test in zip(rows, in_test, strict=True) if not is_test])
        self._keep("test", [row for row, is_test in zip(rows, in_test, strict=True) if is_test])

    def _keep(self, part: str, rows: list[row_store.Row]) -> None:
        row_store.read_or_make(self._folder(part), lambda: rows)

    def _part(self, part: str) -> Examples:
        self.prepare()
        return row_store.read(self._folder(part))


def _recording_index(file_name: str) -> int:
    match = _FILE_NAME.fullmatch(file_name)
    if match is None:
        raise tfds_store.PreparationFailed(
            f"spoken_digit holds a recording named {file_name!r}, expected DIGIT_SPEAKER_INDEX.wav: "
            "the split rule needs the index; prepare version 1.0.9 again"
        )
    return int(match[1])
