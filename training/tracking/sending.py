"""Sends the events of a journal to MLflow, kind by kind."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from training.tracking.delivery import Refused, Send
from training.tracking.journal import Event
from training.tracking.registry import send_version

# What a store says of a request that no repetition will make it take.
FINAL = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")

# Most parameters or tags in a request to MLflow, and most metrics.
_MOST, _MOST_METRICS = 100, 1000


def sender(client: MlflowClient, run_id: str, folder: Path) -> Send:
    """What tells MLflow the events of a run. Telling it twice is the same as telling it once: points have times.

    Args:
        client: The store's client.
        run_id: The run.
        folder: The journal's; files that wait beside it are named from there.
    """
    calls: dict[str, Callable[[MlflowClient, str, Sequence[Event]], None]] = {
        "params": _send_params,
        "tags": _send_tags,
        "metrics": _send_metrics,
        "inputs": _send_inputs,
        "files": partial(_send_files, folder),
        "model_version": send_version,
        "end": _send_end,
    }

    def send(events: Sequence[Event]) -> None:
        try:
            calls[events[0]["kind"]](client, run_id, events)
        except mlflow.MlflowException as error:
            if error.error_code in FINAL:
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


def _send_files(here: Path, client: MlflowClient, run_id: str, events: Sequence[Event]) -> None:
    folder = here / events[0]["folder"]
    if not folder.is_dir():  # somebody has deleted it meanwhile, and what comes after it should not wait
        raise Refused(f"files: {folder} is gone")
    client.log_artifacts(run_id, str(folder), events[0].get("path"))


def _send_end(client: MlflowClient, run_id: str, events: Sequence[Event]) -> None:
    client.set_terminated(run_id, events[0]["status"], events[0]["time"])
