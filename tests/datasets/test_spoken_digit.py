import dataclasses
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from wav_files import wav_bytes

from training.datasets import get
from training.datasets.audio import MissingAudioExtra
from training.datasets.spoken_digit import SpokenDigit
from training.datasets.store import raw_files, tfds as tfds_store

ARCHIVE = "free-spoken-digit-dataset-1.0.9.tar.gz"
needs_pydub = pytest.mark.skipif(importlib.util.find_spec("pydub") is None, reason="the audio extra is not installed")


def samples_of(digit: int, index: int) -> np.ndarray:
    """A recording of its own for every name, 15 steps and more."""
    return np.arange(1200 + 80 * index) % (50 + digit) * 100


@pytest.fixture
def fake_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty recordings where the official builder looks for the extracted archive."""
    folder = tmp_path / "raw" / "free-spoken-digit-dataset-1.0.9" / "recordings"
    folder.mkdir(parents=True)
    for digit in range(10):
        for index in (4, 5):
            (folder / f"{digit}_theo_{index}.wav").write_bytes(wav_bytes(samples_of(digit, index), 8000))

    def extracted(manager: Any, url: str) -> str:
        return str(tmp_path / "raw")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", extracted)
    monkeypatch.setattr(raw_files, "check_raw_files", lambda builder_class: tmp_path)


@pytest.fixture
def small(fake_recordings: None, empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch) -> SpokenDigit:
    dataset = SpokenDigit()
    monkeypatch.setattr(dataset, "spec", dataclasses.replace(dataset.spec, counts={"train": 10, "test": 10}))
    return dataset


@needs_pydub
def test_the_official_builder_is_split_by_file_name(small: SpokenDigit) -> None:
    assert not small.is_prepared()
    train, test = small.load("train"), small.load("test")
    assert small.is_prepared()
    assert train.labels.tolist() == test.labels.tolist() == list(range(10))
    assert set(train.lengths.tolist()) == {20}  # recording 5: 1600 samples
    assert set(test.lengths.tolist()) == {19}  # recording 4: 1520 samples
    (expected,) = small.log_mel.transform([(samples_of(7, 5) / 32768).astype(np.float32)])
    # Transformed among others instead of alone: the sums are rounded in another order.
    np.testing.assert_allclose(train.sequences[7], expected, atol=1e-3)


@needs_pydub
def test_features_are_computed_once(small: SpokenDigit, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = small.load("test").digest()
    monkeypatch.setattr(SpokenDigit, "_heard", lambda self, examples: pytest.fail("computed again"))
    assert small.load("test").digest() == digest
    assert len(small.load("train")) == 10
    assert not list(tfds_store.data_directory().rglob("*.incomplete"))


@needs_pydub
def test_other_parameters_have_features_of_their_own(small: SpokenDigit, monkeypatch: pytest.MonkeyPatch) -> None:
    small.prepare()
    monkeypatch.setattr(small, "log_mel", dataclasses.replace(small.log_mel, window=160))
    assert not small.is_prepared()
    small.prepare()
    assert small.is_prepared()


@needs_pydub
def test_damaged_features_are_refused(small: SpokenDigit) -> None:
    small.prepare()
    (values,) = tfds_store.data_directory().glob("packed/spoken_digit/*/train/values.bin")
    content = bytearray(values.read_bytes())
    content[len(content) // 2] ^= 1
    values.write_bytes(content)
    with pytest.raises(tfds_store.PreparationFailed, match="delete that folder and run again"):
        small.load("train")


def test_a_recording_with_another_name_is_refused(small: SpokenDigit, tmp_path: Path) -> None:
    pytest.importorskip("pydub")
    (recordings,) = tmp_path.glob("raw/*/recordings")
    (recordings / "7_theo.wav").write_bytes(wav_bytes(samples_of(7, 6), 8000))
    with pytest.raises(tfds_store.PreparationFailed, match=r"'7_theo\.wav', expected DIGIT_SPEAKER_INDEX\.wav"):
        small.load("train")


def test_without_pydub_one_sentence_names_the_extra(
    empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydub", None)
    with pytest.raises(MissingAudioExtra, match=r"pip install 'sequence-zoo\[audio\]'"):
        get("spoken_digit").load("train")


@needs_pydub
def test_a_missing_archive_is_named_with_its_hash(
    empty_data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path))
    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: "no network")
    with pytest.raises(raw_files.RawFileMissing) as error:
        get("spoken_digit").load("train")
    # TFDS's registered hash of the archive.
    assert "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0" in str(error.value)
    assert ARCHIVE in str(error.value)
    assert str(tmp_path / "spoken_digit") in str(error.value)


@needs_pydub
@pytest.mark.skipif(
    not Path(os.environ.get("ZOO_MANUAL_DIR", "/nonexistent"), "spoken_digit", ARCHIVE).is_file(),
    reason=f"ZOO_MANUAL_DIR/spoken_digit/{ARCHIVE} is not there",
)
def test_the_real_recordings() -> None:
    train, test = get("spoken_digit").load("train"), get("spoken_digit").load("test")
    assert np.bincount(train.labels).tolist() == [225] * 10
    assert np.bincount(test.labels).tolist() == [25] * 10
    both = np.concatenate([train.lengths, test.lengths])
    # The shortest recording has 1148 samples, the longest 18262; 80 make a step.
    assert (both.min(), both.max()) == (15, 229)
