import dataclasses
import hashlib
import os
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from training.datasets import get
from training.datasets.store import raw_files, tfds as tfds_store
from training.datasets.text import text_of
from training.datasets.tiny_shakespeare import TinyShakespeare

FILE = "tiny_shakespeare/input.txt"


def small(monkeypatch: pytest.MonkeyPatch) -> TinyShakespeare:
    dataset = TinyShakespeare()
    monkeypatch.setattr(dataset, "spec", dataclasses.replace(dataset.spec, lengths=None))
    return dataset


@pytest.fixture
def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_data_directory: Path) -> TinyShakespeare:
    """Two hundred characters where the file is looked for, which TFDS takes for the real ones."""
    (info,) = tfds.builder_cls("tiny_shakespeare").url_infos.values()
    content = (b"ab\n" * 60 + b"aaaaz" + b"bbbbb" + b"a?\nb!" + b"bbbbb")[:200]
    monkeypatch.setattr(info, "checksum", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(info, "size", len(content))
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path / "manual"))
    (tmp_path / "manual" / FILE).parent.mkdir(parents=True)
    (tmp_path / "manual" / FILE).write_bytes(content)
    return small(monkeypatch)


def test_the_three_documents(placed: TinyShakespeare) -> None:
    assert not placed.is_prepared()
    test, validation, train = placed.load("test"), placed.validation(), placed.load("train")
    assert placed.is_prepared()
    # Of 200 characters, 180 are train: those that come only later are unknown.
    assert train.vocabulary == test.vocabulary == validation.vocabulary == ("", "[UNK]", "\n", "a", "b")
    texts = [text_of(part.sequences[0], train.vocabulary) for part in (train, validation, test)]
    assert texts == ["ab\n" * 60, "aaaa[UNK]bbbbb", "a[UNK]\nb[UNK]bbbbb"]
    assert [part.targets for part in (train, validation, test)] == [None] * 3


def test_prepare_makes_the_validation_document_too(placed: TinyShakespeare, monkeypatch: pytest.MonkeyPatch) -> None:
    placed.prepare()
    monkeypatch.setattr(TinyShakespeare, "_texts", lambda self, part: pytest.fail("read again"))
    assert len(placed.validation()) == 1


def test_what_tfds_mocks(monkeypatch: pytest.MonkeyPatch, empty_data_directory: Path) -> None:
    monkeypatch.setattr(raw_files, "check_raw_files", lambda builder_class, needed: None)
    dataset = small(monkeypatch)
    with tfds.testing.mock_data():
        train, validation = dataset.load("train"), dataset.validation()
    assert train.digest() == validation.digest()  # TFDS mocks the same text for every split
    assert set(train.vocabulary or ()) <= {"", "[UNK]", " ", *"abcdefghij"}


def test_the_version_is_that_of_the_builder() -> None:
    builder_class = tfds.builder_cls("tiny_shakespeare")
    assert tfds_store.full_version(builder_class, None) == TinyShakespeare.version


def test_other_datasets_leave_validation_to_the_pipeline() -> None:
    assert get("japanese_vowels").validation() is None


@pytest.mark.skipif(
    not Path(os.environ.get("ZOO_MANUAL_DIR", "/nonexistent"), FILE).is_file(),
    reason=f"ZOO_MANUAL_DIR/{FILE} is not there",
)
def test_the_real_plays() -> None:
    dataset = get("tiny_shakespeare")
    train, validation, test = dataset.load("train"), dataset.validation(), dataset.load("test")
    assert validation is not None
    assert [part.lengths.tolist() for part in (train, validation, test)] == [[1003854], [55770], [55770]]
    vocabulary = train.vocabulary
    assert vocabulary is not None
    assert vocabulary == validation.vocabulary == test.vocabulary
    assert len(vocabulary) == 2 + 65
    whole = "".join(text_of(part.sequences[0], vocabulary) for part in (train, validation, test))
    assert whole.encode() == Path(os.environ["ZOO_MANUAL_DIR"], FILE).read_bytes()
