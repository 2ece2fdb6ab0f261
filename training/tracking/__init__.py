"""Runs in MLflow: the only package that imports it.

The store is `mlruns/mlflow.db` under the working directory, artifacts beside it, unless `MLFLOW_TRACKING_URI` names a
server. Runs are flat and carry tags by which the UI groups them. What a run says goes to a journal first and from there
to the store, in the background: see `journal.py` and `delivery.py`. Where MLflow is not installed there is `record`
alone, and the journal waits: see `offline.py`.
"""

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

# Read when mlflow is imported, or at each request.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # bars of one file each
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # where --json prints too
# The journal is what waits for a server; a request that waits for minutes would only hide that there is none.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from training.tracking.files import MODEL_FILE as MODEL_FILE, TASK_FILE as TASK_FILE
from training.tracking.journal import JournalInUse as JournalInUse
from training.tracking.offline import (
    MlflowMissing as MlflowMissing,
    RunNotFound as RunNotFound,
    StoreUnavailable as StoreUnavailable,
    has_mlflow as has_mlflow,
    missing as missing,
    shown_uri as shown_uri,
    tracking_uri as tracking_uri,
)
from training.tracking.reading import (
    charts_url as charts_url,
    compare_url as compare_url,
    find as find,
    load as load,
    load_golden as load_golden,
    runs as runs,
)
from training.tracking.stored_run import StoredRun as StoredRun

if TYPE_CHECKING:
    from training.tracking.exports import (
        NotRegistered as NotRegistered,
        datasets_of as datasets_of,
        record_export as record_export,
        set_alias as set_alias,
    )
    from training.tracking.recorder import Recorder as Recorder
    from training.tracking.recording import record as record
    from training.tracking.store import reap as reap

# What imports Keras or MLflow is imported when it is asked for, so that runs can be listed without either.
_LATER = {"Recorder": "recorder", "record": "recording"}
_OF_MLFLOW = {
    **dict.fromkeys(("NotRegistered", "datasets_of", "record_export", "set_alias"), "exports"),
    "reap": "store",
}


def warm_up() -> None:
    """Import all that recording a run takes, so that a process which does many runs spends that time once."""
    for module in ("recording", "artifacts", *(("sending", "store") if has_mlflow() else ())):
        importlib.import_module(f"{__name__}.{module}")


def __getattr__(name: str) -> Any:
    module = _LATER.get(name) or _OF_MLFLOW.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _OF_MLFLOW and not has_mlflow():
        raise missing(name)
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


# The store's set-up logs every migration of an empty database, and every error with a traceback beside the exception
# that it raises; a person learns nothing from either.
for _name, _level in (("alembic", "WARNING"), ("mlflow.store.db.utils", "CRITICAL"), ("urllib3", "ERROR")):
    logging.getLogger(_name).setLevel(_level)
