"""The verb `study`. Heavy imports wait until it runs."""

import json
import os
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from training.cli.own_data_options import as_overrides, own_data_options

if TYPE_CHECKING:
    from training.study.design import Study
    from training.study.folder import StudyFolder
    from training.study.running import Summary


class SomeFailed(RuntimeError):
    """Runs of the study came to nothing, for reasons that are not the models'."""

    exit_code = 1


def _seeds(context: click.Context, parameter: click.Parameter, text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}: give how many, such as 5, or which, such as 0,3,7") from None
    return numbers if "," in text else numbers[0]


@click.command()
@click.option("--activation", help="Short for model.activation=...")
@click.option("--model", help="Short for model.name=...")
@click.option("--dataset", help="Short for dataset.name=...")
@click.option("--seeds", callback=_seeds, help="How many, from 0; or which: 0,3,7.  [default: 5]")
@click.option("--config", "path", help="A TOML file, or the name of one in training/configs, to start from.")
@click.option("--name", help="Of the study and its folder under mlruns/studies.  [default: made of what varies]")
@click.option("--baseline", help="The condition that the others are compared with.  [default: the first]")
@click.option("--workers", type=click.IntRange(min=1), help="Runs at once.  [default: one a core]")
@click.option("--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", help="Of a Ray cluster, as ray.init takes it.  [default: one of this machine's own]")
@click.option("--report-only", is_flag=True, help="Run nothing: write the report of what there is.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
@own_data_options
@click.argument("given", nargs=-1, metavar="[STUDY] [KEY=VALUE,...]...")
def study(
    activation: str | None,
    model: str | None,
    dataset: str | None,
    seeds: int | list[int] | None,
    path: str | None,
    name: str | None,
    baseline: str | None,
    workers: int | None,
    executor: str,
    address: str | None,
    report_only: bool,
    as_json: bool,
    given: tuple[str, ...],
    **own: Any,
) -> None:
    """Run conditions x datasets x seeds and report on them, with intervals.

    What varies is given as KEY=VALUE,VALUE,... (every combination is a condition), or by STUDY: a Python file, or the
    name of one in training/studies. The same command resumes a study that was stopped; more seeds or conditions
    are added to what is there.

    \b
    zoo study --activation tanh,relu --dataset japanese_vowels,digits_rows --seeds 5
    zoo study --config japanese_vowels_lstm model.activation=tanh,relu optimizer.clipnorm=none,1
    zoo study activations --workers 4
    zoo study --name activation --report-only
    """  # noqa: D301  (click reads the backspace character as "keep these lines")
    # The configurations are checked by building their models here; the memory of an accelerator is for the runs.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if address is not None and executor != "ray":
        raise click.UsageError("--address is of a Ray cluster: add --executor ray")
    from training.study.folder import STUDIES, StudyFolder

    short = {"model.activation": activation, "model.name": model, "dataset.name": dataset}
    axes = [*(f"{key}={value}" for key, value in short.items() if value is not None), *given]
    axes += as_overrides(own)
    if report_only and name is not None and not axes:
        _show(StudyFolder(STUDIES / name), None, as_json)
        return
    asked = _requested(axes, seeds, path, name, baseline)
    folder = StudyFolder(STUDIES / asked.name)
    summary = None
    if not report_only:
        summary = _run(asked, folder, workers, executor, address, _command(axes, seeds, path, name, baseline))
    _show(folder, summary, as_json)


def _requested(
    axes: list[str], seeds: int | list[int] | None, path: str | None, name: str | None, baseline: str | None
) -> "Study":
    """The requested study."""
    from training.study.cli_grid import alternatives, grid, overridden, read_study
    from training.study.design import DEFAULT_SEEDS, PlanError

    files = [text for text in axes if "=" not in text]
    if len(files) > 1:
        raise PlanError(f"expected one STUDY, received {len(files)}: {', '.join(files)}")
    if not files:
        if not axes:
            raise click.UsageError("say what varies: zoo study --activation tanh,relu, or zoo study STUDY")
        return grid(axes, DEFAULT_SEEDS if seeds is None else seeds, name, path, baseline)
    overrides = [text for text in axes if text not in files]
    several = [text for text in overrides if len(alternatives(text)) > 1]
    if path is not None or several:
        raise PlanError(f"{files[0]} says what varies, and --config is its `config`: write it there, or give one value")
    found = read_study(files[0])
    return replace(
        overridden(found, overrides),
        seeds=found.seeds if seeds is None else seeds,
        name=name or found.name,
        baseline=baseline or found.baseline,
    )


def _run(
    asked: "Study", folder: "StudyFolder", workers: int | None, executor: str, address: str | None, command: str
) -> "Summary":
    from rich.console import Console

    from training.study.running import local, on_ray, run_study

    makers = {"local": local(workers, folder.logs), "ray": on_ray(workers, address)}
    return run_study(asked, folder, makers[executor], Console(stderr=True), command)


def _show(folder: "StudyFolder", summary: "Summary | None", as_json: bool) -> None:
    page = folder.report()
    rows = folder.rows() if summary is None else summary.rows
    counts = {outcome: sum(row.outcome == outcome for row in rows) for outcome in ("converged", "diverged", "failed")}
    if as_json:
        click.echo(json.dumps({"study": folder.path.name, "runs": len(rows), **counts, "report": str(page)}))
    else:
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        click.echo(f"study {folder.path.name}: {len(rows)} runs, {said}. Report: {page}")
    if counts["failed"] and summary is not None:
        raise SomeFailed(f"{counts['failed']} runs failed: the report says why; the same command does them again")


def _command(
    axes: list[str], seeds: int | list[int] | None, path: str | None, name: str | None, baseline: str | None
) -> str:
    """The command line without what cannot change a result, for the report."""
    counted = ",".join(map(str, seeds)) if isinstance(seeds, list) else seeds
    options = {"--config": path, "--seeds": counted, "--name": name, "--baseline": baseline}
    words = ["zoo", "study", *axes]
    for option, value in options.items():
        words += [option, str(value)] if value is not None else []
    return shlex.join(words)
