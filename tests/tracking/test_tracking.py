"""What a run leaves in MLflow, and how the verbs find it again."""

import csv
import json
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import keras
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient
from rich.console import Console
from waiting import PATIENCE

from training import pictures, tracking
from training.cli import compare as compare_cli, export as export_cli, ui
from training.config import load
from training.run import environment
from training.run.loop import load_data
from training.run.metrics import stored_name
from training.tracking import diagnosis, offline, quick_reading, reading, store as tracking_store
from training.tracking.journal import Journal
from training.tracking.recording import _name
from training.train import train_one

SILENT = Console(quiet=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A working directory with two runs that finished and one that diverged."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(diagnosis, "_FREE", 60.0)  # so that what is seen does not depend on how fast the machine is
        quick = ["train.epochs=2", "model.units=8", "dataset.batch_size=32", "study=test"]
        kept, _ = train_one(load(overrides=[*quick, "model.activation=relu"]), SILENT)
        other, _ = train_one(load(overrides=[*quick, "seed=1"]), SILENT)
        explode = ["optimizer.name=sgd", "optimizer.learning_rate=1e8", "optimizer.clipnorm=none"]
        diverged, _ = train_one(load(overrides=[*quick, *explode]), SILENT)
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
    assert {"engine", "threads", "machine", "host", "pid", "process_started"} <= set(run.data.tags)
    assert "diagnostics" not in run.data.tags  # which says that they broke off
    for metric in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy"):
        assert [point.step for point in client.get_metric_history(inside.kept, stored_name(metric))] == [0, 1]
    final = ("best_validation/accuracy", "test/accuracy", "seconds", "parameters")
    assert {f"result/{name}" for name in final} <= set(run.data.metrics)
    assert run.data.metrics["result/peak_memory_mb"] > 100
    seen = {"cell_peak", "forget_gate_open", "dead_candidate", "gradient_first_over_last"}
    assert {f"inside/lstm_1/{name}" for name in seen} <= set(run.data.metrics)
    assert 0 < run.data.metrics["curves/train/gradient_norm"] <= run.data.metrics["curves/train/gradient_norm_max"]
    inputs = {given.dataset.name: given.dataset.digest for given in run.inputs.dataset_inputs}
    data = load_data(config)
    assert inputs == {
        "japanese_vowels/train": data.train.digest()[:16],
        "japanese_vowels/validation": data.validation.digest()[:16],
        "japanese_vowels/test": data.dataset.load("test").digest()[:16],
    }


def test_files_of_a_run(inside):
    client = MlflowClient(tracking.tracking_uri())
    assert {file.path for file in client.list_artifacts(inside.kept)} == {
        "model",
        "task.json",
        "golden.npz",
        "learning_curves.png",
        "health.txt",
        "gradient_flow.png",
        "confusion_matrix.png",
        "confusion_matrix.csv",
        "per_class.csv",
    }
    artifacts = inside.folder / "mlruns/artifacts" / inside.kept / "artifacts"
    with (artifacts / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["examples"]) for row in rows) == 370
    right = sum(float(row["recall"]) * int(row["examples"]) for row in rows) / 370
    assert right == pytest.approx(tracking.find(inside.kept).metrics["test/accuracy"], abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # inside MLflow 3.17
def test_mlflow_loads_the_model_and_takes_sequences_of_any_length(inside):
    uri = str(inside.folder / "mlruns/artifacts" / inside.kept / "artifacts/model")
    ours, _ = tracking.load(tracking.find(inside.kept))
    for loaded in (mlflow.pyfunc.load_model(uri), mlflow.tensorflow.load_model(uri)):
        for rows, steps in ((1, 4), (3, 40)):
            features = np.random.default_rng(0).normal(size=(rows, steps, 12)).astype("float32")
            batch = {"features": features, "lengths": np.full(rows, steps, "int32")}
            np.testing.assert_array_equal(np.asarray(loaded.predict(batch)), np.asarray(ours.predict_on_batch(batch)))
    signature = mlflow.models.get_model_info(uri).signature
    assert [tuple(spec.shape) for spec in signature.inputs.inputs] == [(-1, -1, 12), (-1,)]


def test_the_name_shows_the_cell_where_it_is_not_the_plain_one():
    tags = {"family": "lstm", "cell": "peephole", "activation": "tanh", "dataset": "digits_rows", "seed": 3}
    assert _name(tags) == "lstm-peephole-tanh-digits_rows-3"
    assert _name(tags | {"cell": "lstm"}) == "lstm-tanh-digits_rows-3"
    assert _name(tags | {"family": "gru", "cell": None}) == "gru-tanh-digits_rows-3"


def test_everything_lies_under_mlruns(inside):
    assert {path.name for path in inside.folder.iterdir()} <= {"mlruns", "models"}
    assert {path.name for path in (inside.folder / "mlruns").iterdir()} <= {
        "mlflow.db",
        ".mlflow.db.lock",
        "artifacts",
        "runs",
        "compare.png",
    }
    assert not list((inside.folder / "mlruns/runs").iterdir())  # everything was delivered


def test_a_diverged_run_is_recorded_as_such(inside):
    run = tracking.find(inside.diverged)
    assert (run.status, run.tags["outcome"]) == ("FAILED", "diverged")
    assert "optimizer.clipnorm" in run.tags["reason"]
    assert "; the norm of the gradient was up to" in run.tags["reason"]
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
    answer = invoke(compare_cli.compare, "--study", "test", "--json")
    rows = json.loads(answer.stdout)
    losses = [row["validation_loss"] for row in rows]
    assert losses[:2] == sorted(losses[:2])
    assert rows[2]["outcome"] == "diverged"
    shown = invoke(compare_cli.compare, inside.kept[:8], inside.diverged[:8])
    assert "diverged" in shown.output
    assert f"zoo ui {inside.kept[:8]} {inside.diverged[:8]}" in shown.output
    assert (inside.folder / "mlruns/compare.png").stat().st_size > 10_000


def test_compare_with_nothing_to_compare(inside):
    with pytest.raises(tracking.RunNotFound, match="no run to compare"):
        invoke(compare_cli.compare, "--dataset", "none_such")


def test_export_writes_versions_with_a_card(inside):
    first = json.loads(invoke(export_cli.export, inside.kept[:8], "--name", "m", "--json").stdout)
    second = json.loads(invoke(export_cli.export, inside.kept[:8], "--name", "m", "--json").stdout)
    assert (first["version"], second["version"]) == (1, 2)
    card = json.loads((inside.folder / first["path"] / "assets.extra/model_card.json").read_text())
    assert card["run_id"] == inside.kept
    assert card["config"]["model.activation"] == "relu"
    assert card["metrics"]["test/accuracy"] == tracking.find(inside.kept).metrics["test/accuracy"]
    assert set(card["dataset"]["parts"]) == {"train", "validation", "test"}
    assert card["dataset"]["digest"] == load_data(load()).train.digest()[:16]
    client = MlflowClient(tracking.tracking_uri())
    assert [version.run_id for version in client.search_model_versions("name = 'm'")] == [inside.kept] * 2
    assert any(file.path.endswith("saved_model.pb") for file in client.list_artifacts(inside.kept, "saved_model/2"))


def test_export_of_what_cannot_be(inside):
    assert invoke(export_cli.export, inside.kept, "--name", "../x").exit_code == 2
    with pytest.raises(RuntimeError, match="diverged"):  # its weights are beyond all bounds
        invoke(export_cli.export, inside.diverged, "--name", "d")
    with pytest.raises(tracking.RunNotFound, match="no run begins"):
        invoke(export_cli.export, "zzz", "--name", "d")


def test_a_run_without_files_cannot_be_loaded(inside):
    config = load(overrides=["experiment=empty"])
    with tracking.record(config, load_data(config)) as recorder:
        pass
    with pytest.raises(tracking.RunNotFound, match=r"has no model/model\.keras"):
        tracking.load(tracking.find(recorder.run_id))


def test_a_kill_while_the_tables_are_made_breaks_no_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns/.mlflow.db.incomplete").write_bytes(b"half of it")
    (tmp_path / "mlruns/.mlflow.db.incomplete-journal").write_bytes(b"of the half")
    assert tracking.runs() == []
    assert sorted(path.name for path in (tmp_path / "mlruns").glob("*mlflow.db*")) == [".mlflow.db.lock", "mlflow.db"]


@pytest.mark.slow
def test_two_processes_share_a_fresh_store_and_one_is_killed(tmp_path):
    script = (
        "import os, signal, sys; from training import tracking\n"
        "from training.config import load; from training.run.loop import load_data\n"
        "config = load(); data = load_data(config)\n"
        "with tracking.record(config, data) as recorder:\n"
        "    recorder.metrics({'a': 1.0})\n"
        "    if sys.argv[1] == 'killed': os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    started = {
        fate: subprocess.Popen([sys.executable, "-c", script, fate], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for fate in ("finished", "killed")
    }
    for fate, process in started.items():
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == (0 if fate == "finished" else -signal.SIGKILL), errors
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        stored = tracking.runs("sequence-zoo")
    assert sorted(run.status for run in stored) == ["FINISHED", "KILLED"]
    assert [run.metrics for run in stored] == [{"a": 1.0}] * 2  # the journal of the dead one was delivered


def test_runs_whose_process_is_gone_are_killed_and_no_others(inside):
    client = MlflowClient(tracking.tracking_uri())
    experiment = client.create_experiment("reaped")
    mine = offline.process_tags()
    fates = {
        "mine": ("RUNNING", mine),
        "gone": ("KILLED", mine | {"pid": "999999999"}),
        "number given anew": ("KILLED", mine | {"process_started": "12.00"}),
        "elsewhere": ("RUNNING", mine | {"host": "another", "pid": "999999999"}),
    }
    made = {name: client.create_run(experiment, tags=tags).info.run_id for name, (_, tags) in fates.items()}
    assert set(tracking.reap(client)) == {made["gone"], made["number given anew"]}
    assert {name: client.get_run(run_id).info.status for name, run_id in made.items()} == {
        name: status for name, (status, _) in fates.items()
    }


def test_a_run_goes_on_without_saying_anything_twice(inside):
    config = load(overrides=["experiment=resumed"])
    data = load_data(config)

    def interrupted() -> tracking.Recorder:
        with suppress(KeyboardInterrupt), tracking.record(config, data) as recorder:
            for epoch, loss in enumerate((2.0, 1.0)):
                recorder.metrics({"train/loss": loss}, epoch)
            raise KeyboardInterrupt
        return recorder

    recorder = interrupted()
    assert tracking.find(recorder.run_id).status == "KILLED"
    with tracking.record(config, data, recorder.run_id) as again:
        assert tracking.find(recorder.run_id).status == "RUNNING"
        again.metrics({"train/loss": 1.0}, 1)
        again.metrics({"train/loss": 0.5, "train/accuracy": 0.9}, 2)
    assert (again.run_id, again.name) == (recorder.run_id, recorder.name)
    client = MlflowClient(tracking.tracking_uri())
    history = client.get_metric_history(recorder.run_id, stored_name("train/loss"))
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 1.0), (2, 0.5)]
    assert client.get_run(recorder.run_id).info.status == "FINISHED"


