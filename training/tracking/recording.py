"""A run from its beginning to its end."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from training.config import Config
from training.run import environment
from training.run.checkpoints import folder_of
from training.run.loop import Data
from training.tracking.delivery import Courier
from training.tracking.journal import Journal
from training.tracking.offline import begin_here, has_mlflow, process_tags, shown_uri, tracking_uri, warn
from training.tracking.recorder import Recorder

# Seconds that a run which has ended waits for a store that takes nothing, where ZOO_TRACKING_WAIT does not say.
WAIT = 10.0

# (key, step) of metrics.
Stored = frozenset[tuple[str, int]]
Tags = Mapping[str, object]


@contextmanager
def record(config: Config, data: Data, run_id: str | None = None) -> Iterator[Recorder]:
    """Record a run; its status tells how the block ended.

    Where MLflow is not installed the run is recorded in its folder alone, for a store to come.

    Args:
        config: Logged whole, as parameters.
        data: Logged as datasets with their digests.
        run_id: A run of this configuration to resume; `None` makes a new one.

    Yields:
        The `Recorder`. The run ends FINISHED, or FAILED where the block raised or its result diverged, or KILLED on
        Ctrl-C.

    Raises:
        StoreUnavailable: The store does not answer at the start. Later it may die without consequences for the run.
        JournalInUse: Another process records `run_id`.
    """
    wait = float(os.environ.get("ZOO_TRACKING_WAIT", WAIT))
    begin, system_metrics = (_in_store, _system_metrics) if has_mlflow() else (_here, _no_system_metrics)
    recorder, tags, resumed = begin(config, data, run_id)
    status = "FAILED"
    try:
        if not resumed:
            recorder.begin(tags)
        with system_metrics(recorder.run_id, resumed):
            yield recorder
        status = "FAILED" if recorder.outcome == "diverged" else "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        recorder.finish(status, wait)


def _in_store(config: Config, data: Data, run_id: str | None) -> tuple[Recorder, Tags, bool]:
    """The recorder of a run in MLflow's store, its tags, and whether something of it is stored already."""
    from training.tracking.sending import sender
    from training.tracking.store import answering, experiment_of, open_store, resume

    client = open_store()
    tags = _tags(config, data)
    name, stored = _name(tags), Stored()
    with answering():
        if run_id is None:
            made = client.create_run(experiment_of(client, config.experiment), run_name=name, tags=process_tags())
            run_id = str(made.info.run_id)
        else:
            stored = resume(client, run_id)
    journal = Journal(folder_of(run_id), shown_uri())
    courier = Courier(journal, sender(client, run_id, journal.folder))
    return Recorder(run_id, name, config, data, journal, courier, stored), tags, bool(stored)


def _here(config: Config, data: Data, run_id: str | None) -> tuple[Recorder, Tags, bool]:
    """The same of a run in its folder."""
    tags = _tags(config, data)
    name = _name(tags)
    journal = begin_here(name, config.experiment, process_tags(), run_id)
    metrics = [event for event in journal.all() if event["kind"] == "metrics"]
    stored = Stored((key, event["step"]) for event in metrics for key in event["values"])
    recorder = Recorder(journal.folder.name, name, config, data, journal, None, stored)
    if stored:
        recorder.tags(process_tags())
    return recorder, tags, bool(stored)


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


def _name(tags: Tags) -> str:
    cell = None if tags["cell"] in (None, "lstm") else tags["cell"]
    parts = (tags["family"], cell, tags["activation"], tags["dataset"], tags["seed"])
    return "-".join(str(part) for part in parts if part is not None)


@contextmanager
def _system_metrics(run_id: str, resumed: bool) -> Iterator[None]:
    """Log the machine's load where MLflow's own variable asks for it."""
    from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING

    if not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=resumed, tracking_uri=tracking_uri())
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _no_system_metrics(run_id: str, resumed: bool) -> AbstractContextManager[None]:
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"):
        warn(f"run {run_id[:8]}: the machine's load is not recorded: that takes MLflow, which is not installed here")
    return nullcontext()
