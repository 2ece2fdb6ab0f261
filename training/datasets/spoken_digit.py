"""Spoken digits: the official TFDS builder `spoken_digit`, heard as log-mel features."""

import importlib
import logging
import re
import uuid
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.datasets import prepared, raw_files
from training.datasets.base import Dataset, Examples, Spec, Split
from training.datasets.log_mel import LogMel

_TEST_INDICES = range(5)
_FILE_NAME = re.compile(r"\d_[a-z]+_(\d+)\.wav")

logger = logging.getLogger(__name__)


class MissingAudioExtra(ImportError):
    """TFDS cannot decode WAV files here."""

    exit_code = 1


class _Features(NamedTuple):
    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]
    file_names: NDArray[np.str_]


class SpokenDigit(Dataset):
    """The Free Spoken Digit Dataset: 5 speakers say 0 to 9, 50 times each, trimmed, 8 kHz."""

    log_mel = LogMel()
    version = "1.0.9"
    spec = Spec(
        name="spoken_digit",
        features=log_mel.describe(),
        channels=log_mel.mels,
        classes=tuple("0123456789"),
        lengths=(15, 229),
        counts={"train": 2250, "test": 250},
        licence="CC BY-SA 4.0",
        citation="Z. Jackson et al. Free Spoken Digit Dataset, version 1.0.9",
        homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
        split_rule="the dataset's own, by file name DIGIT_SPEAKER_INDEX.wav: recordings 0 to 4 of every digit and "
        "speaker are test, 5 to 49 are train; every speaker is in both",
    )

    def is_prepared(self) -> bool:
        return self._cache().is_file()

    def prepare(self) -> None:
        self._features()

    def _read(self, split: Split) -> Examples:
        features = self._features()
        in_test = np.array([_recording_index(name) in _TEST_INDICES for name in features.file_names.tolist()])
        chosen = np.flatnonzero(in_test if split == "test" else ~in_test)
        sequences = np.split(features.values, np.cumsum(features.lengths)[:-1])
        return Examples([sequences[index] for index in chosen], features.labels[chosen])

    def _cache(self) -> Path:
        folder = prepared.data_directory() / self.spec.name
        return folder / f"log_mel-{self.version}-{self.log_mel.key()}.npz"

    def _features(self) -> _Features:
        cache = self._cache()
        if cache.is_file():
            return _read_cache(cache)
        features = self._compute()
        try:
            _write_cache(cache, features)
        except OSError as error:
            logger.warning("features of %s are not kept in %s (%s)", self.spec.name, cache.parent, error)
        return features

    def _compute(self) -> _Features:
        import tensorflow_datasets as tfds

        builder_class = tfds.builder_cls(self.spec.name)
        manual_dir = None
        if not prepared.is_prepared(self.spec.name, self.version):
            _check_audio_extra()
            manual_dir = raw_files.check_raw_files(builder_class)
        rows = sorted(prepared.read(builder_class, "train", manual_dir), key=lambda row: row["audio/filename"])
        sequences = self.log_mel.transform([_waveform(row) for row in rows])
        return _Features(
            values=np.concatenate(sequences),
            lengths=np.array([len(sequence) for sequence in sequences], np.int64),
            labels=np.array([row["label"] for row in rows], np.int64),
            file_names=np.array([row["audio/filename"].decode() for row in rows]),
        )


def _waveform(row: dict[str, Any]) -> NDArray[np.float32]:
    samples: NDArray[np.int64] = row["audio"]
    return samples.astype(np.float32) / np.float32(32768)


def _recording_index(file_name: str) -> int:
    match = _FILE_NAME.fullmatch(file_name)
    if match is None:
        raise prepared.PreparationFailed(
            f"spoken_digit holds a recording named {file_name!r}, expected DIGIT_SPEAKER_INDEX.wav: "
            "the split rule needs the index; prepare version 1.0.9 again"
        )
    return int(match[1])


def _check_audio_extra() -> None:
    try:
        with warnings.catch_warnings():
            # pydub warns that ffmpeg is not installed; WAV needs none.
            warnings.simplefilter("ignore")
            importlib.import_module("pydub")
    except ImportError as error:
        raise MissingAudioExtra(
            f"spoken_digit is prepared with pydub, which cannot be imported here ({error}): "
            "pip install 'sequence-zoo[audio]'"
        ) from error


def _read_cache(path: Path) -> _Features:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _Features(**{name: arrays[name] for name in _Features._fields})
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise prepared.PreparationFailed(
            f"the features kept in {path} cannot be read ({type(error).__name__}: {error}): "
            "delete that file and run again"
        ) from error


def _write_cache(path: Path, features: _Features) -> None:
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.incomplete")
    try:
        with unfinished.open("xb") as file:
            np.savez(file, **features._asdict())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
