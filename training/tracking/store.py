"""The store that runs are kept in: where it is, whether it answers, and how a journal is delivered to it."""

import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock
from mlflow.entities import Experiment
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

from training.config.experiment import id_in
from training.files import UNFINISHED
from training.tracking.delivery import deliver
from training.tracking.files import MODEL_FOLDER
from training.tracking.journal import NAME, Journal, JournalInUse
from training.tracking.offline import (
    StoreUnavailable,
    is_alive,
    process_tags,
    root,
    settle,
    shown_uri,
    tracking_uri,
    warn,
    without_credentials,
)
from training.tracking.sending import FINAL, sender

# Seconds that another process may keep a local store locked before it counts as dead.
_PATIENCE = 5.0

# The tag by which a run that was recorded without a store is known in the one that it came to.
RECORDED_AS = "recorded_as"

_reaped: set[str] = set()


@contextmanager
def answering() -> Iterator[None]:
    """Turn any error of MLflow within the block into one sentence.

    Raises:
        StoreUnavailable: It raised.
    """
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:
        reason = without_credentials(root(error))
        if getattr(error, "error_code", "INTERNAL_ERROR") in (*FINAL, "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED"):
            source = ", named by MLFLOW_TRACKING_URI," if os.environ.get("MLFLOW_TRACKING_URI") else ""
            raise StoreUnavailable(f"the tracking store {shown_uri()}{source} refuses: {reason}") from error
        raise StoreUnavailable(
            f"the tracking store {shown_uri()} does not answer: {reason}. Start it, or let MLFLOW_TRACKING_URI name "
            "another; without that variable runs are kept in mlruns/ of the working directory"
        ) from error


def open_store() -> MlflowClient:
    """A client of the store, which answers.

    What earlier runs could not deliver is delivered now, and runs whose process is gone are marked as killed.

    Raises:
        StoreUnavailable: It does not answer.
    """
    with answering():
        client = _client()
        deliver_leftovers(client)
        if tracking_uri() not in _reaped:
            reap(client)
            _reaped.add(tracking_uri())
    return client


def _client() -> MlflowClient:
    if os.environ.get("MLFLOW_TRACKING_URI"):
        client = MlflowClient(tracking_uri())
    else:
        Path("mlruns").mkdir(exist_ok=True)
        # MLflow makes the tables of a new database when it is first opened; two processes that both do break it.
        with FileLock("mlruns/.mlflow.db.lock"):
            path = Path("mlruns/mlflow.db")
            if not path.exists():
                _make_local(path)
            _check_local(path)
            client = MlflowClient(tracking_uri())
    return client


def _make_local(path: Path) -> None:
    """Make an empty store under another name, and rename it.

    A store with half of its tables, left by a process that was killed, would never open again.
    """
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    for left_over in path.parent.glob(f"{unfinished.name}*"):  # SQLite's journal too
        left_over.unlink()
    make_tables(unfinished)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def make_tables(path: Path) -> None:
    """Make a store of MLflow's at `path`, whose artifacts lie in `mlruns/artifacts` of the working directory.

    MLflow migrates an empty database through all its versions, and SQLite waits for the disk after each of hundreds of
    statements. Nobody can see the file yet, so it needs to reach the disk once, at the end: 2.4 s instead of 8.8.
    """
    artifacts = Path("mlruns/artifacts").resolve().as_uri()
    event.listen(Engine, "connect", do_not_wait)
    try:
        SqlAlchemyStore(f"sqlite:///{path.resolve()}", artifacts).engine.dispose()
    finally:
        event.remove(Engine, "connect", do_not_wait)


def _check_local(path: Path) -> None:
    """Raise what is wrong with a SQLite file, which MLflow would try to open for most of an hour."""
    with closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


class UnknownExperiment(StoreUnavailable):
    """The tracking store has no experiment of an id."""


def experiment_of(client: MlflowClient, name: str) -> str:
    """The id of the experiment called `name`, which is made if missing; or of the one that "id:" and an id say.

    Raises:
        StoreUnavailable: It was deleted, the store has none of this id, or the environment names two; the message says
            what to do.
    """
    number = id_in(name)
    found = client.get_experiment_by_name(name) if number is None else _by_id(client, number)
    _refuse_two(name, found)
    if found is not None and found.lifecycle_stage == "deleted":
        raise StoreUnavailable(
            f"the experiment {found.name!r} was deleted from the tracking store {shown_uri()}: restore it with "
            f"'MLFLOW_TRACKING_URI={shown_uri()} mlflow experiments restore --experiment-id {found.experiment_id}', or "
            "choose another with experiment=NAME or MLFLOW_EXPERIMENT_NAME"
        )
    if found is not None:
        return str(found.experiment_id)
    local = not os.environ.get("MLFLOW_TRACKING_URI")
    # Without a location of its own, MLflow would put artifacts under the working directory of every reader.
    location = Path("mlruns/artifacts").resolve().as_uri() if local else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except mlflow.MlflowException:
        found = client.get_experiment_by_name(name)  # another process made it first
        if found is None:
            raise
        return str(found.experiment_id)


