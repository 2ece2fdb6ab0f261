"""What was written before training/ was divided into rooms is read, resumed, compared and exported as ever.

`python tests/run/test_written_before.py` wrote the files; to write them again would make the test say nothing.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import warnings
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from training import tracking
from training.cli.compare import compare
from training.config import parse
from training.datasets.base import Dataset, Examples, Reference, Spec
from training.datasets.store import portable
from training.run import checkpoints
from training.study.folder import STUDIES, StudyFolder
from training.tracking.reading import _from_mlflow
from training.train import train_one

ARCHIVE = Path(__file__).with_name("written_before.zip")
HERE = "/working-directory"  # in place of the folder in which the files were written
LENGTHS = (3, 1, 4, 2)
WORDS = ("", "[UNK]", "a", "é")


def values():
    return [np.arange(2 * steps, dtype="float32").reshape(-1, 2) / 7 - steps for steps in LENGTHS]


def examples():
    """Examples of every kind, which the folders of the archive hold."""
    numbers = np.arange(24, dtype="float32").reshape(4, 6) / 5
    return {
        "classification": Examples(values(), np.array([0, 1, 1, 0]), np.array([7, 7, 9, 9])),
        "labelling": Examples(values(), [np.arange(steps) % 3 - 1 for steps in LENGTHS]),
        "regression": Examples(values(), numbers),
        "forecasting": Examples(values(), numbers.reshape(4, 2, 3)),
        "language_model": Examples([np.array([2, 3, 1, 2], "int32")], vocabulary=WORDS),
        "text": Examples([np.array([2, 3, 1][:steps], "int32") for steps in (3, 1)], np.array([1, 0]), None, WORDS),
    }


class Made(Dataset):
    """A dataset of one of those kinds, not prepared here."""

    def __init__(self, kind):
        self.examples = examples()[kind]
        task = "classification" if kind == "text" else kind
        self.spec = Spec(
            name=f"made_{kind}",
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
            outputs={"regression": tuple("uvwxyz"), "forecasting": tuple("xyz")}.get(task, ()),
            horizon=2 if task == "forecasting" else 1,
            text=self.examples.vocabulary is not None,
        )

    def is_prepared(self):
        return False

    def _read(self, split):
        return self.examples

    def validation(self):
        return self.examples


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory as the commit before left it."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlruns/mlflow.db")) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (HERE, str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@pytest.mark.parametrize("kind", examples())
def test_stored_datasets_are_read(here, kind):
    original = Made(kind)
    stored = portable.instead_of(original, original.spec.name)
    assert stored.is_prepared()
    assert stored.spec == original.spec
    for part in (stored.load("train"), stored.validation(), stored.load("test", in_memory=False)):
        assert part.digest() == original.examples.digest()


def test_the_rows_of_a_study_are_read_and_reported_on(here):
    folder = StudyFolder(STUDIES / "before")
    assert [(row.condition, row.outcome, row.epochs) for row in folder.rows()] == [
        ("relu", "converged", 3),
        ("tanh", "converged", 3),
    ]
    table = (here / "mlruns/studies/before/results.csv").read_text()
    folder.report()
    assert (here / "mlruns/studies/before/results.csv").read_text() == table
    assert "relu" in (here / "mlruns/studies/before/report.md").read_text()


def test_runs_are_found_and_compared(here):
    quick = {run.run_id: run for run in tracking.runs()}
    thorough = {run.run_id: run for run in _from_mlflow(None)}
    assert len(quick) == 5
    assert quick == thorough
    rows = json.loads(CliRunner().invoke(compare, ["--json"], catch_exceptions=False).stdout)
    assert {(row["dataset"], row["metric"]) for row in rows} == {
        ("digits_rows", "accuracy"),
        ("mackey_glass", "mean_absolute_error"),
    }
    for row in rows:
        figures = row["validation_loss"], row["validation"], row["test"], row["seconds"]
        assert all(figure is not None and figure > 0 for figure in figures) == (row["outcome"] == "finished")


def run_of(name):
    [run] = [run for run in tracking.runs() if run.name == name]
    return run


@pytest.mark.parametrize(
    "name", ["lstm-tanh-digits_rows-1", pytest.param("lstm-tanh-mackey_glass-0", marks=pytest.mark.slow)]
)
def test_models_answer_as_they_did(here, name):
    import mlflow

    run = run_of(name)
    model, task = tracking.load(run)
    golden = tracking.load_golden(run)
    for sequence, answer in zip(golden.examples["features"], golden.answers, strict=True):
        inputs = {"features": sequence[None], "lengths": np.array([len(sequence)], "int32")}
        given = model.predict_on_batch(inputs)[0]
        if task["kind"] == "classification":
            given = np.exp(given) / np.exp(given).sum()
        np.testing.assert_allclose(given, answer, rtol=1e-4, atol=1e-6)  # float32, on any processor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow, about itself
        served = mlflow.pyfunc.load_model(f"{run.artifacts}/model")
    np.testing.assert_array_equal(served.predict(inputs), model.predict_on_batch(inputs))


def test_an_interrupted_run_goes_on(here):
    run = run_of("lstm-tanh-digits_rows-2")
    description = checkpoints.read_description(run.run_id)
    before = checkpoints.Checkpoints(checkpoints.folder_of(run.run_id)).latest()
    run_id, result = train_one(parse(description["config"]), Console(quiet=True), run.run_id)
    assert run_id == run.run_id
    assert (before.epochs, result.history[:2]) == (2, before.facts["history"])
    assert len(result.history) == 3
    after = tracking.find(run_id)
    assert after.status == "FINISHED"
    assert after.metrics["test/loss"] == pytest.approx(result.test.loss)
    # Under the names that it had, so that its curves are whole.
    with closing(sqlite3.connect("mlruns/mlflow.db")) as connection:
        kept = connection.execute("SELECT key, step FROM metrics WHERE run_uuid = ?", (run_id,)).fetchall()
    assert {step for key, step in kept if key == "validation/loss"} == {0, 1, 2}
    assert not {key for key, _ in kept if key.startswith(("curves/", "inside/", "result/"))}


SMALL = ["dataset.name=digits_rows", "dataset.batch_size=256", "model.units=3", "train.epochs=3"]


def write():
    """Write the archive: an interrupted run, two that finished, a study, and stored datasets."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder).resolve()
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "TFDS_DATA_DIR": str(here / "data")}

        def zoo(*arguments, dies=()):
            script = Path(sys.executable).with_name("zoo")
            program = [str(Path(__file__).parents[1] / "support/dying_zoo.py"), *dies] if dies else [str(script)]
            return subprocess.run(
                [sys.executable, *program, *arguments], cwd=here, env=environment, capture_output=True, text=True
            )

        print(zoo("train", *SMALL, "seed=1"))
        print(zoo("train", "dataset.name=mackey_glass", "model.units=2", "train.epochs=1", "dataset.batch_size=1000"))
        print(zoo("train", *SMALL, "seed=2", dies=("written", "2")))
        print(zoo("study", "--activation", "tanh,relu", "--seeds", "1", "--name", "before", "--workers", "1", *SMALL))
        for kind in examples():
            portable.carry(Made(kind), here / "data")
        with closing(sqlite3.connect(here / "mlruns/mlflow.db")) as connection, connection:
            for table, column in (
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("tags", "value"),
                ("params", "value"),
            ):
                connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(here), HERE))
            connection.execute("UPDATE tags SET value = 'a-host' WHERE key = 'host'")
        with closing(sqlite3.connect(here / "mlruns/mlflow.db")) as connection:
            connection.execute("VACUUM")
        for path in here.glob("mlruns/runs/*/journal.jsonl"):
            path.write_text(path.read_text().replace(str(here), HERE))
        shutil.rmtree(here / "mlruns/studies/before/pictures", ignore_errors=True)
        with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(here.rglob("*")):
                if (
                    path.is_file()
                    and path.name != ".lock"
                    and path.suffix not in (".png", ".lock", ".html", ".log", ".txt")
                ):
                    archive.write(path, path.relative_to(here))
                    print(path.relative_to(here), path.stat().st_size)
        print(ARCHIVE.stat().st_size)


if __name__ == "__main__":
    write()
