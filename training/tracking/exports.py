"""Records exports and promotions in MLflow; neither waits for a store that does not answer."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.run.checkpoints import folder_of
from training.tracking.delivery import deliver
from training.tracking.journal import Journal
from training.tracking.offline import root, settle, shown_uri, warn
from training.tracking.registry import version_with
from training.tracking.sending import sender
from training.tracking.store import answering, open_store
from training.tracking.stored_run import StoredRun


class NotRegistered(LookupError):
    """The registry has no such version."""

    exit_code = 1


def datasets_of(run: StoredRun) -> dict[str, dict[str, Any]]:
    """The parts of the data that a run was trained and scored on: their digests and sizes.

    Returns:
        "train", "validation" and "test", where they were read, each with "name", "digest", "sequences", "steps".

    Raises:
        StoreUnavailable: The store does not answer.
    """
    client = open_store()
    with answering():
        inputs = client.get_run(run.run_id).inputs.dataset_inputs
    given = [each.dataset for each in inputs]
    return {
        dataset.name.rpartition("/")[2]: {
            "name": dataset.name.rpartition("/")[0],
            "digest": dataset.digest,
            **json.loads(dataset.profile or "{}"),
        }
        for dataset in given
    }


def record_export(run: StoredRun, name: str, folder: Path, metrics: Mapping[str, float]) -> bool:
    """Record that `folder` was made of `run`: as an artifact, and as a version of a registered model.

    It goes through the run's journal, so that a store which is away gets it from the next command that reaches it.
    Standard error says what was not recorded.

    Args:
        run: What was exported.
        name: The registered model's name, made if missing.
        folder: `models/<name>/<version>`.
        metrics: What was measured on the export, such as "export/bytes": tags of the registered version, since none
            of it is a metric of the run.

    Returns:
        Whether all of it has arrived.
    """
    version, short = folder.name, run.run_id[:8]
    try:
        journal = Journal(folder_of(run.run_id), shown_uri())
    except (RuntimeError, OSError) as error:
        warn(f"run {short}: the export is not recorded: {error}")
        return False
    try:
        journal.append("files", folder=str(folder.resolve()), path=f"saved_model/{version}")
        figures = {key.removeprefix("export/"): f"{float(value):.6g}" for key, value in metrics.items()}
        journal.append("model_version", name=name, tags=_tags(folder) | {"run_id": run.run_id}, figures=figures)
        refused: list[str] = []
        deliver(journal, sender(open_store(), run.run_id, journal.folder), refused)
    except Exception as error:
        journal.close()
        warn(
            f"run {short}: artifact and registered version of {folder} are not recorded yet ({root(error)}). "
            f"They wait in {journal.folder}, and the next zoo command that reaches {shown_uri()} delivers them"
        )
        return False
    for reason in refused:
        warn(f"run {short}: the tracking store refused {reason}")
    settle(journal, run.run_id, complete=run.status == "FINISHED")
    return not refused


def set_alias(name: str, alias: str, folder: Path) -> None:
    """Let `alias` of the registered model `name` point to the version that was exported to `folder`.

    Raises:
        NotRegistered: The registry has no such version.
        StoreUnavailable: The store does not answer.
    """
    client = open_store()
    with answering():
        found = version_with(client, name, _tags(folder))
        if found is not None:
            client.set_registered_model_alias(name, alias, found.version)
            return
    raise NotRegistered(
        f"the registry in {shown_uri()} knows no version of {name} that is {folder}: it was exported with "
        "--no-register, elsewhere, or the tracking store has not got it yet"
    )


def _tags(folder: Path) -> dict[str, str]:
    """By which a version in the registry is known to be that in `folder`."""
    digest = hashlib.sha256((folder / "saved_model.pb").read_bytes()).hexdigest()
    return {"serving_version": folder.name, "saved_model_sha256": digest}
