import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from waiting import PATIENCE

from training.datasets import get
from training.datasets.japanese_vowels import archive, make_npz
from training.datasets.japanese_vowels.builder import JapaneseVowels as Builder
from training.datasets.store import tfds as tfds_store

FOLDER = Path(archive.__file__).parent


class TestBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks. The vendored file is small enough to be its own example data."""

    DATASET_CLASS = Builder
    EXAMPLE_DIR = FOLDER
    SPLITS = {"train": 270, "test": 370}  # noqa: RUF012


def test_facts_of_the_source() -> None:
    # Counts, lengths and speakers as the data's own documentation states them.
    train, test = archive.read_archive()["train"], archive.read_archive()["test"]
    assert np.bincount(train.labels).tolist() == [30] * 9
    assert np.bincount(test.labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    for series in (train, test):
        assert series.values.shape == (series.lengths.sum(), 12)
        assert (series.values.dtype, series.lengths.dtype, series.labels.dtype) == (np.float32, np.int64, np.int64)
        assert np.isfinite(series.values).all()
    both = np.concatenate([train.lengths, test.lengths])
    assert (both.min(), both.max()) == (7, 29)


def test_values_typed_from_the_source() -> None:
    # The first utterance of the training file has 20 steps; its first two channels begin and end like this.
    first = archive.read_archive()["train"].values[:20]
    expected = np.array([[1.860936, -0.207383], [1.891651, -0.193249], [1.939205, -0.239664]], np.float32)
    np.testing.assert_array_equal(first[:3, :2], expected)
    np.testing.assert_array_equal(first[-1, :4], np.array([1.261441, -0.63835, 0.217443, 0.263384], np.float32))
    assert archive.read_archive()["train"].lengths[0] == 20


def test_loading_gives_the_archive_in_its_order() -> None:
    for split, series in archive.read_archive().items():
        examples = get("japanese_vowels").load(split)
        np.testing.assert_array_equal(np.concatenate(examples.sequences), series.values)
        np.testing.assert_array_equal(examples.lengths, series.lengths)
        np.testing.assert_array_equal(examples.labels, series.labels)


def test_no_utterance_is_in_both_splits() -> None:
    train, test = (
        {sequence.tobytes() for sequence in get("japanese_vowels").load(split).sequences} for split in ("train", "test")
    )
    assert not train & test


def test_the_builder_documents_itself() -> None:
    info = Builder(data_dir=tfds_store.data_directory()).info
    assert info.features["series"].shape == (None, 12)
    assert info.features["label"].names == [f"speaker_{number}" for number in range(1, 10)]
    assert "10.24432/C5NS47" in info.citation
    assert info.redistribution_info.license == "CC BY 4.0"
    assert "LPC cepstrum" in info.features["series"].doc.desc


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    content = bytearray(archive.ARCHIVE.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    damaged = tmp_path / "japanese_vowels.npz"
    damaged.write_bytes({"flipped": content, "cut": content[:-1], "empty": b""}[damage])
    with pytest.raises(archive.CorruptArchive, match=f"expected {archive.ARCHIVE_SHA256}: .*reinstall"):
        archive.read_archive(damaged)


def test_a_damaged_file_prepares_nothing(
    empty_data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "japanese_vowels.npz"
    damaged.write_bytes(b"PK")
    monkeypatch.setattr(Builder, "archive", damaged)
    dataset = get("japanese_vowels")
    with pytest.raises(archive.CorruptArchive):
        dataset.prepare()
    assert not dataset.is_prepared()
    assert list((empty_data_directory / "japanese_vowels").iterdir()) == []


def source_text(values: str) -> str:
    return f"#about\n@problemName X\n@classLabel true 1 2 3\n@data\n{values}\n"


def test_source_files_are_parsed_channel_by_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source.ts"
    source.write_text(source_text("1.5,2.5,-3e-1:4,5,6:3\n7:8:1"))
    with pytest.raises(make_npz.UnexpectedSource) as refusal:
        make_npz.read_series(source, "train")
    received = re.search(r"has SHA-256 (\w{64})", str(refusal.value))
    assert received is not None
    monkeypatch.setitem(make_npz.SOURCE_SHA256, "train", received[1])
    series = make_npz.read_series(source, "train")
    np.testing.assert_array_equal(series.values, np.array([[1.5, 4], [2.5, 5], [-0.3, 6], [7, 8]], np.float32))
    assert series.lengths.tolist() == [3, 1]
    assert series.labels.tolist() == [2, 0]


def test_attribution_names_what_the_code_names() -> None:
    text = (FOLDER / "ATTRIBUTION.md").read_text()
    facts = (*make_npz.SOURCE_SHA256.values(), "10.24432/C5NS47", "Attribution 4.0", "Kudo", "Toyama", "Shimbo")
    assert [fact for fact in facts if fact not in text] == []


PREPARE_AT_A_SIGNAL = """
import sys
from training.datasets import get
from training.datasets.japanese_vowels import builder
import tensorflow
print("ready", flush=True)
sys.stdin.readline()
print(get("japanese_vowels").load("train").digest())
"""


@pytest.mark.slow
def test_two_processes_may_prepare_at_once(empty_data_directory: Path) -> None:
    command = [sys.executable, "-c", PREPARE_AT_A_SIGNAL]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    digests = {output for output, _ in ended}
    assert digests == {get("japanese_vowels").load("train").digest() + "\n"}
    assert [path.name for path in (empty_data_directory / "japanese_vowels").iterdir()] == ["1.0.0"]


def test_a_lost_race_reads_the_winners_data(empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = Builder._split_generators

    def while_another_process_finishes(self: Builder, dl_manager: object) -> dict:
        monkeypatch.setattr(Builder, "_split_generators", generate)
        Builder(data_dir=empty_data_directory).download_and_prepare()
        return generate(self, dl_manager)

    monkeypatch.setattr(Builder, "_split_generators", while_another_process_finishes)
    assert len(get("japanese_vowels").load("train")) == 270
    assert [path.name for path in (empty_data_directory / "japanese_vowels").iterdir()] == ["1.0.0"]
