"""What a person reads when the tracking store cannot be used, and where runs go that name no experiment."""

import pytest

pytest.importorskip("mlflow")

from training.config import load
from training.tracking import StoreUnavailable, runs
from training.tracking.store import experiment_of, open_store


def test_a_deleted_experiment_is_named_with_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = open_store()
    number = experiment_of(client, "mine")
    client.delete_experiment(number)
    with pytest.raises(StoreUnavailable) as refused:
        experiment_of(client, "mine")
    message = str(refused.value)
    assert "the experiment 'mine' was deleted" in message
    assert f"MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/mlruns/mlflow.db mlflow experiments restore" in message
    assert f"--experiment-id {number}" in message
    assert "experiment=NAME" in message
    client.restore_experiment(number)
    assert experiment_of(client, "mine") == number


def test_the_experiment_of_the_environment_is_taken_where_none_is_named(monkeypatch):
    assert load().experiment == "sequence-zoo"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the environment")
    assert load().experiment == "of the environment"
    assert load(overrides=["experiment=mine"]).experiment == "mine"


def test_the_id_of_the_environment_is_taken_where_no_name_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = open_store()
    number = experiment_of(client, "speech")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    assert experiment_of(client, load().experiment) == number
    assert load(overrides=["experiment=mine"]).experiment == "mine"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "speech")
    assert experiment_of(client, load().experiment) == number
    for name, has in (("new", "does not exist"), ("other", "has the id")):
        if name == "other":
            monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
            experiment_of(client, name)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        with pytest.raises(
            StoreUnavailable, match=rf"'{name}', which {has}.*MLFLOW_EXPERIMENT_ID says '{number}': unset one"
        ):
            experiment_of(client, load().experiment)


@pytest.mark.parametrize("number", ["123456", "speech"])
def test_an_id_that_the_store_does_not_have_is_refused_with_the_ways_out(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = open_store()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    with pytest.raises(
        StoreUnavailable, match=f"MLFLOW_EXPERIMENT_ID says '{number}'.*has no experiment of this id"
    ) as refused:
        experiment_of(client, load().experiment)
    assert "mlflow experiments search" in str(refused.value)
    assert "experiment=NAME" in str(refused.value)


@pytest.mark.parametrize("quick", [True, False])
def test_runs_are_found_by_the_id_of_their_experiment(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = open_store()
    made = {}
    for name in ("speech", "other"):
        number = experiment_of(client, name)
        made[number] = client.create_run(number, run_name=name).info.run_id
        client.set_terminated(made[number])
    if not quick:
        monkeypatch.setattr("training.tracking.reading.read_runs", lambda experiment: None)
    for number, run_id in made.items():
        assert [run.run_id for run in runs(f"id:{number}")] == [run_id]
    assert len(runs()) == 2
    assert runs("id:99") == []


def test_an_address_that_is_none_of_a_store_says_which_are(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://user:secret@host/x")
    with pytest.raises(
        StoreUnavailable, match=r"ftp://host/x, named by MLFLOW_TRACKING_URI, .*'http', 'https'"
    ) as error:
        open_store()
    assert "secret" not in str(error.value)
