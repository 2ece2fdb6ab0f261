import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from wav_files import wav_bytes

from training.datasets import get
from training.datasets.crema_d import CremaD
from training.datasets.store import raw_files

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pydub") is None, reason="the audio extra is not installed")

SILENCE = np.log(np.float32(1e-6))
EMOTIONS = ("NEU", "HAP", "SAD", "ANG", "FEA", "DIS")
ACTORS = range(1001, 1012)


def recording(actor: int, emotion: int) -> np.ndarray:
    """Of 1.5 s and more; a tone as high as the emotion's number. Actor 1001 speaks for 4.5 s and 5 s."""
    seconds = 4.5 + emotion / 10 if actor == 1001 else 1.5 + emotion / 10
    return 20000 * np.sin(2 * np.pi * (500 + 500 * emotion) / 16000 * np.arange(int(16000 * seconds)))


@pytest.fixture
def fake_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven actors' recordings where the official builder looks for what it has downloaded."""
    names = {}
    for actor in ACTORS:
        for number, emotion in enumerate(EMOTIONS):
            name = f"{actor}_IEO_{emotion}_XX"
            names[name] = tmp_path / f"{name}.wav"
            names[name].write_bytes(wav_bytes(recording(actor, number), 16000))
    table = tmp_path / "summaryTable.csv"
    table.write_text('"","FileName","VoiceVote"\n' + "".join(f'"1","{name}","A"\n' for name in names))

    def download(manager: Any, urls: dict[str, Any]) -> dict[str, Any]:
        if "summary_table" in urls:
            return {"summary_table": str(table)}
        return {"all_files": [str(names[url.rsplit("/", 1)[1].removesuffix(".wav")]) for url in urls["all_files"]]}

    monkeypatch.setattr(tfds.download.DownloadManager, "download_checksums", lambda manager, url: None)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: None)


def with_counts(monkeypatch: pytest.MonkeyPatch, train: int, test: int) -> CremaD:
    dataset = CremaD()
    monkeypatch.setattr(dataset, "spec", dataclasses.replace(dataset.spec, counts={"train": train, "test": test}))
    return dataset


@pytest.mark.slow
def test_the_official_builder(
    fake_recordings: None,
    empty_data_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Of eleven actors the builder takes 7 for train, 1 for validation, 3 for test.
    dataset = with_counts(monkeypatch, train=42, test=18)
    train, validation, test = dataset.load("train"), dataset.validation(), dataset.load("test")
    assert validation is not None
    assert dataset.is_prepared()
    parts = (train, validation, test)
    assert [np.bincount(part.labels).tolist() for part in parts] == [[7] * 6, [1] * 6, [3] * 6]
    assert len({group for part in parts if part.groups is not None for group in set(part.groups.tolist())}) == 11
    assert [len(set(part.groups.tolist())) for part in parts if part.groups is not None] == [7, 1, 3]
    # Six recordings of one actor are longer than 4 s.
    assert "crema_d: 6 recordings were too long and cut" in caplog.text
    cut = 0
    for examples in parts:
        for features, label in zip(examples.sequences, examples.labels.tolist(), strict=True):
            assert features.shape == (40, 80)
            (expected,) = dataset.log_mel.transform([(recording(1002, label) / 32768).astype(np.float32)])
            assert features[20].argmax() == expected[20].argmax()
            cut += bool((features[0] > SILENCE + 1).any())
    assert cut == 6


def test_what_the_builder_declares_makes_valid_examples(
    empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: None)
    dataset = with_counts(monkeypatch, train=70, test=0)
    with tfds.testing.mock_data(num_examples=70):
        train = dataset.load("train")
    assert set(train.lengths.tolist()) == {40}
    assert train.groups is not None
    # 43 samples in the middle of 4 s: heard in the two steps that meet there, silence before and after.
    features = train.sequences[0]
    np.testing.assert_allclose(np.delete(features, [19, 20], axis=0), SILENCE, rtol=1e-6)
    assert (features[19] > SILENCE).any()
    info = tfds.builder_cls("crema_d")(data_dir=empty_data_directory).info
    assert tuple(info.features["label"].names) == EMOTIONS
    assert len(dataset.spec.classes) == len(EMOTIONS)
    assert str(tfds.builder_cls("crema_d").VERSION) == dataset.version


def test_every_actor_is_a_group_of_its_own() -> None:
    dataset = CremaD()
    assert len({dataset._speaker({"speaker_id": str(actor).encode()}) for actor in range(1001, 1092)}) == 91


def test_offline_one_sentence_says_how_to_come_by_the_recordings(
    empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def no_answer(url: str) -> str:
        asked.append(url)
        return "no network"

    monkeypatch.setattr(raw_files, "_why_unreachable", no_answer)
    with pytest.raises(raw_files.RawFileMissing) as error:
        get("crema_d").load("train")
    assert len(asked) == 1
    for part in ("7438 single recordings", "579 MiB", asked[0], "zoo datasets prepare crema_d", "packed/crema_d"):
        assert part in str(error.value)
    assert len(str(error.value)) < 500
