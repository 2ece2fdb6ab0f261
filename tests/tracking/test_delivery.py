"""A tracking store that dies, is locked, or was never there: runs go on, and nothing is lost."""

import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowException
from mlflow.tracking import MlflowClient
from waiting import PATIENCE

from training import tracking
from training.config import load
from training.run.loop import load_data
from training.run.metrics import stored_name
from training.tracking import delivery, store as tracking_store
from training.tracking.delivery import Courier, Refused, deliver
from training.tracking.journal import Journal, JournalInUse


class Store:
    """Takes events, or fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.received: list[list[tuple[str, int]]] = []
        self.failures = failures

    def __call__(self, events) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no one is there")
        self.received.append([(event["kind"], event["number"]) for event in events])

    @property
    def numbers(self) -> list[int]:
        return [number for group in self.received for _, number in group]


def journal_of(folder: Path, *kinds: str) -> Journal:
    journal = Journal(folder, "fake")
    for number, kind in enumerate(kinds):
        journal.append(kind, number=number)
    return journal


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(delivery, "PACE", 0.01)


def test_a_journal_survives_a_kill_in_the_middle_of_a_line(tmp_path):
    journal = journal_of(tmp_path, "tags", "metrics")
    [(_, end), _] = journal.pending()
    journal.delivered_to(end)
    with pytest.raises(JournalInUse, match="another process"):
        Journal(tmp_path, "fake")
    journal.close()
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"kind": "metr')
    again = Journal(tmp_path)
    again.append("end", number=2)
    assert again.store == "fake"
    assert [event["number"] for event, _ in again.pending()] == [1, 2]
    again.close()
    with pytest.raises(FileNotFoundError):
        Journal(tmp_path / "none")


def test_what_a_power_cut_leaves_is_passed_over(tmp_path):
    journal_of(tmp_path, "tags").close()
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n")
    again = Journal(tmp_path)
    again.append("end", number=1)
    assert [event["number"] for event, _ in again.pending()] == [0, 1]


def test_metrics_travel_together_and_everything_in_order(tmp_path):
    journal, store = journal_of(tmp_path, "tags", *["metrics"] * 3, "files", "metrics", "end"), Store()
    deliver(journal, store, [])
    assert [len(group) for group in store.received] == [1, 3, 1, 1, 1]
    assert store.numbers == list(range(7))
    assert not journal.pending()


def test_what_fails_is_sent_again_from_there(tmp_path):
    journal, store = journal_of(tmp_path, "tags", "files", "end"), Store()
    accepted = store.__call__

    def failing_at_files(events):
        if events[0]["kind"] == "files":
            raise ConnectionError
        accepted(events)

    with pytest.raises(ConnectionError):
        deliver(journal, failing_at_files, [])
    journal.close()
    deliver(Journal(tmp_path), store, [])  # as another process does
    assert store.numbers == [0, 1, 2]


def test_what_is_refused_holds_nothing_up(tmp_path):
    refused: list[str] = []
    journal, store = journal_of(tmp_path, "tags", "params", "end"), Store()

    def refusing(events):
        if events[0]["kind"] == "params":
            raise Refused("not like this")
        store(events)

    deliver(journal, refusing, refused)
    assert (store.numbers, refused) == ([0, 2], ["not like this"])


def test_a_dead_store_never_holds_up_a_run(tmp_path):
    gate = threading.Event()
    store = Store(failures=3)

    def hanging(events):
        gate.wait(PATIENCE)
        store(events)

    journal = journal_of(tmp_path)
    courier = Courier(journal, hanging)
    for number in range(200):  # none of which waits for the store, or the gate would never be opened
        journal.append("metrics", number=number)
        courier.wake()
    gate.set()
    assert courier.finish(PATIENCE) is None  # after three failures
    assert store.numbers == list(range(200))


def test_a_store_that_stays_dead_is_given_up_and_the_journal_kept(tmp_path):
    journal = journal_of(tmp_path, "metrics", "end")
    courier = Courier(journal, Store(failures=10**9))
    assert isinstance(courier.finish(0.1), ConnectionError)
    assert len(journal.pending()) == 2


def test_files_on_their_way_are_waited_for(tmp_path):
    journal, store = journal_of(tmp_path, "files", "end"), Store()

    taken = threading.Event()

    def slow(events):
        if events[0]["kind"] == "files":
            taken.set()
            time.sleep(0.4)
        store(events)

    courier = Courier(journal, slow)
    courier.wake()
    taken.wait(PATIENCE)
    assert courier.finish(0.1) is None
    assert store.numbers == [0, 1]


# === With a store of MLflow's ===


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")  # one for all: MLflow takes seconds to make the tables of a store


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ZOO_TRACKING_WAIT", str(PATIENCE))
    return folder


def test_a_store_that_dies_in_a_run_gets_everything_later(inside, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_TRACKING_WAIT", "0.2")
    config = load(overrides=["study=dying"])
    data = load_data(config)

    def dead(*_, **__):
        raise MlflowException("connection refused")

    with monkeypatch.context() as patch, tracking.record(config, data) as recorder:
        recorder.metrics({"train/loss": 2.0}, 0)
        for method in ("log_batch", "log_inputs", "set_terminated"):
            patch.setattr(MlflowClient, method, dead)
        for epoch in (1, 2):
            recorder.metrics({"train/loss": 1.0 / epoch}, epoch)
    left = inside / "mlruns/runs" / recorder.run_id
    assert (left / "journal.jsonl").exists()
    assert "connection refused" in capsys.readouterr().err
    run = tracking.find(recorder.run_id)
    assert (run.status, run.tags["study"], run.metrics["train/loss"]) == ("FINISHED", "dying", 0.5)
    client = MlflowClient(tracking.tracking_uri())
    assert [point.step for point in client.get_metric_history(run.run_id, stored_name("train/loss"))] == [0, 1, 2]
    assert "delivered what" in capsys.readouterr().err
    assert not left.exists()  # it has ended, and nothing needs it


def test_events_told_twice_are_stored_once(inside):
    config = load()
    with tracking.record(config, load_data(config)) as recorder:
        recorder.metrics({"train/loss": 2.0, "train/accuracy": float("nan")}, 0)
        recorder.metrics({"train/loss": float("inf")}, 1)
        journal = recorder._journal
        journal.append("end", status="FINISHED", time=1, complete=True)
        kept = (journal.folder / "journal.jsonl").read_bytes()
    client = MlflowClient(tracking.tracking_uri())
    left = inside / "mlruns/runs" / recorder.run_id
    left.mkdir(parents=True)
    (left / "journal.jsonl").write_bytes(kept)  # as if the mark of what is delivered were lost
    (left / "epoch-000001.npz").touch()
    run = tracking.find(recorder.run_id)
    assert [point.step for point in client.get_metric_history(run.run_id, stored_name("train/loss"))] == [0, 1]
    assert len(client.get_metric_history(run.run_id, stored_name("train/accuracy"))) == 1
    assert len(client.get_run(run.run_id).inputs.dataset_inputs) == 2
    assert not left.exists()


def test_a_journal_of_another_store_is_left_alone(inside):
    journal_of(inside / "mlruns/runs/abc", "tags").close()
    tracking.runs()
    assert (inside / "mlruns/runs/abc/journal.jsonl").exists()


def test_a_store_that_is_locked_at_the_start_is_named(inside, monkeypatch):
    tracking.runs()
    monkeypatch.setattr(tracking_store, "_PATIENCE", 0.1)
    connection = sqlite3.connect("mlruns/mlflow.db")
    connection.execute("BEGIN IMMEDIATE")
    config = load()
    try:
        with pytest.raises(tracking.StoreUnavailable, match=r"sqlite:.*is locked"), tracking.record(config, None):
            pass
    finally:
        connection.rollback()
        connection.close()


def test_a_server_that_is_not_there_is_named_within_seconds(inside, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{port}")
    with pytest.raises(tracking.StoreUnavailable, match=rf"http://127.0.0.1:{port} does not answer") as caught:
        tracking.runs()
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 1
