import dataclasses
import hashlib
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from training.datasets import get
from training.datasets.store import raw_files, tfds as tfds_store
from training.datasets.uci_har import UciHar, archive
from training.datasets.uci_har.builder import UciHar as Builder

NAME = "human+activity+recognition+using+smartphones.zip"
COUNTS = {"train": 3, "test": 2}


def value_of(split: str, window: int, step: int, channel: int) -> float:
    """A value of its own for every place, exact in float32."""
    return (split == "test") * 64.0 + window * 16.0 + channel + step / 128


def text_files() -> dict[str, str]:
    """The inner archive's files, made small: labels 1, 2, 3 and 1, 2; person 1 trains, person 30 tests."""
    files = {}
    for split, count in COUNTS.items():
        folder = f"UCI HAR Dataset/{split}"
        for channel, signal in enumerate(archive.SIGNALS):
            rows = [[value_of(split, window, step, channel) for step in range(128)] for window in range(count)]
            text = "".join("  " + " ".join(f"{value: .7e}" for value in row) + "\n" for row in rows)
            files[f"{folder}/Inertial Signals/{signal}_{split}.txt"] = text
        files[f"{folder}/y_{split}.txt"] = "".join(f"{window + 1}\n" for window in range(count))
        files[f"{folder}/subject_{split}.txt"] = f"{1 if split == 'train' else 30}\n" * count
    return files


def zipped(files: dict[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in files.items():
            file.writestr(name, text)
    return content.getvalue()


INNER = zipped(text_files())
OUTER = zipped({"UCI HAR Dataset.names": "about", archive.INNER: INNER})


@pytest.fixture(autouse=True)
def small_inner_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "INNER_SHA256", hashlib.sha256(INNER).hexdigest())


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks; the address is one whose checksum is registered."""

    DATASET_CLASS = Builder
    SPLITS = COUNTS
    DL_DOWNLOAD_RESULT = NAME

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.EXAMPLE_DIR = cls.enterClassContext(tempfile.TemporaryDirectory())
        (Path(cls.EXAMPLE_DIR) / NAME).write_bytes(OUTER)


@pytest.fixture
def placed(empty_data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive, made small and placed by hand; there is no network."""
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path))
    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: "no network")
    path = tmp_path / "uci_har" / NAME
    path.parent.mkdir()
    path.write_bytes(OUTER)
    return path


