"""Runs in MLflow: the only file that imports it.

The store is `mlruns/mlflow.db` under the working directory, artifacts beside it, unless `MLFLOW_TRACKING_URI` names a
server. Runs are flat and carry tags by which the UI groups them.
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # bars of one file each

import keras
import mlflow
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from training import environment, pictures
from training.config import Config
from training.loop import Data, Result, metric_names
from training.sampling import sample
from training.tasks import Scores, main_metric

TASK_FILE = "task.json"
SAMPLE_FILE = "sample.txt"
MODEL_FILE = "model.keras"

# The store's set-up logs every migration of an empty database; a person learns nothing from it.
logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


class RunNotFound(LookupError):
    """No run, or more than one, answers to what was given."""

    exit_code = 2


@dataclass(frozen=True)
class StoredRun:
    """One run as the store has it.

    Attributes:
        run_id: MLflow's id.
        name: MLflow's name for it.
        status: "RUNNING", "FINISHED", "FAILED" or "KILLED".
        started: When it began, seconds since 1970.
        params: The configuration, flat, as text.
        metrics: The last value of every metric.
        tags: Tags, MLflow's own included.
        artifacts: Where its files are.
    """

    run_id: str
    name: str
    status: str
    started: float
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: str


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite file under the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlruns').resolve()}/mlflow.db"


def _client() -> MlflowClient:
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return MlflowClient(tracking_uri())
    Path("mlruns").mkdir(exist_ok=True)
    # MLflow makes the tables of a new database when it is first opened; two processes that both do break it.
    with FileLock("mlruns/.mlflow.db.lock"):
        return MlflowClient(tracking_uri())


def _experiment(client: MlflowClient, name: str) -> str:
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


class Recorder(keras.callbacks.Callback):
    """One run being recorded: a Keras callback that sends each epoch's metrics in one request."""

    def __init__(self, client: MlflowClient, run_id: str, name: str) -> None:
        super().__init__()
        self.client, self.run_id, self.name = client, run_id, name

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.metrics(metric_names(logs or {}), epoch)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log `values` at `step`."""
        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, [Metric(key, value, now, step) for key, value in values.items()])

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags."""
        self.client.log_batch(self.run_id, tags=[RunTag(key, str(value)) for key, value in values.items()])

    def result(self, result: Result, data: Data) -> None:
        """Log the outcome: final metrics, pictures, the model, and what an export needs to know."""
        self.tags({"outcome": result.outcome} | ({"reason": result.reason} if result.reason else {}))
        metrics = {
            "seconds": result.seconds,
            "sequences_per_second": result.sequences_per_second,
            "cropped_share": result.cropped_share,
            "padding_share": result.padding_share,
            "parameters": float(result.model.count_params()),
        }
        if result.best_epoch is not None:
            metrics["best_epoch"] = float(result.best_epoch)
        metrics |= _scores("best_validation", result.validation) | _scores("test", result.test)
        self.metrics(metrics)
        with tempfile.TemporaryDirectory() as folder:
            _write_artifacts(Path(folder), result, data)
            self.client.log_artifacts(self.run_id, folder)


def _scores(prefix: str, scores: Scores | None) -> dict[str, float]:
    if scores is None:
        return {}
    return {f"{prefix}/loss": scores.loss} | {f"{prefix}/{name}": value for name, value in scores.metrics.items()}


def _write_artifacts(folder: Path, result: Result, data: Data) -> None:
    result.model.save(folder / MODEL_FILE)
    spec = data.spec
    task = {
        "dataset": spec.name,
        "kind": spec.task,
        "classes": spec.classes,
        "channels": spec.channels,
        "outputs": spec.outputs,
        "horizon": spec.horizon,
        "vocabulary": data.train.vocabulary,
    }
    (folder / TASK_FILE).write_text(json.dumps(task, indent=2) + "\n")
    if result.history:
        metric = main_metric(spec.task)
        figure = pictures.learning_curves(result.history, result.best_epoch, metric)
        figure.savefig(folder / "learning_curves.png")
    if result.test is not None:
        _write_test_picture(folder, result.test, data)
    if spec.task == "language_model" and result.outcome == "finished":
        vocabulary = data.train.vocabulary or ()
        (folder / SAMPLE_FILE).write_text(sample(result.model, vocabulary, characters=500, seed=0) + "\n")


def _write_test_picture(folder: Path, scores: Scores, data: Data) -> None:
    spec = data.spec
    if scores.confusion is not None:
        figure = pictures.confusion_matrix(scores.confusion, spec.classes, "test split")
        figure.savefig(folder / "confusion_matrix.png")
    if scores.truth is not None and scores.predictions is not None:
        draw = pictures.forecasts if spec.task == "forecasting" else pictures.predictions
        draw(scores.truth, scores.predictions, spec.outputs, "test split").savefig(folder / "predictions.png")