def _by_id(client: MlflowClient, number: str) -> Experiment:
    try:
        return client.get_experiment(number)
    except mlflow.MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        source = "MLFLOW_EXPERIMENT_ID" if os.environ.get("MLFLOW_EXPERIMENT_ID") == number else "experiment=id:..."
        raise UnknownExperiment(
            f"{source} says {number!r}, and the tracking store {shown_uri()} has no experiment of this id: "
            f"'MLFLOW_TRACKING_URI={shown_uri()} mlflow experiments search' lists those that it has. Name one by "
            "experiment=NAME or MLFLOW_EXPERIMENT_NAME, which makes it where it is missing"
        ) from error


def _refuse_two(name: str, found: Experiment | None) -> None:
    """Refuse a name and an id in the environment that are not those of one experiment, as MLflow does."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if number and name == os.environ.get("MLFLOW_EXPERIMENT_NAME") and (found is None or found.experiment_id != number):
        has = "does not exist" if found is None else f"has the id {found.experiment_id}"
        raise StoreUnavailable(
            f"MLFLOW_EXPERIMENT_NAME says {name!r}, which {has} in the tracking store {shown_uri()}, and "
            f"MLFLOW_EXPERIMENT_ID says {number!r}: unset one of them, or choose by experiment=NAME"
        )


def do_not_wait(connection: object, _: object) -> None:
    """Let SQLite continue before its writes have reached the disk; a listener for connections of SQLAlchemy."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


# === Resumed runs, and runs whose process is gone ===


def resume(client: MlflowClient, run_id: str) -> frozenset[tuple[str, int]]:
    """Resume a run that was stopped; returns the (key, step) of all metrics that are stored."""
    run = client.get_run(run_id)
    for key, value in process_tags().items():
        client.set_tag(run_id, key, value)
    client.update_run(run_id, status="RUNNING")
    return frozenset((key, point.step) for key in run.data.metrics for point in client.get_metric_history(run_id, key))


def reap(client: MlflowClient) -> list[str]:
    """Set the runs of this host that are RUNNING, though their process is gone, to KILLED; gives their ids."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    running = f"attributes.status = 'RUNNING' AND tags.host = '{socket.gethostname()}'"
    dead = [
        run.info.run_id
        for run in client.search_runs(experiments, running, max_results=1000)
        if not is_alive(run.data.tags)
    ]
    for run_id in dead:
        client.set_terminated(run_id, "KILLED")
    return dead


# === Deliveries ===


def deliver_leftovers(client: MlflowClient) -> None:
    """Deliver what runs of this working directory have left, of those that no process has in hand."""
    for path in sorted(Path("mlruns/runs").glob(f"*/{NAME}")):
        try:
            journal = Journal(path.parent)
        except (JournalInUse, OSError):
            continue  # it is being written, delivered, or was deleted since
        try:
            if journal.store is None:
                journal = _adopted(client, journal)
            if journal.store == shown_uri():
                _deliver_leftover(client, journal, journal.folder.name)
        except Exception as error:
            warn(f"run {path.parent.name[:8]}: what it left in {path.parent} is still not delivered: {root(error)}")
            break  # where one is not taken now, the others are not either
        finally:
            journal.close()


def _deliver_leftover(client: MlflowClient, journal: Journal, run_id: str) -> None:
    pending = journal.pending()
    refused: list[str] = []
    deliver(journal, sender(client, run_id, journal.folder), refused)
    if pending:
        warn(f"run {run_id[:8]}: delivered what the tracking store did not take earlier")
    for reason in refused:
        warn(f"run {run_id[:8]}: the tracking store refused {reason}")
    settle(journal, run_id, journal.is_complete)


def _experiment_of_recorded(client: MlflowClient, about: Mapping[str, Any]) -> str:
    try:
        return experiment_of(client, about["experiment"])
    except UnknownExperiment:
        warn(
            f"run {about['run_id'][:8]} was recorded for the experiment {about['experiment']}, which {shown_uri()} "
            "does not have: it goes to 'sequence-zoo'"
        )
        return experiment_of(client, "sequence-zoo")


def _adopted(client: MlflowClient, journal: Journal) -> Journal:
    """The journal of a run that was recorded without a store, now of a run in this one, under MLflow's id.

    Stopped at any point, it is done again and makes no second run.
    """
    about = journal.run
    experiment = _experiment_of_recorded(client, about)
    found = client.search_runs([experiment], f"tags.{RECORDED_AS} = '{about['run_id']}'")
    made = (
        found[0]
        if found
        else client.create_run(
            experiment, about["time"], {**about["tags"], RECORDED_AS: about["run_id"]}, about["name"]
        )
    )
    run_id = str(made.info.run_id)
    warn(f"run {about['run_id'][:8]}, recorded without MLflow, is run {run_id[:8]} in {shown_uri()}")
    if not journal.has_ended:  # its process was killed, or the machine was taken away
        journal.append("end", status="KILLED", time=int(time.time() * 1000), complete=False)
    description = journal.outbox / MODEL_FOLDER / "MLmodel"
    if description.exists():
        description.write_text(description.read_text().replace(about["run_id"], run_id))
    journal.close()
    folder = journal.folder.with_name(run_id)
    if journal.folder != folder:
        journal.folder.rename(folder)
    journal = Journal(folder)
    journal.belongs_to(shown_uri())
    return journal
