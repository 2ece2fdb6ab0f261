"""What a person reads when the tracking store cannot be used, and where runs go that name no experiment."""

import pytest

pytest.importorskip("mlflow")

from training.config import load
from training.tracking import StoreUnavailable
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


def test_an_address_that_is_none_of_a_store_says_which_are(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://user:secret@host/x")
    with pytest.raises(
        StoreUnavailable, match=r"ftp://host/x, named by MLFLOW_TRACKING_URI, .*'http', 'https'"
    ) as error:
        open_store()
    assert "secret" not in str(error.value)
