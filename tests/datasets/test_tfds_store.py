from pathlib import Path

import pytest

from training.datasets import get
from training.datasets.japanese_vowels.builder import JapaneseVowels as Builder
from training.datasets.store import tfds as tfds_store


def test_default_data_directory_is_that_of_tfds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert tfds_store.data_directory() == Path.home() / "tensorflow_datasets"


def test_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/data")
    with pytest.raises(tfds_store.PreparationFailed, match="'gs://bucket/data', expected a folder"):
        tfds_store.data_directory()


def test_a_folder_that_is_no_prepared_dataset_is_not_read(empty_data_directory: Path) -> None:
    folder = empty_data_directory / "japanese_vowels" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "japanese_vowels-train.tfrecord-00000-of-00001").write_bytes(b"half")
    dataset = get("japanese_vowels")
    assert not dataset.is_prepared()
    with pytest.raises(tfds_store.PreparationFailed, match=r"exists without dataset_info\.json"):
        dataset.load("train")


def test_what_a_killed_process_left_behind_is_not_read(empty_data_directory: Path) -> None:
    left_behind = empty_data_directory / "japanese_vowels" / "incomplete.ABC123_1.0.0"
    left_behind.mkdir(parents=True)
    (left_behind / "japanese_vowels-train.tfrecord-00000-of-00001").write_bytes(b"half")
    assert len(get("japanese_vowels").load("test")) == 370


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_damaged_prepared_data_is_refused(damage: str, empty_data_directory: Path) -> None:
    dataset = get("japanese_vowels")
    dataset.prepare()
    (records,) = tfds_store.directory_of("japanese_vowels", "1.0.0").glob("*train.tfrecord*")
    if damage == "cut":
        records.write_bytes(records.read_bytes()[:-7])
    else:
        records.unlink()
    with pytest.raises(tfds_store.PreparationFailed, match="delete that folder and run again"):
        dataset.load("train")


@pytest.mark.parametrize("damage", [b"", b'{"name": "japanese_vo', b"\xff\xfe"])
def test_a_damaged_description_is_named(damage: bytes, empty_data_directory: Path) -> None:
    dataset = get("japanese_vowels")
    dataset.prepare()
    folder = tfds_store.directory_of("japanese_vowels", "1.0.0")
    (folder / "dataset_info.json").write_bytes(damage)
    with pytest.raises(
        tfds_store.PreparationFailed, match=r"dataset_info\.json is damaged .*: delete .* and run again"
    ):
        dataset.load("train")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "file" / "data"))
    with pytest.raises(
        tfds_store.PreparationFailed, match=r"cannot prepare japanese_vowels in .*file.data.*TFDS_DATA_DIR"
    ):
        get("japanese_vowels").prepare()


def test_preparing_keeps_stdout_clean_and_leaves_no_scraps(
    empty_data_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tfds_store.prepare(Builder)
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in empty_data_directory.iterdir()) == ["downloads", "japanese_vowels"]
