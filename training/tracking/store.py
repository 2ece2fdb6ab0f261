"""The store that runs are kept in: where it is, whether it answers, and how a journal is delivered to it."""

import os
import re
import socket
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
import psutil
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from training.checkpoints import forget
from training.files import UNFINISHED
from training.tracking.delivery import Refused, Send, deliver
from training.tracking.journal import NAME, Event, Journal, JournalInUse
from training.tracking.registry import send_version

# What a store says of a request that no repetition will make it take.
_FINAL = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")

# Seconds that another process may keep a local store locked before it counts as dead.
_PATIENCE = 5.0

# Most parameters or tags in a request to MLflow, and most metrics.
_MOST, _MOST_METRICS = 100, 1000

_reaped: set[str] = set()


class StoreUnavailable(RuntimeError):
    """The tracking store does not answer."""

    exit_code = 1


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite file under the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlruns').resolve()}/mlflow.db"


def shown_uri() -> str:
    """The same without a user's name and password."""
    return re.sub(r"//[^@/]*@", "//", tracking_uri())


@contextmanager
def answering() -> Iterator[None]:
    """Turn what MLflow raises within the block, of any of its many kinds, into one sentence.

    Raises:
        StoreUnavailable: It raised.
    """
    try:
        yield
    except Exception as error:
        reason = root(error)
        if getattr(error, "error_code", "INTERNAL_ERROR") in (*_FINAL, "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED"):
            raise StoreUnavailable(f"the tracking store {shown_uri()} refuses: {reason}") from error
        raise StoreUnavailable(
            f"the tracking store {shown_uri()} does not answer: {reason}. Start it, or let MLFLOW_TRACKING_URI name "
            "another; without that variable runs are kept in mlruns/ of the working directory"
        ) from error


def root(error: BaseException) -> str:
    """What was wrong at first, in one line: MLflow wraps it in how it was asked, several times over.

    Example:
    >>> try:
    ...     try:
    ...         raise ConnectionError("refused")
    ...     except ConnectionError:
    ...         raise RuntimeError("GET http://... failed")
    ... except RuntimeError as error:
    ...     root(error)
    'refused'
    """
    inner = error.__cause__ or error.__context__
    return root(inner) if inner else str(error).strip().partition("\n")[0] or type(error).__name__


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
    """Make an empty store under another name first: half of its tables, left by a process that was killed, are a store
    that never opens again.
    """  # noqa: D205
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    for left_over in path.parent.glob(f"{unfinished.name}*"):  # SQLite's journal too
        left_over.unlink()
    artifacts = Path("mlruns/artifacts").resolve().as_uri()
    SqlAlchemyStore(f"sqlite:///{unfinished.resolve()}", artifacts).engine.dispose()
    unfinished.replace(path)


