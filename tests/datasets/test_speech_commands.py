import dataclasses
import importlib.util
import io
import itertools
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from wav_files import wav_bytes

from training.datasets import get
from training.datasets.log_mel import GROUP
from training.datasets.speech_commands import SpeechCommands
from training.datasets.store import raw_files

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pydub") is None, reason="the audio extra is not installed")

WORDS = SpeechCommands.spec.classes[:10]
SILENCE = np.log(np.float32(1e-6))


def tone(samples: int, frequency: float) -> np.ndarray:
    return 20000 * np.sin(2 * np.pi * frequency / 16000 * np.arange(samples))


def archive(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)


@pytest.fixture
def fake_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording of each word for each split where the official builder looks for its archives."""
    spoken = {
        f"{word}/{speaker}_nohash_0.wav": wav_bytes(tone(8000, 300 + 100 * index + 20 * number), 16000)
        for index, word in enumerate((*WORDS, "bed"))
        for number, speaker in enumerate(("train", "validation", "test"))
    }
    lists = {
        f"{name}_list.txt": "\n".join(path for path in spoken if name in path).encode()
        for name in ("validation", "testing")
    }
    lists["testing_list.txt"] = "\n".join(path for path in spoken if "test_" in path).encode()
    # Of 2 s and a sample the builder makes three overlapping seconds.
    noise = {
        f"_background_noise_/{name}.wav": wav_bytes(tone(32001, frequency), 16000)
        for name, frequency in (("pink_noise", 50), ("running_tap", 60))
    }
    test = {path: content for path, content in spoken.items() if "test_" in path}
    test["_silence_/a.wav"] = wav_bytes(tone(16000, 70), 16000)
    archives = [
        archive(tmp_path / "train.tar.gz", lists | spoken | noise),
        archive(tmp_path / "test.tar.gz", test),
    ]
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda manager, urls: archives)
    monkeypatch.setattr(raw_files, "check_raw_files", lambda builder_class: tmp_path)


def with_counts(monkeypatch: pytest.MonkeyPatch, train: int, test: int) -> SpeechCommands:
    dataset = SpeechCommands()
    monkeypatch.setattr(dataset, "spec", dataclasses.replace(dataset.spec, counts={"train": train, "test": test}))
    return dataset


def test_the_official_builder(fake_archives: None, empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = with_counts(monkeypatch, train=14, test=12)
    assert not dataset.is_prepared()
    dataset.prepare()
    assert dataset.is_prepared()
    train, validation, test = dataset.load("train"), dataset.validation(), dataset.load("test")
    assert validation is not None
    # Ten words, three seconds of noise, one other word.
    assert Counter(train.labels.tolist()) == Counter(validation.labels.tolist()) == Counter([*range(12), 10, 10])
    assert sorted(test.labels.tolist()) == list(range(12))
    for examples, offset in ((train, 0), (validation, 20), (test, 40)):
        assert set(examples.lengths.tolist()) == {100}
        for word in range(10):
            features = examples.sequences[examples.labels.tolist().index(word)]
            # Half a second in the middle of a second of silence.
            np.testing.assert_allclose(features[[0, 10, 90, 99]], SILENCE, rtol=1e-6)
            (expected,) = dataset.log_mel.transform(
                [(tone(8000, 300 + 100 * word + offset) / 32768).astype(np.float32)]
            )
            assert features[50].argmax() == expected[50].argmax()
    assert train.groups is None


def test_what_the_builder_declares_makes_valid_examples(
    empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: None)
    dataset = with_counts(monkeypatch, train=70, test=0)
    with tfds.testing.mock_data(num_examples=70):
        train = dataset.load("train")
    assert set(train.lengths.tolist()) == {100}
    # 43 samples in the middle: heard in the two to four windows that lie over it, silence before and after.
    heard = (train.sequences[0] != train.sequences[0][0]).any(axis=1)
    assert 2 <= heard.sum() <= 4
    assert heard[48:52].any()
    features = tfds.builder_cls("speech_commands")(data_dir=empty_data_directory).info.features
    assert tuple(features["label"].names) == dataset.spec.classes
    assert features["audio"].dtype == np.int16
    assert str(tfds.builder_cls("speech_commands").VERSION) == dataset.version


def test_no_more_than_a_group_is_held() -> None:
    taken = 0

    def examples() -> Iterator[dict[str, Any]]:
        nonlocal taken
        while True:
            taken += 1
            yield {"audio": np.zeros(16000, np.int16), "label": np.int64(0)}

    rows = SpeechCommands()._heard(examples())
    next(rows)
    assert taken == GROUP
    assert sum(1 for _ in itertools.islice(rows, GROUP)) == GROUP
    assert taken == 2 * GROUP


def test_a_missing_archive_is_named_with_its_hash(
    empty_data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path))
    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: "no network")
    with pytest.raises(raw_files.RawFileMissing) as error:
        get("speech_commands").load("test")
    # TFDS's registered hash of the archive of the test split, which is asked for first.
    assert "speech_commands_test_set_v0.02.tar.gz" in str(error.value)
    assert "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df" in str(error.value)
    assert str(tmp_path / "speech_commands") in str(error.value)
