import dataclasses
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds

from training.datasets import Examples, get
from training.datasets.store import raw_files, tfds as tfds_store
from training.datasets.text import TextDataset
from training.datasets.text_classification import AgNews, GlueSst2, ImdbReviews, Trec

CLASSES = (ImdbReviews, AgNews, GlueSst2, Trec)

RAW_FILES: dict[type[TextDataset], Callable[[], dict[str, bytes]]] = {}


def raw(dataset_class: type[TextDataset]) -> Any:
    def register(make: Callable[[], dict[str, bytes]]) -> None:
        RAW_FILES[dataset_class] = make

    return register


def tar_gz(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


@raw(ImdbReviews)
def imdb() -> dict[str, bytes]:
    files = {
        "train/pos/0_9.txt": "Good, GOOD film!<br /><br />",
        "train/neg/0_2.txt": "A bad film",
        "train/unsup/0_0.txt": "Never read",
        "test/pos/0_8.txt": "good music",
        "test/neg/0_1.txt": "...",
    }
    return {"aclImdb_v1.tar.gz": tar_gz({f"aclImdb/{name}": content for name, content in files.items()})}


@raw(AgNews)
def ag_news() -> dict[str, bytes]:
    files = {
        "train.csv": '"3","Oil up","Oil, oil ""up"" again"\n"2","Cup final","A goal"\n',
        "test.csv": '"1","Vote","A vote on oil"\n"4","Chips","Up"\n',
    }
    return {"ag_news_csv.tar.gz": tar_gz({f"ag_news_csv/{name}": content for name, content in files.items()})}


@raw(GlueSst2)
def glue_sst2() -> dict[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("SST-2/train.tsv", "sentence\tlabel\na fine , fine film \t1\na dull film \t0\n")
        archive.writestr("SST-2/dev.tsv", "sentence\tlabel\nfine acting \t1\ndull \t0\n")
        archive.writestr("SST-2/test.tsv", "index\tsentence\n0\thidden label\n")
    return {"SST-2.zip": buffer.getvalue()}


@raw(Trec)
def trec() -> dict[str, bytes]:
    return {
        "train_5500.label": b"DESC:manner How did serfdom develop ?\nHUM:ind Who did sister\xf0city ?\n",
        "TREC_10.label": b"NUM:dist How far is Denver ?\nLOC:city Who ?\n",
    }


TEXTS: dict[type[TextDataset], dict[str, list[tuple[str, str]]]] = {
    ImdbReviews: {
        "train": [("a bad film", "neg"), ("good good filmbr br", "pos")],
        "test": [("[UNK]", "neg"), ("good [UNK]", "pos")],
    },
    AgNews: {
        "train": [("cup final a goal", "Sports"), ("oil up oil oil up again", "Business")],
        "test": [("[UNK] a [UNK] [UNK] oil", "World"), ("[UNK] up", "Sci/Tech")],
    },
    GlueSst2: {
        "train": [("a dull film", "negative"), ("a fine fine film", "positive")],
        "test": [("dull", "negative"), ("fine [UNK]", "positive")],
    },
    Trec: {
        "train": [("how did serfdom develop", "DESC"), ("who did sister city", "HUM")],
        "test": [("how [UNK] [UNK] [UNK]", "NUM"), ("who", "LOC")],
    },
}


@pytest.fixture(params=CLASSES)
def dataset(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TextDataset:
    """With two examples a split, as the fake raw files and the mocks have them."""
    made: TextDataset = request.param()
    monkeypatch.setattr(made, "spec", dataclasses.replace(made.spec, counts={"train": 2, "test": 2}))
    return made


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_data_directory: Path) -> Path:
    def download(*arguments: object, **options: object) -> None:
        pytest.fail("TFDS downloads although there is no network")

    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: "no network")
    monkeypatch.setattr(tfds.download.DownloadManager, "_download", download)
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path / "manual"))
    return tmp_path / "manual"


@pytest.fixture
def placed(dataset: TextDataset, offline: Path, monkeypatch: pytest.MonkeyPatch) -> TextDataset:
    """Small raw files in the format of the real ones, under their names, that TFDS takes for the real ones."""
    builder_class = tfds.builder_cls(dataset.source)
    names = {Path(info.filename or url).name: info for url, info in builder_class.url_infos.items()}
    folder = offline / dataset.source
    folder.mkdir(parents=True)
    for name, content in RAW_FILES[type(dataset)]().items():
        (folder / name).write_bytes(content)
        monkeypatch.setattr(names[name], "checksum", hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(names[name], "size", len(content))
        monkeypatch.setattr(names[name], "filename", names[name].filename)  # put back what the code fills in
    return dataset


def read(examples: Examples, classes: tuple[str, ...]) -> list[tuple[str, str]]:
    vocabulary = examples.vocabulary
    assert vocabulary is not None
    texts = [" ".join(vocabulary[token] for token in sequence) for sequence in examples.sequences]
    return sorted(zip(texts, (classes[label] for label in examples.labels), strict=True))


def test_the_official_builder_reads_raw_files_placed_by_hand(placed: TextDataset) -> None:
    assert not placed.is_prepared()
    test, train = placed.load("test"), placed.load("train")
    assert placed.is_prepared()
    assert train.vocabulary == test.vocabulary
    assert {"train": read(train, placed.spec.classes), "test": read(test, placed.spec.classes)} == TEXTS[type(placed)]


def test_texts_are_prepared_once_for_each_vocabulary(placed: TextDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = placed.load("test").vocabulary
    with monkeypatch.context() as patch:
        patch.setattr(TextDataset, "_texts", lambda self, part: pytest.fail("read again"))
        placed.prepare()
        placed.load("train")
    monkeypatch.setattr(placed, "vocabulary_size", 2)
    assert not placed.is_prepared()
    assert placed.load("test").vocabulary == (whole or ())[:4]


def test_a_missing_file_is_named_and_no_other(dataset: TextDataset, offline: Path) -> None:
    with pytest.raises(raw_files.RawFileMissing) as error:
        dataset.load("train")
    needs, name, *_ = str(error.value).removeprefix(dataset.source).split()
    assert needs == "needs"
    assert name in RAW_FILES[type(dataset)]()
    assert str(offline / dataset.source) in str(error.value)


def test_what_tfds_mocks_is_what_the_spec_says(
    dataset: TextDataset, monkeypatch: pytest.MonkeyPatch, empty_data_directory: Path
) -> None:
    monkeypatch.setattr(raw_files, "check_raw_files", lambda builder_class, needed: None)
    with tfds.testing.mock_data(num_examples=2):
        train, test = dataset.load("train"), dataset.load("test")
    assert train.lengths.min() >= 1
    assert train.digest() == test.digest()  # TFDS mocks the same texts for every split
    assert max(sequence.max() for sequence in train.sequences) == len(train.vocabulary or ()) - 1


@pytest.mark.parametrize("dataset_class", CLASSES)
def test_version_and_classes_are_those_of_the_builder(
    dataset_class: type[TextDataset], empty_data_directory: Path
) -> None:
    dataset = dataset_class()
    assert get(dataset.spec.name).spec == dataset.spec
    builder_class = tfds.builder_cls(dataset.source)
    assert tfds_store.full_version(builder_class, dataset.config) == dataset.version
    builder = builder_class(data_dir=empty_data_directory, config=dataset.config)
    assert tuple(builder.info.features[dataset.label].names) == dataset.spec.classes
    assert set(dataset.fields) <= set(builder.info.features)
