"""Reads the runs of the local store from its SQLite file, because importing MLflow takes seconds.

The result is what MLflow would return. Where runs must be delivered or marked as killed first, or the file is not as
expected, nothing is returned, and the caller uses MLflow.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from training.config.experiment import id_in
from training.tracking.journal import NAME, Journal, JournalInUse
from training.tracking.offline import is_gone
from training.tracking.stored_run import StoredRun

_DATABASE = Path("mlruns/mlflow.db")

_RUNS = """
SELECT runs.run_uuid, runs.name, runs.status, runs.start_time, runs.artifact_uri, runs.experiment_id
FROM runs JOIN experiments ON runs.experiment_id = experiments.experiment_id
WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active' AND ? IN (experiments.name, '')
AND ? IN (CAST(experiments.experiment_id AS TEXT), '')
ORDER BY runs.start_time DESC, runs.run_uuid
"""
_VALUES = {
    "params": "SELECT run_uuid, key, value FROM params",
    "metrics": "SELECT run_uuid, key, CASE WHEN is_nan THEN NULL ELSE value END FROM latest_metrics",
    "tags": "SELECT run_uuid, key, value FROM tags",
}


def read_runs(experiment: str | None) -> list[StoredRun] | None:
    """Read the runs of one experiment or of all, newest first; `None` where MLflow is needed."""
    if os.environ.get("MLFLOW_TRACKING_URI") or not _DATABASE.is_file() or _waiting():
        return None
    try:
        with closing(sqlite3.connect(f"file:{_DATABASE}?mode=ro", uri=True)) as connection:
            found = list(_read(connection, experiment))
    except sqlite3.Error:
        return None
    return None if any(run.status == "RUNNING" and is_gone(run.tags) for run in found) else found


def _read(connection: sqlite3.Connection, experiment: str | None) -> Iterator[StoredRun]:
    values: dict[str, dict[str, dict[str, object]]] = {}
    for kind, query in _VALUES.items():
        for run_id, key, value in connection.execute(query):
            values.setdefault(run_id, {}).setdefault(kind, {})[key] = value
    experiment, number = experiment or "", id_in(experiment or "")
    chosen = [experiment if number is None else "", number or ""]
    for run_id, name, status, started, artifacts, experiment_id in connection.execute(_RUNS, chosen):
        of_run = values.get(run_id, {})
        metrics = {key: _number(value) for key, value in of_run.get("metrics", {}).items()}
        params, tags = of_run.get("params", {}), of_run.get("tags", {})
        yield StoredRun.of(run_id, name, status, started, params, metrics, tags, artifacts, experiment_id)


def _number(value: object) -> float:
    return float("nan") if value is None else float(str(value))


def _waiting() -> bool:
    """Whether a run of this working directory has left something that no process has in hand."""
    for path in Path("mlruns/runs").glob(f"*/{NAME}"):
        try:
            Journal(path.parent).close()
        except (JournalInUse, OSError):
            continue
        return True
    return False