def test_the_ui_opens_the_page_that_was_asked_for(inside):
    base = "http://127.0.0.1:5001"
    assert inside.kept in ui._page([inside.kept[:8]], None, base)
    page = ui._page([], "test", base)
    assert page.startswith(f"{base}/#/compare-runs")
    assert all(run_id in page for run_id in (inside.kept, inside.other, inside.diverged))
    with pytest.raises(tracking.RunNotFound, match="studies are: test"):
        ui._page([], "tests", base)


def test_the_ui_says_why_it_does_not_start(inside, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ui.UiNotStarted, match=r"is taken .*--port"):
            invoke(ui.ui, "--port", str(port))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ui.UiNotStarted, match="exit code 1"), ui._server("sqlite://", port):
        pass


def test_the_ui_of_a_server_is_only_named(inside, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000/")
    monkeypatch.setattr(ui, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    monkeypatch.setattr(ui, "look_up", lambda run_ids, study, base: (base, ""))
    assert invoke(ui.ui).stdout == "http://tracking.example:5000\n"


def test_the_environment_is_described_outside_git_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "git_commit" not in environment.describe()


def test_pictures_of_short_and_broken_runs():
    nan = float("nan")
    for history in ([{"train/loss": nan}], [{"train/loss": 0.0, "validation/loss": nan, "train/accuracy": 1.0}]):
        assert pictures.learning_curves(history, None).axes
    assert pictures.confusion_matrix(np.zeros((2, 2), int), ["a", "b"], "none").axes
    assert pictures.per_class(np.zeros((2, 2), int), ["a", "b"], "none").axes
    assert pictures.gradient_history([0], ["lstm"], np.full((1, 1, 3), nan)).axes
    scored = pictures.Scored("digits", "accuracy", ["a", "b"], [0.5, nan], [nan, nan], ["finished", "failed"])
    assert pictures.comparison([scored]).axes


def test_runs_are_read_without_mlflow_as_mlflow_has_them(inside):
    assert tracking.runs()  # whatever was to be delivered or marked is now
    quick = quick_reading.read_runs(None)
    assert quick == reading._from_mlflow(None)
    assert {run.run_id for run in quick} >= {inside.kept, inside.other, inside.diverged}
    assert quick_reading.read_runs("no such experiment") == []


@pytest.mark.parametrize("change", ["server", "waiting", "gone", "damaged", "none"])
def test_where_only_mlflow_can_tell_it_is_asked(inside, monkeypatch, tmp_path, change):
    if change == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    if change == "waiting":
        Journal(inside.folder / "mlruns/runs/left", "sqlite:///elsewhere.db").close()
    if change == "gone":
        client = MlflowClient(tracking.tracking_uri())
        client.create_run("0", tags={"host": socket.gethostname(), "pid": "1", "process_started": "0"})
    if change in ("damaged", "none"):
        monkeypatch.chdir(tmp_path)
    if change == "damaged":
        (tmp_path / "mlruns").mkdir()
        (tmp_path / "mlruns/mlflow.db").write_bytes(b"no database" * 100)
    assert quick_reading.read_runs(None) is None
    if change == "waiting":
        shutil.rmtree(inside.folder / "mlruns/runs/left")
    if change == "gone":
        monkeypatch.setattr(tracking_store, "_reaped", set())  # as in a process that has not looked yet
        assert tracking.runs()[0].status == "KILLED"
        assert quick_reading.read_runs(None) is not None
