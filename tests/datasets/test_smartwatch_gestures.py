import dataclasses
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from training.batches.splitting import train_validation_split
from training.datasets import get
from training.datasets.smartwatch_gestures import PARTICIPANTS, SmartwatchGestures
from training.datasets.store import raw_files, tfds as tfds_store

AXES = ("accel_x", "accel_y", "accel_z")
TIMES = ("time_millis", "time_nanos", "time_event")


def builder_class() -> Any:
    return tfds.builder_cls("smartwatch_gestures")


def recording(participant: int, gesture: int, repetition: int) -> dict[str, Any]:
    """As the official builder gives it; the length and the first value tell which recording it is."""
    steps = 10 + gesture
    features = {name: np.arange(steps, dtype=np.uint64) for name in TIMES}
    features |= {name: np.full(steps, axis + participant / 100) for axis, name in enumerate(AXES)}
    return {"features": features, "participant": participant, "attempt": repetition, "gesture": gesture}


def everything() -> Iterator[dict[str, Any]]:
    """Of every participant and gesture the last repetition that counts, and one beyond it."""
    for participant in range(1, 9):
        for gesture in range(20):
            for repetition in (20, 21):
                yield recording(participant, gesture, repetition)


def mocked(recordings: Any) -> Any:
    """TFDS's mock of the official builder, with recordings whose axes are equally long."""

    def as_dataset(builder: Any, **options: Any) -> Any:
        import tensorflow as tf

        shapes = tf.nest.map_structure(
            lambda info: tf.TensorSpec(info.shape, info.tf_dtype), builder.info.features.get_tensor_info()
        )
        return tf.data.Dataset.from_generator(recordings, output_signature=shapes)

    return tfds.testing.mock_data(as_dataset_fn=as_dataset)


def with_counts(monkeypatch: pytest.MonkeyPatch, train: int, test: int) -> SmartwatchGestures:
    dataset = SmartwatchGestures()
    monkeypatch.setattr(dataset, "spec", dataclasses.replace(dataset.spec, counts={"train": train, "test": test}))
    return dataset


@pytest.fixture
def no_raw_files(empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_files, "check_raw_files", lambda builder_class, needed: empty_data_directory)


def test_the_spec_says_what_the_official_builder_says() -> None:
    info = builder_class()(data_dir="/nonexistent").info
    spec = get("smartwatch_gestures").spec
    assert spec.classes == tuple(info.features["gesture"].names)
    assert spec.homepage == info.homepage
    assert str(builder_class().VERSION) == "1.0.0"
    assert spec.counts == {"train": 2400, "test": 800}


def test_mock_data_of_the_official_builder_is_split_by_participant(
    no_raw_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = with_counts(monkeypatch, train=120, test=40)
    assert not dataset.is_prepared()
    with mocked(everything):
        loaded = {split: dataset.load(split) for split in PARTICIPANTS}
    assert dataset.is_prepared()
    assert {split: set(examples.groups.tolist()) for split, examples in loaded.items()} == {  # type: ignore[union-attr]
        "train": {1, 2, 3, 4, 5, 6},
        "test": {7, 8},
    }
    for examples in loaded.values():
        assert examples.groups is not None
        for sequence, label, participant in zip(
            examples.sequences, examples.labels.tolist(), examples.groups.tolist(), strict=True
        ):
            expected = recording(participant, label, 20)["features"]
            np.testing.assert_array_equal(sequence, np.stack([expected[name] for name in AXES], 1).astype("float32"))
    train, validation = train_validation_split(loaded["train"], fraction=0.2, seed=0)
    assert not set(train.groups.tolist()) & set(validation.groups.tolist())  # type: ignore[union-attr]


def test_axes_of_different_lengths_are_refused(no_raw_files: None) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        damaged = recording(8, 4, 17)
        damaged["features"]["accel_z"] = damaged["features"]["accel_z"][:-1]
        yield damaged

    facts = "participant 8, gesture circle-clockwise, repetition 17 has 14 of accel_x, 14 of accel_y, 13 of accel_z"
    with mocked(broken), pytest.raises(tfds_store.PreparationFailed, match=facts):
        get("smartwatch_gestures").load("test")


def test_the_official_builder_reads_an_archive_placed_by_hand(
    tmp_path: Path, empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path))
    archive = tmp_path / "smartwatch_gestures" / "gestures-dataset.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("U01/03/07", "U01/03/21", "U08/20/20"):
            lines = [f"1384186054309 78952598976553 1452892000000 {step}.5 -0.153229 9.806650" for step in range(12)]
            file.writestr(f"gestures-dataset/{name}.txt", "\n".join(lines) + "\n")
    ((url, registered),) = builder_class().url_infos.items()
    assert registered.filename == archive.name
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    placed = dataclasses.replace(registered, checksum=checksum, size=archive.stat().st_size)
    monkeypatch.setattr(builder_class(), "url_infos", {url: placed})

    dataset = with_counts(monkeypatch, train=1, test=1)
    dataset.prepare()
    assert dataset.is_prepared()
    train, test = dataset.load("train"), dataset.load("test")
    assert (train.labels.tolist(), test.labels.tolist()) == ([2], [19])
    expected = np.stack([np.arange(12) + 0.5, np.full(12, -0.153229), np.full(12, 9.80665)], axis=1)
    np.testing.assert_array_equal(train.sequences[0], expected.astype(np.float32))


def test_a_missing_archive_is_named_with_its_hash_and_its_place(
    empty_data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path))
    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: "no network")
    with pytest.raises(raw_files.RawFileMissing) as error:
        get("smartwatch_gestures").load("train")
    # TFDS's registered hash of the archive.
    checksum = "4a6c5ac1d408f8405d456e0404b424b905ea49425c663fb08f0c3ab341efd32d"
    for fact in ("gestures-dataset.zip", checksum, str(tmp_path / "smartwatch_gestures"), "drive.google.com"):
        assert fact in str(error.value)
