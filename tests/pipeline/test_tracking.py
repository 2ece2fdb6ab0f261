"""What a run leaves in MLflow, and how the verbs find it again."""

import json
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient
from rich.console import Console

from training import commands, environment, pictures, tracking
from training.config import load
from training.loop import load_data

SILENT = Console(quiet=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A working directory with two runs that finished and one that diverged."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quick = ["train.epochs=2", "model.units=8", "dataset.batch_size=32", "study=test"]
        kept, _ = commands.train_one(load(overrides=[*quick, "model.activation=relu"]), SILENT)
        other, _ = commands.train_one(load(overrides=[*quick, "seed=1"]), SILENT)
        explode = ["optimizer.name=sgd", "optimizer.learning_rate=1e8", "optimizer.clipnorm=none"]
        diverged, _ = commands.train_one(load(overrides=[*quick, *explode]), SILENT)
        yield SimpleNamespace(folder=folder, kept=kept, other=other, diverged=diverged)


@pytest.fixture
def inside(store, monkeypatch):
    monkeypatch.chdir(store.folder)
    return store


def invoke(command, *arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_the_whole_run_is_there(inside):
    client = MlflowClient(tracking.tracking_uri())
    run = client.get_run(inside.kept)
    config = load(overrides=["train.epochs=2", "model.units=8", "dataset.batch_size=32", "study=test"])
    expected = {key: str(value) for key, value in config.flat().items()} | {"model.activation": "relu"}
    assert run.data.params == expected
    assert run.info.status == "FINISHED"
    wanted = {"dataset": "japanese_vowels", "family": "lstm", "activation": "relu", "seed": "0", "study": "test"}
    assert run.data.tags.items() >= wanted.items()
    assert run.data.tags["version.keras"] == keras.__version__
    for metric in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy"):
        assert [point.step for point in client.get_metric_history(inside.kept, metric)] == [0, 1]
    assert {"best_validation/accuracy", "test/accuracy", "seconds", "parameters"} <= set(run.data.metrics)
    files = {file.path for file in client.list_artifacts(inside.kept)}
    assert files == {"model.keras", "task.json", "learning_curves.png", "confusion_matrix.png"}
    inputs = {given.dataset.name: given.dataset.digest for given in run.inputs.dataset_inputs}
    data = load_data(config)
    assert inputs == {
        "japanese_vowels/train": data.train.digest()[:16],
        "japanese_vowels/validation": data.validation.digest()[:16],
    }


def test_everything_lies_under_mlruns(inside):
    assert {path.name for path in inside.folder.iterdir()} <= {"mlruns", "models"}
    assert {path.name for path in (inside.folder / "mlruns").iterdir()} <= {
        "mlflow.db",
        ".mlflow.db.lock",
        "artifacts",
        "compare.png",
    }


def test_a_diverged_run_is_recorded_as_such(inside):
    run = tracking.find(inside.diverged)
    assert (run.status, run.tags["outcome"]) == ("FAILED", "diverged")
    assert "optimizer.clipnorm" in run.tags["reason"]
    assert "test/accuracy" not in run.metrics


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (OSError, "FAILED")])
def test_a_run_that_breaks_off_says_so(inside, error, status):
    config = load(overrides=["experiment=broken"])
    with pytest.raises(error), tracking.record(config, load_data(config)):
        raise error
    assert tracking.runs("broken")[0].status == status


def test_the_model_comes_back(inside):
    model, task = tracking.load(tracking.find(inside.kept))
    assert task["classes"][0] == "speaker_1"
    x = np.zeros((1, 5, task["channels"]), "float32")
    assert np.isfinite(np.asarray(model({"features": x, "lengths": np.int32([5])}))).all()


def test_runs_are_found_by_a_unique_beginning(inside):
    assert tracking.find(inside.kept[:12]).run_id == inside.kept
    with pytest.raises(tracking.RunNotFound, match="the latest are"):
        tracking.find("zzzz")
    stored = tracking.runs()
    twins = [stored[0], stored[0]]
    with pytest.raises(tracking.RunNotFound, match="ambiguous"):
        tracking.find(stored[0].run_id[:1], twins)


def test_compare_orders_by_validation_and_draws(inside):
    answer = invoke(commands.compare, "--study", "test", "--json")
    rows = json.loads(answer.stdout)
    losses = [row["validation_loss"] for row in rows]
    assert losses[:2] == sorted(losses[:2])
    assert rows[2]["outcome"] == "diverged"
    shown = invoke(commands.compare, inside.kept[:8], inside.diverged[:8])
    assert "diverged" in shown.output
    assert "compare-runs" in shown.output
    assert (inside.folder / "mlruns/compare.png").stat().st_size > 10_000


def test_compare_with_nothing_to_compare(inside):
    with pytest.raises(tracking.RunNotFound, match="no run to compare"):
        invoke(commands.compare, "--dataset", "none_such")


def test_export_writes_versions_with_a_card(inside):
    first = json.loads(invoke(commands.export, inside.kept[:8], "--name", "m", "--json").stdout)
    second = json.loads(invoke(commands.export, inside.kept[:8], "--name", "m", "--json").stdout)
    assert (first["version"], second["version"]) == (1, 2)
    card = json.loads((inside.folder / first["path"] / "assets.extra/model_card.json").read_text())
    assert card["run_id"] == inside.kept
    assert card["config"]["model.activation"] == "relu"
    assert card["metrics"]["test/accuracy"] == tracking.find(inside.kept).metrics["test/accuracy"]


def test_export_of_what_cannot_be(inside):
    assert invoke(commands.export, inside.kept, "--name", "../x").exit_code == 2
    with pytest.raises(RuntimeError, match="diverged"):  # its weights are beyond all bounds
        invoke(commands.export, inside.diverged, "--name", "d")
    with pytest.raises(tracking.RunNotFound, match="no run begins"):
        invoke(commands.export, "zzz", "--name", "d")


def test_a_run_without_files_cannot_be_loaded(inside):
    config = load(overrides=["experiment=empty"])
    with tracking.record(config, load_data(config)) as recorder:
        pass
    with pytest.raises(tracking.RunNotFound, match=r"has no model\.keras"):
        tracking.load(tracking.find(recorder.run_id))


def test_two_processes_share_a_fresh_store(tmp_path):
    script = (
        "from training import tracking; from training.config import load; from training.loop import load_data\n"
        "config = load(); data = load_data(config)\n"
        "with tracking.record(config, data) as recorder: recorder.metrics({'a': 1.0})\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in started:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert [run.metrics for run in tracking.runs("sequence-zoo")] == [{"a": 1.0}] * 2


def test_the_environment_is_described_outside_git_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "git_commit" not in environment.describe()


def test_pictures_of_short_and_broken_runs():
    nan = float("nan")
    for history in ([{"train/loss": nan}], [{"train/loss": 0.0, "validation/loss": nan, "train/accuracy": 1.0}]):
        assert pictures.learning_curves(history, None).axes
    assert pictures.confusion_matrix(np.zeros((2, 2), int), ["a", "b"], "none").axes
    assert pictures.comparison(["a", "b"], [0.5, nan], [nan, nan]).axes