def _check_local(path: Path) -> None:
    """Raise what is wrong with a SQLite file: MLflow itself would try to open it for most of an hour."""
    with closing(sqlite3.connect(path, timeout=_PATIENCE)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def experiment_of(client: MlflowClient, name: str) -> str:
    """The id of the experiment called `name`, which is made if missing."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    local = not os.environ.get("MLFLOW_TRACKING_URI")
    # Without a location of its own, MLflow would put artifacts under the working directory of whoever looks.
    location = Path("mlruns/artifacts").resolve().as_uri() if local else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except mlflow.MlflowException:
        found = client.get_experiment_by_name(name)  # another process made it first
        if found is None:
            raise
        return str(found.experiment_id)


# === Runs whose process is gone ===


def process_tags() -> dict[str, str]:
    """By which a later process can tell whether this one still runs: "host", "pid", "process_started"."""
    started = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": str(os.getpid()), "process_started": f"{started:.2f}"}


def reap(client: MlflowClient) -> list[str]:
    """Set the runs of this host that are RUNNING, though their process is gone, to KILLED; gives their ids."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    running = f"attributes.status = 'RUNNING' AND tags.host = '{socket.gethostname()}'"
    dead = [
        run.info.run_id
        for run in client.search_runs(experiments, running, max_results=1000)
        if not _is_alive(run.data.tags)
    ]
    for run_id in dead:
        client.set_terminated(run_id, "KILLED")
    return dead


def _is_alive(tags: Any) -> bool:
    try:
        process = psutil.Process(int(tags["pid"]))
        # Another process may have got the number. The clock by which the start is told may be set meanwhile.
        return abs(float(process.create_time()) - float(tags["process_started"])) < 2
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False


# === Deliveries ===


def sender(client: MlflowClient, run_id: str) -> Send:
    """What tells MLflow the events of a run. Telling it twice is the same as telling it once: points have times."""
    calls = {
        "params": _send_params,
        "tags": _send_tags,
        "metrics": _send_metrics,
        "inputs": _send_inputs,
        "files": _send_files,
        "model_version": send_version,
        "end": _send_end,
    }

    def send(events: Sequence[Event]) -> None:
        try:
            calls[events[0]["kind"]](client, run_id, events)
        except mlflow.MlflowException as error:
            if error.error_code in _FINAL:
                raise Refused(f"{events[0]['kind']}: {error}") from error
            raise

    return send


def _send_params(client: MlflowClient, run_id: str, events: Sequence[Event]) -> None:
    params = [Param(key, value) for key, value in events[0]["values"].items()]
    for first in range(0, len(params), _MOST):
        client.log_batch(run_id, params=params[first : first + _MOST])


def _send_tags(client: MlflowClient, run_id: str, events: Sequence[Event]) -> None:
    tags = [RunTag(key, value) for key, value in events[0]["values"].items()]
    for first in range(0, len(tags), _MOST):
        client.log_batch(run_id, tags=tags[first : first + _MOST])


def _send_metrics(client: MlflowClient, run_id: str, events: Sequence[Event]) -> None:
    points = [
        Metric(key, value, event["time"], event["step"]) for event in events for key, value in event["values"].items()
    ]
    for first in range(0, len(points), _MOST_METRICS):
        client.log_batch(run_id, points[first : first + _MOST_METRICS])


def _send_inputs(client: MlflowClient, run_id: str, events: Sequence[Event]) -> None:
    inputs = [
        DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", part)])
        for part, dataset in events[0]["datasets"].items()
    ]
    client.log_inputs(run_id, inputs)


def _send_files(client: MlflowClient, run_id: str, events: Sequence[Event]) -> None:
    folder = Path(events[0]["folder"])
    if not folder.is_dir():  # somebody has deleted it meanwhile, and what comes after it should not wait
        raise Refused(f"files: {folder} is gone")
    client.log_artifacts(run_id, str(folder), events[0].get("path"))


def _send_end(client: MlflowClient, run_id: str, events: Sequence[Event]) -> None:
    client.set_terminated(run_id, events[0]["status"], events[0]["time"])


def settle(journal: Journal, run_id: str, complete: bool) -> None:
    """Clean up behind a run of which everything has arrived.

    Args:
        journal: Closed and deleted.
        run_id: Its run.
        complete: Whether the run will never go on: then its folder has no use any more.
    """
    journal.discard()
    if complete:
        forget(run_id)


def deliver_leftovers(client: MlflowClient) -> None:
    """Deliver what runs of this working directory have left, of those that no process has in hand."""
    for path in sorted(Path("mlruns/runs").glob(f"*/{NAME}")):
        try:
            journal = Journal(path.parent)
        except (JournalInUse, OSError):
            continue  # it is being written, delivered, or was deleted since
        try:
            if journal.store == shown_uri():
                _deliver_leftover(client, journal, path.parent.name)
        except Exception as error:
            tell(f"run {path.parent.name[:8]}: what it left in {path.parent} is still not delivered: {root(error)}")
            break  # where one is not taken now, the others are not either
        finally:
            journal.close()


def _deliver_leftover(client: MlflowClient, journal: Journal, run_id: str) -> None:
    pending = journal.pending()
    refused: list[str] = []
    deliver(journal, sender(client, run_id), refused)
    if pending:
        tell(f"run {run_id[:8]}: delivered what the tracking store did not take earlier")
    for reason in refused:
        tell(f"run {run_id[:8]}: the tracking store refused {reason}")
    settle(journal, run_id, journal.is_complete)


def tell(line: str) -> None:
    """Say something about deliveries on standard error."""
    print(line, file=sys.stderr)