def registered(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let `content` be what the registered checksum is of."""
    info = tfds.download.checksums.UrlInfo(
        size=tfds.core.utils.Size(len(content)), checksum=hashlib.sha256(content).hexdigest(), filename=NAME
    )
    monkeypatch.setattr(Builder, "url_infos", {archive.URL: info})


def test_windows_labels_and_people(placed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, OUTER)
    dataset = UciHar()
    monkeypatch.setattr(dataset, "spec", dataclasses.replace(dataset.spec, counts=COUNTS))
    assert not dataset.is_prepared()
    for split, count in COUNTS.items():
        examples = dataset.load(split)  # type: ignore[arg-type]
        expected = [
            [[value_of(split, window, step, channel) for channel in range(9)] for step in range(128)]
            for window in range(count)
        ]
        np.testing.assert_array_equal(np.stack(list(examples.sequences)), np.array(expected, np.float32))
        assert examples.labels.tolist() == list(range(count))
        assert examples.groups is not None
        assert set(examples.groups.tolist()) == {1 if split == "train" else 30}
    assert dataset.is_prepared()


def test_the_registered_archive() -> None:
    (info,) = Builder.url_infos.values()
    assert list(Builder.url_infos) == [archive.URL]
    assert (info.filename, int(info.size)) == (NAME, 61_005_872)
    assert info.checksum == "c00b803081a5c797cd5e4b83700a9810b38d53d9d84e01917e090e1fdbc81031"


def test_an_archive_with_another_hash_is_refused(placed: Path) -> None:
    with pytest.raises(raw_files.WrongRawFile, match=r"expected c00b80\w+: replace it by the file from https"):
        get("uci_har").load("train")
    assert not get("uci_har").is_prepared()


def test_a_missing_archive_is_named_with_its_hash(placed: Path) -> None:
    placed.unlink()
    with pytest.raises(raw_files.RawFileMissing, match=r"SHA-256 c00b80\w+.*put the file there") as error:
        get("uci_har").load("train")
    assert NAME in str(error.value)
    assert str(placed.parent) in str(error.value)


def test_an_inner_archive_with_another_hash_prepares_nothing(placed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, OUTER)
    monkeypatch.setattr(archive, "INNER_SHA256", "0" * 64)
    with pytest.raises(archive.UnusableArchive, match=f"SHA-256 {hashlib.sha256(INNER).hexdigest()}, expected 0000"):
        get("uci_har").prepare()
    assert not get("uci_har").is_prepared()
    assert list((tfds_store.data_directory() / "uci_har").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"other.txt": ""}), r"holds other\.txt, expected UCI HAR Dataset\.zip"),
        (OUTER[: len(OUTER) // 2], "is damaged or no zip file"),
        (b"<html>", "is damaged or no zip file"),
    ],
)
def test_what_holds_no_inner_archive(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(content)
    with pytest.raises(archive.UnusableArchive, match=message) as refusal:
        archive.read_inner(path)
    assert str(path) in str(refusal.value)
    assert f"delete the archive and get {archive.URL} again" in str(refusal.value)


SIGNAL = "UCI HAR Dataset/train/Inertial Signals/body_gyro_y_train.txt"
LABELS = "UCI HAR Dataset/train/y_train.txt"
PEOPLE = "UCI HAR Dataset/train/subject_train.txt"
ROW = "1.0 " * 128 + "\n"
DAMAGES = {
    "a value is missing": (
        SIGNAL,
        ROW + "1.0 " * 127 + "\n" + ROW,
        "line 2: received 127 finite numbers, expected 128",
    ),
    "a value too many": (SIGNAL, ROW + "1.0 " * 129 + "\n" + ROW, "line 2: received 129 finite numbers, expected 128"),
    "not a number": (SIGNAL, ROW + ROW + "x " * 128 + "\n", "line 3: could not convert string to float: 'x'"),
    "not finite": (SIGNAL, ROW + ROW + "inf " * 128 + "\n", "line 3: received 0 finite numbers, expected 128"),
    "a line is missing": (SIGNAL, ROW + ROW, " ends before line 3, expected as many lines as in the files beside it"),
    "the last line is cut": (SIGNAL, ROW + ROW + "1.0 1.", "line 3: received 2 finite numbers, expected 128"),
    "a line too many": (LABELS, "1\n2\n3\n4\n", " ends before line 4, expected as many lines"),
    "no such label": (LABELS, "1\n7\n3\n", "line 2: received '7', expected a whole number from 1 to 6"),
    "label zero": (LABELS, "0\n1\n3\n", "line 1: received '0', expected a whole number from 1 to 6"),
    "no such person": (PEOPLE, "1\n1\n31\n", "line 3: received '31', expected a whole number from 1 to 30"),
    "a person without number": (PEOPLE, "1\n\n1\n", "line 2: received '', expected a whole number from 1 to 30"),
    "other bytes": (PEOPLE, "1\n1\né\n", "line 3: received '\ufffd\ufffd', expected a whole number from 1 to 30"),
}


@pytest.mark.parametrize(("name", "text", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_named_with_the_line(name: str, text: str, message: str) -> None:
    with pytest.raises(archive.UnusableArchive) as refusal:
        list(archive.read_split(zipped(text_files() | {name: text}), "train"))
    assert message in str(refusal.value)
    assert str(refusal.value).startswith(SIGNAL.replace("gyro_y", "acc_x") if "before line 4" in message else name)
    assert refusal.value.exit_code == 1


def test_a_missing_file_is_named() -> None:
    files = text_files()
    del files[SIGNAL]
    with pytest.raises(archive.UnusableArchive, match=f"expected {SIGNAL} too"):
        next(archive.read_split(zipped(files), "train"))


def test_the_builder_documents_itself() -> None:
    info = Builder(data_dir=tfds_store.data_directory()).info
    assert info.features["series"].shape == (128, 9)
    assert info.features["label"].names[:2] == ["walking", "walking_upstairs"]
    assert "10.24432/C54S4K" in info.citation
    assert info.redistribution_info.license.startswith("CC BY 4.0")
    assert " ".join(archive.SIGNALS) == (
        "body_acc_x body_acc_y body_acc_z body_gyro_x body_gyro_y body_gyro_z total_acc_x total_acc_y total_acc_z"
    )