@contextmanager
def record(config: Config, data: Data) -> Iterator[Recorder]:
    """Record a run; its status tells how the block ended.

    Args:
        config: Logged whole, as parameters.
        data: Logged as datasets with their digests.

    Yields:
        The `Recorder`. The run ends FINISHED, or FAILED where the block raised or set the tag `outcome` to
        "diverged", or KILLED on Ctrl-C.
    """
    client = _client()
    tags = {
        "dataset": data.spec.name,
        "family": config.model.name,
        "activation": getattr(config.model, "activation", None),
        "seed": config.seed,
        "study": config.study,
        **environment.describe(),
    }
    name = "-".join(str(tags[key]) for key in ("family", "activation", "dataset", "seed"))
    run = client.create_run(_experiment(client, config.experiment), run_name=name)
    run_id = run.info.run_id
    status = "FAILED"
    try:
        params = [Param(key, str(value)) for key, value in config.flat().items()]
        kept = [RunTag(key, str(value)) for key, value in tags.items() if value is not None]
        client.log_batch(run_id, params=params, tags=kept)
        client.log_inputs(run_id, [_dataset(data, part) for part in ("train", "validation")])
        yield Recorder(client, run_id, name)
        diverged = client.get_run(run_id).data.tags.get("outcome") == "diverged"
        status = "FAILED" if diverged else "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        client.set_terminated(run_id, status)


def _dataset(data: Data, part: str) -> DatasetInput:
    examples = getattr(data, part)
    dataset = Dataset(
        name=f"{data.spec.name}/{part}",
        digest=examples.digest()[:16],
        source_type="tfds",
        source=json.dumps({"name": data.spec.name, "homepage": data.spec.homepage}),
        profile=json.dumps({"sequences": len(examples), "steps": int(examples.lengths.sum())}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", part)])


# === Reading back ===


def _stored(run: Any) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun(
        run_id=info.run_id,
        name=info.run_name,
        status=info.status,
        started=info.start_time / 1000,
        params=data.params,
        metrics=data.metrics,
        tags=data.tags,
        artifacts=info.artifact_uri,
    )


def runs(experiment: str | None = None) -> list[StoredRun]:
    """Every run, newest first, of one experiment or of all."""
    client = _client()
    ids = [e.experiment_id for e in client.search_experiments() if experiment in (None, e.name)]
    found: list[StoredRun] = []
    token = None
    while ids:
        page = client.search_runs(ids, max_results=1000, order_by=["attributes.start_time DESC"], page_token=token)
        found += [_stored(run) for run in page]
        token = page.token
        if not token:
            break
    return found


def find(beginning: str, among: Sequence[StoredRun] | None = None) -> StoredRun:
    """The run whose id begins with `beginning`.

    Raises:
        RunNotFound: None does, or more than one.
    """
    stored = runs() if among is None else among
    hits = [run for run in stored if beginning and run.run_id.startswith(beginning)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise RunNotFound(f"run {beginning!r} is ambiguous: {', '.join(hit.run_id[:12] for hit in hits[:8])}")
    latest = ", ".join(f"{run.run_id[:8]} ({run.name})" for run in stored[:3]) or "none yet: zoo train makes one"
    raise RunNotFound(f"no run begins with {beginning!r} in {tracking_uri()}; the latest are {latest}")


def load(run: StoredRun) -> tuple[keras.Model, dict[str, Any]]:
    """The trained model of `run` and its task: dataset, kind, classes, channels, outputs, horizon, vocabulary.

    Raises:
        RunNotFound: The run has no model, because it was killed or its artifacts were moved.
    """
    client = _client()
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = client.download_artifacts(run.run_id, MODEL_FILE, folder)
            task = client.download_artifacts(run.run_id, TASK_FILE, folder)
        except (mlflow.MlflowException, OSError) as error:
            raise RunNotFound(
                f"run {run.run_id[:8]} ({run.status}) has no {MODEL_FILE} under {run.artifacts}: {error}"
            ) from error
        return keras.models.load_model(model), json.loads(Path(task).read_text())


def compare_url(stored: Sequence[StoredRun], base: str = "http://127.0.0.1:5000") -> str:
    """The page of the MLflow UI that compares these runs."""
    from urllib.parse import quote

    client = _client()
    experiments = sorted({client.get_run(run.run_id).info.experiment_id for run in stored})
    ids = quote(json.dumps([run.run_id for run in stored], separators=(",", ":")))
    return f"{base}/#/compare-runs?runs={ids}&experiments={quote(json.dumps(experiments, separators=(',', ':')))}"
