"""A run from its beginning to its end."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient

from training import environment
from training.checkpoints import folder_of
from training.config import Config
from training.loop import Data
from training.tracking.delivery import Courier
from training.tracking.journal import Journal
from training.tracking.recorder import Recorder
from training.tracking.store import (
    answering,
    experiment_of,
    open_store,
    process_tags,
    sender,
    shown_uri,
    tracking_uri,
)

# Seconds that a run which has ended waits for a store that takes nothing, where ZOO_TRACKING_WAIT does not say.
WAIT = 10.0


@contextmanager
def record(config: Config, data: Data, run_id: str | None = None) -> Iterator[Recorder]:
    """Record a run; its status tells how the block ended.

    Args:
        config: Logged whole, as parameters.
        data: Logged as datasets with their digests.
        run_id: A run of this configuration to go on with; `None` makes a new one.

    Yields:
        The `Recorder`. The run ends FINISHED, or FAILED where the block raised or its result diverged, or KILLED on
        Ctrl-C.

    Raises:
        StoreUnavailable: The store does not answer at the start. Later it may die without consequences for the run.
        JournalInUse: Another process records `run_id`.
    """
    wait = float(os.environ.get("ZOO_TRACKING_WAIT", WAIT))
    client = open_store()
    tags = _tags(config, data)
    name = _name(tags)
    stored: frozenset[tuple[str, int]] = frozenset()
    with answering():
        if run_id is None:
            made = client.create_run(experiment_of(client, config.experiment), run_name=name, tags=process_tags())
            run_id = str(made.info.run_id)
        else:
            stored = _go_on(client, run_id)
    journal = Journal(folder_of(run_id), shown_uri())
    recorder = Recorder(run_id, name, config, data, journal, Courier(journal, sender(client, run_id)), stored)
    status = "FAILED"
    try:
        if not stored:
            recorder.begin(tags)
        with _system_metrics(run_id, resumed=bool(stored)):
            yield recorder
        status = "FAILED" if recorder.outcome == "diverged" else "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        recorder.finish(status, wait)


def _tags(config: Config, data: Data) -> dict[str, object]:
    return {
        "dataset": data.spec.name,
        "family": config.model.name,
        "cell": getattr(config.model, "cell", None),
        "activation": getattr(config.model, "activation", None),
        "seed": config.seed,
        "study": config.study,
        "condition": config.condition,
        **environment.describe(),
    }


def _name(tags: Mapping[str, object]) -> str:
    cell = None if tags["cell"] in (None, "lstm") else tags["cell"]
    parts = (tags["family"], cell, tags["activation"], tags["dataset"], tags["seed"])
    return "-".join(str(part) for part in parts if part is not None)


def _go_on(client: MlflowClient, run_id: str) -> frozenset[tuple[str, int]]:
    """Take over a run that was stopped; gives the (key, step) of all that is stored."""
    run = client.get_run(run_id)
    for key, value in process_tags().items():
        client.set_tag(run_id, key, value)
    client.update_run(run_id, status="RUNNING")
    return frozenset((key, point.step) for key in run.data.metrics for point in client.get_metric_history(run_id, key))


@contextmanager
def _system_metrics(run_id: str, resumed: bool) -> Iterator[None]:
    """Log the machine's load where MLflow's own variable asks for it."""
    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        yield
        return
    monitor = SystemMetricsMonitor(run_id, resume_logging=resumed, tracking_uri=tracking_uri())
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
