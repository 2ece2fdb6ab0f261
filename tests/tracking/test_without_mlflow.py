"""Runs that are recorded where MLflow is not installed, and come to a store later."""

import shutil

import pytest
from mlflow.tracking import MlflowClient

from training import tracking
from training.config import load
from training.run import checkpoints
from training.run.checkpoints import CannotResume
from training.run.loop import load_data
from training.run.metrics import stored_name
from training.tracking import recording
from training.tracking.journal import Journal


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")  # one for all: MLflow takes seconds to make the tables of a store


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def data():
    config = load(overrides=["dataset.name=digits_rows", "study=away", "experiment=elsewhere"])
    return config, load_data(config)


def recorded(monkeypatch, config, data, run_id=None, killed=False, epochs=(0,)):
    """Record a run as on a machine without MLflow; gives its id there."""
    with monkeypatch.context() as patch:
        patch.setattr(recording, "has_mlflow", lambda: False)
        try:
            with tracking.record(config, data, run_id) as recorder:
                for epoch in epochs:
                    recorder.metrics({"train/loss": 2.0 - epoch}, epoch)
                model = recorder._journal.outbox / "model"
                model.mkdir(parents=True, exist_ok=True)
                (model / "MLmodel").write_text(f'{{"run_id": "{recorder.run_id}"}}')
                recorder._write("files", folder="outbox")
                if killed:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
    return recorder.run_id


def stored(local):
    """What the store has of the run that was called `local` elsewhere; any command that opens it delivers first."""
    return [run for run in tracking.runs() if run.tags.get("recorded_as") == local]


def test_a_run_comes_to_the_store_as_any_other(inside, data, monkeypatch, capsys):
    local = recorded(monkeypatch, *data, epochs=(0, 1))
    said = capsys.readouterr().err
    assert f"recorded in mlruns/runs/{local}, since MLflow is not installed here" in said
    away = inside.parent / "away"
    shutil.move(f"mlruns/runs/{local}", away / local)  # to another machine
    assert stored(local) == []
    shutil.move(away / local, f"mlruns/runs/{local}")
    [run] = stored(local)
    assert f"run {local[:8]}, recorded without MLflow, is run {run.run_id[:8]}" in capsys.readouterr().err
    assert (run.status, run.name) == ("FINISHED", "lstm-tanh-digits_rows-0")
    assert run.tags.items() >= {"study": "away", "dataset": "digits_rows", "device": "cpu:0"}.items()
    assert run.params["dataset.name"] == "digits_rows"
    client = MlflowClient(tracking.tracking_uri())
    assert [point.step for point in client.get_metric_history(run.run_id, stored_name("train/loss"))] == [0, 1]
    assert client.get_experiment_by_name("elsewhere").experiment_id == run.experiment_id
    about = client.get_run(run.run_id).info
    assert (
        about.start_time
        <= client.get_metric_history(run.run_id, stored_name("train/loss"))[0].timestamp
        <= about.end_time
    )
    [file] = (inside / "mlruns/artifacts").rglob("MLmodel")
    assert file.read_text() == f'{{"run_id": "{run.run_id}"}}'
    assert not (inside / "mlruns/runs" / local).exists()
    assert not (inside / "mlruns/runs" / run.run_id).exists()


def test_a_delivery_that_was_interrupted_makes_no_second_run(inside, data, monkeypatch):
    local = recorded(monkeypatch, *data)
    journal = inside / "mlruns/runs" / local

    def interrupted(*_):
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "belongs_to", interrupted)
        [made] = stored(local)  # made in the store, and its folder has its name; more is not done
    assert made.params == {}
    assert not journal.exists()
    [run] = stored(local)
    assert (run.run_id, run.status, run.metrics["train/loss"]) == (made.run_id, "FINISHED", 2.0)


def test_a_killed_run_goes_on_there_and_here(inside, data, monkeypatch):
    config, examples = data
    local = recorded(monkeypatch, config, examples, killed=True)
    checkpoints.write_description(checkpoints.folder_of(local), {"config": {}, "data": {}})
    assert checkpoints.find(local[:6]) == local
    with pytest.raises(CannotResume, match="0 runs begin with 'xyz'"):
        checkpoints.find("xyz")
    assert recorded(monkeypatch, config, examples, local, killed=True, epochs=(0, 1)) == local
    events = Journal(checkpoints.folder_of(local))
    assert [event["step"] for event in events.all() if event["kind"] == "metrics"] == [0, 1]  # no step again
    assert sum(event["kind"] == "params" for event in events.all()) == 1
    events.close()
    [run] = stored(local)
    assert run.status == "KILLED"
    assert checkpoints.read_description(run.run_id) == {"config": {}, "data": {}}  # --resume finds it
    with tracking.record(config, examples, run.run_id) as recorder:
        recorder.metrics({"train/loss": 0.5}, 2)
    assert tracking.find(run.run_id).status == "FINISHED"


def test_what_died_without_a_word_is_killed(inside, data, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("training.tracking.recorder.Recorder.finish", lambda self, *_: self._journal.close())
        local = recorded(monkeypatch, *data)
    [run] = stored(local)
    assert run.status == "KILLED"


def test_a_run_for_an_experiment_that_the_store_does_not_have_comes_to_the_default_one(
    inside, data, monkeypatch, capsys
):
    config, loaded = data
    local = recorded(monkeypatch, config.model_copy(update={"experiment": "id:123456"}), loaded)
    [run] = stored(local)
    assert "recorded for the experiment id:123456, which sqlite" in capsys.readouterr().err
    client = MlflowClient(tracking.tracking_uri())
    assert client.get_experiment(run.experiment_id).name == "sequence-zoo"
