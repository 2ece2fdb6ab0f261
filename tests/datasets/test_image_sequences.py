import dataclasses
import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import mnist as official

from training.datasets import get
from training.datasets.base import Slices
from training.datasets.image_sequences import PERMUTATION_SEED, SOURCES, WAYS, ImageSequences, Way
from training.datasets.store import raw_files, rows as row_store, tfds as tfds_store

FILES = {"train": ("train", 30), "test": ("t10k", 20)}
# Typed in: a generator that gave other numbers would make another dataset.
PERMUTATION_BEGINS = [319, 576, 323, 107, 355, 716, 197, 20]
PERMUTATION_SHA256 = "96240fe27409981c3ed3e92c20d995f7103a94c2282307bc776923030113be74"


def permutation() -> np.ndarray:
    return np.random.RandomState(PERMUTATION_SEED).permutation(784)


def image(source: str, split: str, index: int) -> np.ndarray:
    """An image of its own for every source, split and index; its first pixel is the index."""
    pixels = np.random.default_rng([*source.encode(), *split.encode(), index]).integers(0, 256, (28, 28), np.uint8)
    pixels[0, 0] = index
    return pixels


def place(source: str, folder: Path) -> dict[str, Any]:
    """Put four small raw files into the folder; gives what a builder has to know to take them for the official ones."""
    folder.mkdir(parents=True)
    registered = {}
    builder_class = tfds.builder_cls(source)
    for split, (prefix, count) in FILES.items():
        images = np.stack([image(source, split, index) for index in range(count)])
        for name, header, content in (
            (f"{prefix}-images-idx3-ubyte.gz", bytes(16), images.tobytes()),
            (f"{prefix}-labels-idx1-ubyte.gz", bytes(8), bytes(index % 10 for index in range(count))),
        ):
            (folder / name).write_bytes(gzip.compress(header + content))
            checksum = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            size = (folder / name).stat().st_size
            url = builder_class.URL + name
            assert builder_class.url_infos[url].filename == name
            registered[url] = dataclasses.replace(builder_class.url_infos[url], checksum=checksum, size=size)
    return registered


def small(monkeypatch: pytest.MonkeyPatch, source: str, way: Way, train: int = 30, test: int = 20) -> ImageSequences:
    dataset = ImageSequences(source, way)
    monkeypatch.setattr(dataset, "spec", dataclasses.replace(dataset.spec, counts={"train": train, "test": test}))
    return dataset


@pytest.fixture
def small_files(empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_MANUAL_DIR", raising=False)
    monkeypatch.setattr(official, "_TRAIN_EXAMPLES", FILES["train"][1])
    monkeypatch.setattr(official, "_TEST_EXAMPLES", FILES["test"][1])
    placed = {source: place(source, empty_data_directory / "downloads" / "manual" / source) for source in SOURCES}
    for source, registered in placed.items():
        monkeypatch.setattr(tfds.builder_cls(source), "url_infos", registered)


@pytest.mark.parametrize("source", SOURCES)
def test_the_specs_say_what_the_official_builders_say(source: str) -> None:
    builder_class = tfds.builder_cls(source)
    info = builder_class(data_dir="/nonexistent").info
    assert str(builder_class.VERSION) == "3.0.1"
    assert info.features["image"].shape == (28, 28, 1)
    for way in WAYS:
        spec = get(f"{source}_{way}").spec
        assert spec.classes == tuple(info.features["label"].names)
        assert spec.counts == {"train": official._TRAIN_EXAMPLES, "test": official._TEST_EXAMPLES}
        assert spec.channels * spec.lengths[0] == 784  # type: ignore[index]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", SOURCES)
def test_mock_data_of_the_official_builder_gives_valid_examples(
    source: str, way: Way, empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_files, "check_raw_files", lambda builder_class, needed: empty_data_directory)
    dataset = small(monkeypatch, source, way, train=12, test=12)
    assert not dataset.is_prepared()
    with tfds.testing.mock_data(num_examples=12):
        train, test = dataset.load("train"), dataset.load("test")
    assert dataset.is_prepared()
    assert train.lengths.tolist() == test.lengths.tolist() == [dataset.spec.lengths[0]] * 12  # type: ignore[index]
    assert len({sequence.tobytes() for sequence in train.sequences}) == 12


@pytest.mark.parametrize("split", ["train", "test"])
def test_three_ways_of_the_same_images(small_files: None, monkeypatch: pytest.MonkeyPatch, split: Any) -> None:
    rows, pixels, permuted = (small(monkeypatch, "mnist", way).load(split) for way in WAYS)
    indices = [int(sequence[0, 0]) for sequence in rows.sequences]
    assert sorted(indices) == list(range(FILES[split][1]))
    for position, index in enumerate(indices):
        expected = image("mnist", split, index)
        np.testing.assert_array_equal(rows.sequences[position], expected)
        np.testing.assert_array_equal(pixels.sequences[position][:, 0], expected.ravel())
        np.testing.assert_array_equal(permuted.sequences[position][:, 0], expected.ravel()[permutation()])
    for examples in (rows, pixels, permuted):
        assert examples.labels.tolist() == [index % 10 for index in indices]


def test_the_permutation_is_fixed_for_ever() -> None:
    assert permutation()[:8].tolist() == PERMUTATION_BEGINS
    assert hashlib.sha256(permutation().astype("<i8").tobytes()).hexdigest() == PERMUTATION_SHA256


def test_files_of_the_same_name_do_not_get_in_each_other_s_way(
    small_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in SOURCES:
        examples = small(monkeypatch, source, "rows").load("test")
        first = examples.sequences[0]
        np.testing.assert_array_equal(first, image(source, "test", int(first[0, 0])))


def test_the_three_ways_are_kept_once(small_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, "kmnist", "permuted").prepare()
    monkeypatch.setattr(ImageSequences, "_rows", lambda *arguments: pytest.fail("made again"))
    for way in WAYS:
        dataset = small(monkeypatch, "kmnist", way)
        assert dataset.is_prepared()
        dataset.prepare()
        sequences = dataset.load("train", in_memory=False).sequences
        assert isinstance(sequences, Slices)
        assert isinstance(sequences.values, np.memmap) == (way != "permuted")
    assert [path.name for path in (tfds_store.data_directory() / "packed").iterdir()] == ["kmnist"]
    assert row_store.is_made(tfds_store.data_directory() / "packed" / "kmnist" / "rows-3.0.1" / "train")


@pytest.mark.parametrize("source", SOURCES)
def test_a_missing_file_is_named_with_its_hash_and_its_place(
    source: str, empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZOO_MANUAL_DIR", raising=False)
    monkeypatch.setattr(raw_files, "_why_unreachable", lambda url: "no network")
    with pytest.raises(raw_files.RawFileMissing) as error:
        get(f"{source}_rows").load("train")
    first = next(iter(tfds.builder_cls(source).url_infos.values()))
    place = empty_data_directory / "downloads" / "manual" / source
    for fact in (first.filename, first.checksum, f"it is not in {place},"):
        assert fact in str(error.value)
    assert not list((empty_data_directory / "packed").glob("**/*.incomplete"))
