"""Tracking without MLflow: the address of the store, this process, and runs that wait for a store.

Where MLflow is not installed a run is recorded all the same: its journal says what is needed to make a run of it, and
the first command that reaches a store, wherever the run's folder has been brought, does so (`store.py`).
"""

import importlib.util
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import psutil

from training.run.checkpoints import folder_of, forget
from training.tracking.journal import Journal


class RunNotFound(LookupError):
    """No run, or more than one, matches the request."""

    exit_code = 2


class StoreUnavailable(RuntimeError):
    """The tracking store does not answer."""

    exit_code = 1


class MlflowMissing(StoreUnavailable):
    """MLflow is not installed, and the request needs it."""


def missing(name: str) -> MlflowMissing:
    """The error for a function of `training.tracking` that needs MLflow, where that is not installed."""
    return MlflowMissing(
        f"MLflow is not installed here, and tracking.{name} needs it: install it. Runs are recorded in "
        "mlruns/runs meanwhile: bring their folders to mlruns/runs where MLflow is installed"
    )


def has_mlflow() -> bool:
    """Whether MLflow is installed; does not import it, which takes seconds."""
    return importlib.util.find_spec("mlflow") is not None


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite file under the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlruns').resolve()}/mlflow.db"


def shown_uri() -> str:
    """The same without a user's name and password."""
    return without_credentials(tracking_uri())


def without_credentials(text: str) -> str:
    """`text` without the name and password of an address in it.

    Example:
    >>> without_credentials("cannot reach https://me:secret@host/x")
    'cannot reach https://host/x'
    """
    return re.sub(r"//[^@/\s]*@", "//", text)


def process_tags() -> dict[str, str]:
    """Tags that identify this process, so that others can tell whether it still runs.

    They are "host", "pid" and "process_started".
    """
    started = psutil.Process().create_time()
    return {"host": socket.gethostname(), "pid": str(os.getpid()), "process_started": f"{started:.2f}"}


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process that a run's tags name was one of this host, and has ended."""
    return tags.get("host") == socket.gethostname() and not is_alive(tags)


def is_alive(tags: Mapping[str, str]) -> bool:
    """Whether the process that a run's tags name is at work on this host."""
    try:
        process = psutil.Process(int(tags["pid"]))
        # Another process may have the same number by now, so the start is compared; the clock may have been set since.
        return abs(float(process.create_time()) - float(tags["process_started"])) < 2
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False


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
    if isinstance(inner, LookupError):  # says no more than what was looked for
        inner = None
    return root(inner) if inner else str(error).strip().partition("\n")[0] or type(error).__name__


def warn(line: str) -> None:
    """Print a line about deliveries to standard error."""
    print(line, file=sys.stderr)


def settle(journal: Journal, run_id: str, complete: bool) -> None:
    """Clean up behind a run of which everything has arrived.

    Args:
        journal: Closed and deleted.
        run_id: Its run.
        complete: Whether the run will never be resumed, so that its folder is no longer needed.
    """
    journal.discard()
    if complete:
        forget(run_id)


def begin_here(name: str, experiment: str, tags: Mapping[str, str], run_id: str | None) -> Journal:
    """The journal of a run that no store knows yet.

    Args:
        name: The run's.
        experiment: The one that it belongs to.
        tags: By which the store should know the run when it is made.
        run_id: A run that was begun here and is resumed; `None` begins one.

    Raises:
        JournalInUse: Another process records `run_id`.
    """
    if run_id is not None:
        return Journal(folder_of(run_id))
    run_id = uuid.uuid4().hex
    about = {"run_id": run_id, "experiment": experiment, "name": name, "tags": dict(tags)}
    return Journal(folder_of(run_id), run=about | {"time": int(time.time() * 1000)})
