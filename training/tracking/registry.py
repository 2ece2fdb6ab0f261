"""MLflow's registry of models: a version there for each version that was exported, and aliases on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from training.tracking.files import MODEL_FOLDER
from training.tracking.journal import Event


def version_with(client: MlflowClient, name: str, tags: Mapping[str, str]) -> ModelVersion | None:
    """The version of the registered model `name` that has these tags, the newest if there are more; or `None`."""
    found: list[ModelVersion] = []
    token: Any = None
    while token != "":
        page = client.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
        found += [version for version in page if tags.items() <= version.tags.items()]
        token = page.token or ""
    return max(found, key=lambda version: int(version.version), default=None)


def send_version(client: MlflowClient, run_id: str, events: Sequence[Event]) -> None:
    """Register the version that the event describes: {"name", "tags", "figures"}. Sent twice, it makes one version.

    The version's source is the run's Keras model, so that `models:/NAME@ALIAS` gives in Python the model that
    TensorFlow Serving has under the label ALIAS; the folder that is served is the run's artifact `saved_model/VERSION`.
    """
    name, tags = events[0]["name"], events[0]["tags"]
    try:
        client.create_registered_model(name)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if version_with(client, name, tags) is None:
        source = f"{client.get_run(run_id).info.artifact_uri}/{MODEL_FOLDER}"
        # Not among the tags by which a version is known again: another export of the same model takes another time.
        described = tags | events[0].get("figures", {})
        client.create_model_version(name, source, run_id, described, await_creation_for=0)
