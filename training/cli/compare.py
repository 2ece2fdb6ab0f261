"""The verb `compare`: runs side by side, those of one dataset together. Heavy imports wait until it runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.config.experiment import default_experiment
from training.run.metrics import Metric, main_metric

if TYPE_CHECKING:
    from rich.table import Table

    from training.tracking import StoredRun

# What says which problem is solved on one's own data: losses of different problems cannot be compared.
_PROBLEM = ("dataset.path", "dataset.task", "dataset.horizon")


@dataclass(frozen=True)
class Group:
    """Runs that answer the same problem, so that their losses can be compared.

    Attributes:
        dataset: Its name.
        metric: The metric by which they are judged.
        runs: Best validation loss first.
    """

    dataset: str
    metric: Metric
    runs: "tuple[StoredRun, ...]"


@click.command()
@click.argument("run_ids", nargs=-1, metavar="[RUN]...")
@click.option(
    "--experiment",
    default=default_experiment,
    show_default="MLFLOW_EXPERIMENT_NAME, MLFLOW_EXPERIMENT_ID or sequence-zoo",
    help="Where to look when no RUN is given: a name, or id:3.",
)
@click.option("--study", help="Only runs with this study tag.")
@click.option("--dataset", help="Only runs on this dataset.")
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many, newest.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), default=Path("mlruns/compare.png"))
@click.option("--json", "as_json", is_flag=True, help="Print the runs as a JSON list.")
def compare(
    run_ids: tuple[str, ...],
    experiment: str,
    study: str | None,
    dataset: str | None,
    last: int,
    picture: Path,
    as_json: bool,
) -> None:
    """Compare runs: a table for each dataset, a picture and the page of the MLflow UI.

    RUN is a run id or a unique beginning of one. Of each dataset the best by validation comes first; test figures are
    shown, never used to order.
    """
    from training import tracking

    stored = tracking.runs() if run_ids else tracking.runs(experiment)
    if run_ids:
        chosen = [tracking.find(run_id, stored) for run_id in run_ids]
    else:
        chosen = _selected(stored, study, dataset)[:last]
    groups = grouped(chosen)
    if as_json:
        click.echo(json.dumps([_row(run, group) for group in groups for run in group.runs]))
        return
    from zoo.terminal import show

    for group in groups:
        click.secho(heading(group), bold=True)
        show(table(group))
    plot(groups, picture)
    click.echo(f"picture: {picture}")
    ids = " ".join(run.run_id[:8] for group in groups for run in group.runs)
    click.echo(f"MLflow's page: zoo ui {f'--study {study}' if study and not run_ids else ids}")


def _selected(stored: "Sequence[StoredRun]", study: str | None, dataset: str | None) -> "list[StoredRun]":
    """The runs with these tags.

    Raises:
        RunNotFound: There are none; the message says which tags there are.
    """
    from training import tracking
    from zoo.suggest import unknown

    if not stored:
        raise tracking.RunNotFound(f"no run to compare in {tracking.shown_uri()}; zoo train makes one")
    chosen = stored
    for tag, wanted in (("study", study), ("dataset", dataset)):
        if wanted is None:
            continue
        known = {run.tags[tag] for run in chosen if run.tags.get(tag)}
        chosen = [run for run in chosen if run.tags.get(tag) == wanted]
        if not chosen:
            there = unknown(tag, wanted, known) if known else f"none of them has a {tag}"
            raise tracking.RunNotFound(f"no run to compare among {len(stored)} in {tracking.shown_uri()}: {there}")
    return list(chosen)


def grouped(stored: "Sequence[StoredRun]") -> list[Group]:
    """The runs by what they predict, in the order of the first run of each; within a group, the best first.

    Runs without a validation loss, which died or diverged, come last.
    """
    members: dict[tuple[Any, ...], list[StoredRun]] = {}
    for run in stored:
        members.setdefault((run.tags.get("dataset"), *map(run.params.get, _PROBLEM)), []).append(run)
    groups = []
    for (dataset, *_), runs in members.items():
        ordered = sorted(runs, key=lambda run: run.metrics.get("best_validation/loss", float("inf")))
        measured = main_metric(name for run in runs for name in run.metrics)
        groups.append(Group(str(dataset), measured, tuple(ordered)))
    return groups


def _outcome(run: "StoredRun") -> str:
    """What came of the run: "finished" or "diverged"; or, where no result was recorded, what its process came to."""
    return run.tags.get("outcome") or run.status.lower()


def _row(run: "StoredRun", group: Group) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "outcome": _outcome(run),
        "dataset": run.tags.get("dataset"),
        "model": run.tags.get("family"),
        "activation": run.tags.get("activation"),
        "seed": run.tags.get("seed"),
        "validation_loss": run.metrics.get("best_validation/loss"),
        "validation_accuracy": run.metrics.get("best_validation/accuracy"),
        "test_accuracy": run.metrics.get("test/accuracy"),
        "metric": group.metric.name,
        "validation": run.metrics.get(f"best_validation/{group.metric.name}"),
        "test": run.metrics.get(f"test/{group.metric.name}"),
        "seconds": run.metrics.get("seconds"),
    }


_WORDS = ("model", "activation", "seed", "outcome")


def _shared(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [key for key in _WORDS if len({row[key] for row in rows}) == 1]


def heading(group: Group) -> str:
    """The dataset, and what all its runs share."""
    rows = [_row(run, group) for run in group.runs]
    return ", ".join([group.dataset, *(f"{key} {rows[0][key] or 'none'}" for key in _shared(rows))])


def table(group: Group) -> "Table":
    """The runs of one dataset as a table for the terminal, without what its heading says of all of them."""
    from rich import box
    from rich.table import Table

    rows = [_row(run, group) for run in group.runs]
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    varying = [key for key in _WORDS if key not in _shared(rows)]
    made.add_column("run", no_wrap=True)
    for key in varying:
        made.add_column(key, overflow="fold")
    metric = group.metric.name.replace("mean_absolute_error", "mean abs.\nerror")
    for heading in ("validation\nloss", f"validation\n{metric}", f"test\n{metric}", "seconds"):
        made.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        figures = [row[key] for key in ("validation_loss", "validation", "test")]
        made.add_row(
            row["run_id"][:8],
            *(str(row[key] or "-") for key in varying),
            *map(_figure, figures),
            "-" if row["seconds"] is None else f"{row['seconds']:.1f}",
        )
    return made


def _figure(value: float | None) -> str:
    """A loss, an error or a share: four decimals, or four digits where that says more.

    Example:
    >>> _figure(0.96543), _figure(0.000123456), _figure(12345.6), _figure(None)
    ('0.9654', '0.0001235', '1.235e+04', '-')
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if 0.01 <= abs(value) < 100 or value == 0 else f"{value:.4g}"


def plot(groups: Sequence[Group], path: Path) -> None:
    """Draw validation and test scores of the runs, a panel for each dataset, to the PNG file `path`."""
    from training.pictures import Scored, comparison, save

    panels = [
        Scored(
            group.dataset,
            group.metric.title,
            [f"{run.run_id[:8]}  {run.name}" for run in group.runs],
            [_score(run.metrics, f"best_validation/{group.metric.name}") for run in group.runs],
            [_score(run.metrics, f"test/{group.metric.name}") for run in group.runs],
            [_outcome(run) for run in group.runs],
        )
        for group in groups
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    save(comparison(panels), path)


def _score(metrics: Mapping[str, float], name: str) -> float:
    return metrics.get(name, float("nan"))
