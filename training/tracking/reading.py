"""How the verbs find runs again. Keras and MLflow wait until a model is loaded, or only MLflow can tell."""

import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from training.tracking.files import GOLDEN_FILE, MODEL_FILE, TASK_FILE
from training.tracking.offline import RunNotFound, has_mlflow, missing, shown_uri
from training.tracking.quick_reading import read_runs
from training.tracking.stored_run import StoredRun

if TYPE_CHECKING:
    import keras

    from zoo.export.golden import Golden


def _stored(run: Any) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun.of(
        info.run_id,
        info.run_name,
        info.status,
        info.start_time,
        data.params,
        data.metrics,
        data.tags,
        info.artifact_uri,
        info.experiment_id,
    )


def runs(experiment: str | None = None) -> list[StoredRun]:
    """Every run, newest first, of one experiment or of all.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    quick = read_runs(experiment)
    return _from_mlflow(experiment) if quick is None else quick


def _from_mlflow(experiment: str | None) -> list[StoredRun]:
    """The same from MLflow, which delivers what is left over and marks runs whose process is gone."""
    if not has_mlflow():
        raise missing("runs")
    from training.tracking.store import answering, open_store

    client = open_store()
    found: list[StoredRun] = []
    with answering():
        ids = [
            e.experiment_id
            for e in client.search_experiments()
            if experiment in (None, e.name, f"id:{e.experiment_id}")
        ]
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
    raise RunNotFound(f"no run begins with {beginning!r} in {shown_uri()}; the latest are {latest}")


def load(run: StoredRun) -> "tuple[keras.Model, dict[str, Any]]":
    """The trained model of `run` and its task: dataset, kind, classes, channels, outputs, horizon, vocabulary.

    Raises:
        RunNotFound: The run has no model, because it was killed or its artifacts were moved.
    """
    if not has_mlflow():
        raise missing("load")
    import keras
    import mlflow

    import zoo.models  # noqa: F401  (registers the layers, losses and schedules of a model that is loaded)
    from training.tracking.store import open_store

    client = open_store()
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = client.download_artifacts(run.run_id, MODEL_FILE, folder)
            task = client.download_artifacts(run.run_id, TASK_FILE, folder)
        except (mlflow.MlflowException, OSError) as error:
            raise RunNotFound(
                f"run {run.run_id[:8]} ({run.status}) has no {MODEL_FILE} under {run.artifacts}: {error}"
            ) from error
        with warnings.catch_warnings():
            # A step compiled on JAX cannot always be on TensorFlow, and then is not: all that Keras has to say.
            warnings.filterwarnings("ignore", "Model doesn't support `jit_compile=True`")
            return keras.models.load_model(model), json.loads(Path(task).read_text())


def load_golden(run: StoredRun) -> "Golden | None":
    """What the model of `run` answered where it was trained; `None` of a run from before this was kept."""
    from training.tracking.store import answering, open_store
    from zoo.export import golden

    client = open_store()
    with answering(), tempfile.TemporaryDirectory() as folder:
        if GOLDEN_FILE not in [file.path for file in client.list_artifacts(run.run_id)]:
            return None
        return golden.read(Path(client.download_artifacts(run.run_id, GOLDEN_FILE, folder)))


# === Pages of the MLflow UI ===

LOCAL_UI = "http://127.0.0.1:5000"


def compare_url(stored: Sequence[StoredRun], base: str = LOCAL_UI) -> str:
    """The page that compares these runs.

    Example:
    >>> run = StoredRun("3f2a", "lstm", "FINISHED", 0.0, {}, {}, {}, "", "1")
    >>> compare_url([run])
    'http://127.0.0.1:5000/#/compare-runs?runs=%5B%223f2a%22%5D&experiments=%5B%221%22%5D'
    """
    experiments = sorted({run.experiment_id for run in stored})
    ids = quote(json.dumps([run.run_id for run in stored], separators=(",", ":")))
    return f"{base}/#/compare-runs?runs={ids}&experiments={quote(json.dumps(experiments, separators=(',', ':')))}"


def charts_url(experiment_id: str, study: str | None = None, base: str = LOCAL_UI) -> str:
    """The page with the charts of an experiment, of the runs of one study or of all."""
    search = f"&searchFilter={quote(f'tags.study = {chr(34)}{study}{chr(34)}')}" if study else ""
    return f"{base}/#/experiments/{experiment_id}/runs?compareRunsMode=CHART{search}"
