"""Datasets that are brought to a machine that cannot prepare them: the same under the same name, to the bit."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from training import datasets
from training.cli.datasets import datasets as command
from training.datasets import Dataset, Examples, Reference, Spec
from training.datasets.store import portable
from training.datasets.store.rows import Row, RowsDataset
from training.datasets.store.tfds import PreparationFailed

RANDOM = np.random.default_rng(0)
LENGTHS = (3, 1, 4, 2)
VALUES = [RANDOM.normal(size=(steps, 2)).astype("float32") for steps in LENGTHS]
PEOPLE = np.array([7, 7, 9, 9])
VOCABULARY = ("", "[UNK]", "a", "é")
EXAMPLES = {
    "classification": Examples(VALUES, np.array([0, 1, 1, 0]), PEOPLE),
    "labelling": Examples(VALUES, [np.arange(steps) % 3 - 1 for steps in LENGTHS]),
    "regression": Examples(VALUES, RANDOM.normal(size=(4, 3)).astype("float32")),
    "forecasting": Examples(VALUES, RANDOM.normal(size=(4, 5, 3)).astype("float32")),
    "language_model": Examples([np.array([2, 3, 1, 2], "int32")], vocabulary=VOCABULARY),
}


class Prepared(Dataset):
    """A dataset of every task; `here` says whether it is prepared."""

    here = True

    def __init__(self, task: str) -> None:
        self.examples = EXAMPLES[task]
        self.tokens = "characters"
        self.spec = Spec(
            name=f"made_{task}",
            features="made up",
            channels=1 if self.examples.vocabulary else 2,
            classes=("no", "yes") if task in ("classification", "labelling") else (),
            lengths=(1, 4),
            counts=dict.fromkeys(("train", "test"), len(self.examples)),
            licence="none",
            citation="nobody",
            homepage="https://example.org",
            split_rule="all of it twice",
            references=(Reference("accuracy", 0.5, "a coin"),),
            task=task,
            outputs=("x", "y", "z") if task in ("regression", "forecasting") else (),
            horizon=5 if task == "forecasting" else 1,
            text=self.examples.vocabulary is not None,
        )

    def is_prepared(self) -> bool:
        return self.here

    def _read(self, split: str) -> Examples:
        if not self.here:
            import tensorflow_datasets  # noqa: F401
        return self.examples

    def validation(self) -> Examples | None:
        return self.examples if self.spec.task == "language_model" else None


@pytest.fixture
def made(monkeypatch, tmp_path, request):
    dataset = Prepared(getattr(request, "param", "classification"))
    monkeypatch.setitem(datasets.DATASETS, dataset.spec.name, dataset)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return dataset


@pytest.mark.parametrize("made", list(EXAMPLES), indirect=True)
def test_what_is_carried_is_the_same(made, monkeypatch, tmp_path):
    portable.carry(made, tmp_path)
    portable.carry(made, tmp_path)  # again, in place of the first
    assert datasets.get(made.spec.name) is made  # what is prepared is read as ever
    monkeypatch.setattr(Prepared, "here", False)
    there = datasets.get(made.spec.name)
    assert there.spec == made.spec
    assert there.tokens == "characters"
    assert there.is_prepared()
    assert portable.carry(there, tmp_path) == there.folder  # onto itself
    for split in ("train", "test"):
        assert there.load(split).digest() == made.examples.digest()
    validation = there.validation()
    assert (validation and validation.digest()) == (made.validation() and made.examples.digest())


def test_the_verb_says_what_to_do_next(made, monkeypatch, tmp_path):
    done = CliRunner().invoke(command, ["carry", made.spec.name, "--to", str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"Bring {tmp_path / 'out'} to the other machine, and let TFDS_DATA_DIR name it there" in done.stdout
    monkeypatch.setattr(Prepared, "here", False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "out"))
    facts = json.loads(CliRunner().invoke(command, [made.spec.name, "--json"], catch_exceptions=False).stdout)
    assert facts["prepared"]
    assert facts["bytes_on_disk"] > 0


@pytest.mark.parametrize("damage", ["another spec", "no spec", "damaged spec"])
def test_what_is_of_another_version_or_not_whole_is_not_read(damage, made, monkeypatch, tmp_path):
    folder = portable.carry(made, tmp_path)
    monkeypatch.setattr(Prepared, "here", False)
    if damage == "another spec":
        made.spec = dataclasses.replace(made.spec, features="made otherwise")
        with pytest.raises(PreparationFailed, match="another version of made_classification"):
            datasets.get(made.spec.name)
    elif damage == "damaged spec":
        (folder / "spec.json").write_text("{")
        with pytest.raises(PreparationFailed, match=r"spec\.json is damaged .*carry the dataset here again"):
            datasets.get(made.spec.name)
    else:
        (folder / "spec.json").unlink()  # as if carrying had been interrupted
        assert datasets.get(made.spec.name) is made


def test_a_dataset_that_cannot_be_prepared_says_how_it_gets_here(made, monkeypatch):
    monkeypatch.setattr(Prepared, "here", False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # cannot be imported
    with (
        pytest.raises(PreparationFailed, match=r"takes tensorflow_datasets\..*zoo datasets carry made_classification"),
        portable.where_prepared("made_classification"),
    ):
        made.load("train")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), portable.where_prepared("x"):
        __import__("no_such_module")


class KeptByRow(RowsDataset):
    """A dataset that is kept row by row already."""

    spec = dataclasses.replace(Prepared("classification").spec, name="made_by_row")

    def _made_of(self) -> str:
        return "1"

    def _rows(self, part: str):
        return [
            Row(values, int(label), int(who)) for values, label, who in zip(VALUES, [0, 1, 1, 0], PEOPLE, strict=True)
        ]


def test_what_is_kept_row_by_row_is_copied(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "here"))
    dataset = KeptByRow()
    dataset.prepare()
    monkeypatch.setattr(portable, "_keep", lambda *_: pytest.fail("written again"))
    folder = portable.carry(dataset, tmp_path / "there")
    for part in ("train", "test"):
        ours = {path.name: path.read_bytes() for path in dataset.stored_rows(part).iterdir()}
        assert {path.name: path.read_bytes() for path in (folder / part).iterdir()} == ours
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "there"))
    there = portable.instead_of(dataset, "made_by_row")
    assert isinstance(there, portable.Portable)
    assert there.load("test").digest() == EXAMPLES["classification"].digest()
