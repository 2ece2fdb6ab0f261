"""The verbs from a run to production: `export`, `promote`, `rollback`. Heavy imports wait until a verb runs."""

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.train import Diverged
from zoo.quiet import import_keras

if TYPE_CHECKING:
    from serving.release.models_config import Promotion
    from training.tracking import StoredRun
    from zoo.export import Exported

# A folder, a part of an address, a name in MLflow's registry and in Prometheus: what all of them take.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# MLflow keeps "latest" and "v1" for itself, and allows no dot.
_LABEL = re.compile(r"(?!latest$|[vV]\d+$)[A-Za-z0-9_-]+")

# Most seconds for a server to read `models.config` and to load a version.
LOADING = 300.0


def _checked_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no model's name: use letters, digits, '.', '_' and '-'")
    return value


def _checked_label(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise click.BadParameter(
            f"{value!r} cannot be a label: use letters, digits, '_' and '-'; 'latest' and 'v1' have a meaning in MLflow"
        )
    return value


_root = click.option("--root", type=click.Path(path_type=Path), default=Path("models"), show_default=True)
_label = click.option("--label", required=True, callback=_checked_label, help="Such as stable or canary.")
_target = click.option(
    "--target", "targets", metavar="URL", multiple=True, help="A server that must have loaded it; may be repeated."
)
_poll = click.option(
    "--poll",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Without --target: the servers' --model_config_file_poll_wait_seconds.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--name", required=True, callback=_checked_name, help="The served model's name: versions go to ROOT/NAME/."
)
@_root
@click.option("--xla", is_flag=True, help="Add the signature serving_xla, for servers that have XLA switched on.")
@click.option("--register/--no-register", default=True, show_default=True, help="Record the export in MLflow.")
@_json
def export(run_id: str, name: str, root: Path, xla: bool, register: bool, as_json: bool) -> None:
    """Export the model of RUN as the next version of a SavedModel for TensorFlow Serving.

    RUN is a run id or a unique beginning of one. MLflow gets the folder as an artifact of the run, what was measured
    on it, and a new version of the registered model NAME.
    """
    from training import tracking

    tracking.find(run_id)  # a wrong id is refused before Keras is imported, which takes seconds
    import_keras()
    made = export_run(run_id, name, root, xla=xla, register=register)
    if as_json:
        figures = {"metrics": dict(made.metrics), "refused": dict(made.refused)}
        click.echo(json.dumps({"path": str(made.path), "version": made.version, **figures}))
        return
    click.echo(str(made.path))
    for signature, reason in made.refused.items():
        click.echo(f"without {signature}: {reason}")


def export_run(run_id: str, name: str, root: Path, *, xla: bool = False, register: bool = True) -> "Exported":
    """Export the run whose id begins with `run_id` to `root/name/<next version>`.

    Args:
        run_id: Its beginning.
        name: The served model's name.
        root: The folder with the models.
        xla: Whether to add the signature `serving_xla`.
        register: Whether to record the export in MLflow. A store that is away does not undo the export.

    Raises:
        RunNotFound: No run begins so, or it has no model.
        Diverged: There is no model worth having.
        ExportError: The model cannot be exported.
    """
    from training import tracking
    from zoo.export import export as export_model

    run = tracking.find(run_id)
    if run.tags.get("outcome") == "diverged":
        raise Diverged(f"run {run.run_id[:8]} is not exported, since it {run.tags.get('reason', 'diverged')}")
    model, task = tracking.load(run)
    made = export_model(model, task, root / name, card_of(run, name, task), xla=xla, golden=tracking.load_golden(run))
    if register:
        tracking.record_export(run, name, made.path, made.metrics)
    return made


def card_of(run: "StoredRun", name: str, task: dict[str, Any]) -> dict[str, Any]:
    """What the model card says of where the model comes from."""
    from training import tracking

    parts = tracking.datasets_of(run)
    digest = parts.get("train", {}).get("digest")
    return {
        "name": name,
        "run_id": run.run_id,
        "dataset": {
            "name": task["dataset"],
            "digest": digest,
            **_about(task["dataset"]),
            "parts": parts,
            **_columns(task),
        },
        "metrics": {key: value for key, value in run.metrics.items() if key.startswith(("best_validation/", "test/"))},
        "config": dict(run.params),
        "git_commit": run.tags.get("git_commit"),
        "git_dirty": {"true": True, "false": False}.get(run.tags.get("git_dirty", "")),
        "trained_with": {
            "python": run.tags.get("python"),
            **{key.removeprefix("version."): tag for key, tag in run.tags.items() if key.startswith("version.")},
        },
    }


def _columns(task: dict[str, Any]) -> dict[str, Any]:
    """The columns of a person's own data by what they are, as the run recorded them."""
    return {"columns": task["columns"]} if task.get("columns") else {}


def _about(dataset: str) -> dict[str, str]:
    """Features, split, licence and source of a dataset; of data of your own nothing is known."""
    from training import datasets

    try:
        spec = datasets.get(dataset).spec
    except (LookupError, ValueError):
        return {}
    about = {"features": spec.features, "split": spec.split_rule, "licence": spec.licence}
    return about | {"citation": spec.citation, "homepage": spec.homepage}


@click.command()
@click.argument("name", callback=_checked_name)
@click.argument("version", type=click.IntRange(min=0))
@_label
@_root
@click.option("--served-at", metavar="PATH", help="Where the server sees ROOT, such as /models in a container.")
@_target
@_poll
@_json
def promote(
    name: str,
    version: int,
    label: str,
    root: Path,
    served_at: str | None,
    targets: tuple[str, ...],
    poll: float,
    as_json: bool,
) -> None:
    """Put a label on VERSION of the model NAME: in ROOT/models.config, which servers poll, and as an alias in MLflow.

    A version is served while a label is on it, and while it is the one that a label was on before. Clients that ask
    for the label get the new version without a restart: /v1/models/NAME/labels/LABEL:predict. A label moves once the
    servers have loaded the version: those that --target names say so, others get the time of a poll.
    """
    from serving.release import models_config

    if served_at is not None and not served_at.startswith("/") and "://" not in served_at:
        raise click.BadParameter(f"{served_at!r} is not absolute; TensorFlow Serving wants /... or a URI", None)

    def wait(folder: Path, since: float) -> None:
        _wait(name, version, targets, since + poll)

    made = models_config.promote(
        root, name, version, label, served_at, wait, lambda folder: _set_alias(name, label, folder)
    )
    _show(made, name, label, as_json)


@click.command()
@click.argument("name", callback=_checked_name)
@_label
@_root
@_target
@_poll
@_json
def rollback(name: str, label: str, root: Path, targets: tuple[str, ...], poll: float, as_json: bool) -> None:
    """Put a label of the model NAME back on the version that had it before.

    That version is still served, so nothing needs to be loaded. Once more goes back further.
    """
    from serving.release import models_config

    def wait(folder: Path, since: float) -> None:
        _wait(name, int(folder.name), targets, since + poll)

    made = models_config.rollback(root, name, label, wait, lambda folder: _set_alias(name, label, folder))
    _show(made, name, label, as_json)


class NotLoaded(RuntimeError):
    """A server does not serve a version that it should."""

    exit_code = 1


def _wait(name: str, version: int, targets: tuple[str, ...], read_by: float) -> None:
    """Wait until all servers at `targets` serve a version; without any, until `read_by`, seconds since 1970."""
    left = read_by - time.time()
    if not targets and left > 0:
        click.echo(f"waiting {left:.1f} s, until every server has read of version {version}", err=True)
        time.sleep(left)
    for target in targets:
        _wait_for(target, name, version)


def _wait_for(target: str, name: str, version: int) -> None:
    from serving.client import ServerError, Unreachable, connect

    click.echo(f"waiting for {target} to serve version {version} of {name}", err=True)
    answer, end = "", time.monotonic() + LOADING
    with connect(target, name, version=version, retries=0) as client:
        while time.monotonic() < end:
            try:
                [status] = client.status()
            except ServerError as error:
                answer = error.message
            except Unreachable as error:
                answer = str(error)
            else:
                if status.state == "AVAILABLE":
                    return
                answer = status.error or status.state
                if status.state == "END" and status.error:
                    break
            time.sleep(0.2)
    raise NotLoaded(f"version {version} of {name} is not served at {target}, so the label stays where it is: {answer}")


def _set_alias(name: str, label: str, folder: Path) -> None:
    """Tell MLflow. What is served does not wait for it."""
    from training import tracking

    try:
        tracking.set_alias(name, label, folder)
    except (tracking.NotRegistered, tracking.StoreUnavailable) as error:
        click.echo(
            f"MLflow's alias {label} was not set, models.config is: {error}. The command 'zoo promote {name} "
            f"{folder.name} --label {label}' sets it later",
            err=True,
        )


def _show(made: "Promotion", name: str, label: str, as_json: bool) -> None:
    served = list(made.served)
    if as_json:
        about = {"name": name, "label": label, "version": made.version, "before": made.before, "served": served}
        click.echo(json.dumps(about | {"base_path": made.base_path, "config": str(made.config)}))
        return
    before = "" if made.before is None else f", which was on {made.before}"
    click.echo(f"{name}: {label} is on version {made.version}{before}; served: {', '.join(map(str, served))}")
    click.echo(f"{made.config}: servers look for the model in {made.base_path}")
