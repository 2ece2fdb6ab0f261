"""The verbs of training: `train`, `compare`, `sample`. Heavy imports wait until a verb runs."""

import json
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.quiet import import_keras

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from training.config import Config
    from training.loop import Result
    from training.tracking import StoredRun


class Diverged(RuntimeError):
    """The run's loss left all bounds: it is recorded, but there is no model worth having."""

    exit_code = 1


@click.command()
@click.option("--config", "path", help="A TOML file, or the name of one in training/configs.")
@click.option("--data", help="Data of your own: a .ts pair, a .npz, a CSV file or a folder of them.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was killed or failed, from its last checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def train(path: str | None, data: str | None, resume: str | None, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Train one model and record the run in MLflow.

    \b
    zoo train                                             the default: an LSTM on japanese_vowels
    zoo train model.activation=relu seed=1
    zoo train --config japanese_vowels_lstm model.units=64 optimizer.clipnorm=none
    zoo train --data measurements.csv model.units=32
    zoo train --resume 3f2a                               a run by the beginning of its id
    """  # noqa: D301  (click reads the backspace character as "keep these lines")
    import_keras(find_devices=False)
    from rich.console import Console

    from training import distribution
    from training.config import load

    distribution.join()

    console = Console(stderr=True)
    if resume is not None:
        if path or data or overrides:
            raise click.UsageError("--resume goes on with the run's own configuration: give it alone")
        if distribution.several_hosts():
            raise click.UsageError("--resume goes on with a run of one host: checkpoints lie on the first one only")
        resume, config = _stopped_run(resume)
    else:
        config = load(path, [*overrides, *([f"dataset.path={json.dumps(data)}"] if data else [])])
        if config.dataset.path:
            _show_own_data(config, console)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to stop: as with Ctrl-C
    run_id, result = train_one(config, console, resume)
    if not distribution.is_first():
        return  # the first host says what came of it
    if as_json:
        click.echo(json.dumps(_summary(run_id, result)))
    elif result.validation and result.test:
        figures = [
            f"{part} {name.replace('_', ' ')} {value:.4f}"
            for part, scores in (("validation", result.validation), ("test", result.test))
            for name, value in scores.figures.items()
        ]
        click.echo(f"run {run_id[:8]}: {', '.join(figures)}, {len(result.history)} epochs in {result.seconds:.1f} s")
    if result.outcome == "diverged":
        raise Diverged(f"run {run_id[:8]} {result.reason}")


def _show_own_data(config: "Config", console: "Console") -> None:
    """Print what was inferred from data of one's own: a wrong guess should be seen before it is trained on."""
    from training.config import find_dataset
    from training.datasets_command import spec_table

    dataset: Any = find_dataset(config.dataset)
    console.print(spec_table(dataset.spec, {"note": "\n".join(dataset.notes)}))


def _stopped_run(beginning: str) -> "tuple[str, Config]":
    """The id and the configuration of the run whose id begins with `beginning`."""
    from training import checkpoints, tracking
    from training.config import validate

    run_id = tracking.find(beginning).run_id if tracking.has_mlflow() else checkpoints.find(beginning)
    return run_id, validate(checkpoints.read_description(run_id)["config"])


def train_one(
    config: "Config",
    console: "Console",
    resume: str | None = None,
    started: Callable[[str], None] = lambda run_id: None,
    callbacks: Sequence[Any] = (),
) -> "tuple[str, Result]":
    """Train and record what `config` describes, with progress on `console`.

    Args:
        config: The run.
        console: For progress.
        resume: The id of a run of this configuration to go on with.
        started: Called with the run's id as soon as it has one.
        callbacks: Further Keras callbacks.

    Returns:
        The run's id and its result. On a host that is not the first of several nothing is recorded, and the id is "".

    Raises:
        CannotResume: The run to go on with was not of this configuration and data, or is being trained elsewhere.
    """
    from training import checkpoints, distribution, tracking
    from training.device import use_device
    from training.loop import load_data, run
    from training.progress import ProgressBar
    from training.threads import use_threads

    use_threads(config.train.threads)
    use_device(config.train.device)
    data = load_data(config)
    if not distribution.is_first():
        return "", run(config, data=data)
    description = {
        "config": config.model_dump(mode="json"),
        "data": {part: getattr(data, part).digest() for part in ("train", "validation")},
    }
    with ExitStack() as locks, ExitStack() as stack:
        if resume is not None:
            locks.enter_context(checkpoints.in_folder(resume))
            checkpoints.check_description(resume, description)
        recorder = stack.enter_context(tracking.record(config, data, resume))
        if resume is None:
            folder = locks.enter_context(checkpoints.in_folder(recorder.run_id))
            checkpoints.write_description(folder, description)
        started(recorder.run_id)
        kept = checkpoints.Checkpoints(checkpoints.folder_of(recorder.run_id))
        bar = ProgressBar(recorder.name, config.train.epochs, console)
        result = run(config, [recorder, bar, *callbacks], data, kept)
        result = recorder.result(result, data)
    if result.cropped_share:
        console.print(f"{result.cropped_share:.1%} of all training steps were cropped away by a maximum length")
    return recorder.run_id, result


def _summary(run_id: str, result: "Result") -> dict[str, Any]:
    def scores(part: Any) -> Any:
        return part and part.figures

    return {
        "run_id": run_id,
        "outcome": result.outcome,
        "reason": result.reason,
        "epochs": len(result.history),
        "seconds": round(result.seconds, 3),
        "validation": scores(result.validation),
        "test": scores(result.test),
    }


@click.command()
@click.argument("run_ids", nargs=-1, metavar="[RUN]...")
@click.option(
    "--experiment",
    default="sequence-zoo",
    envvar="MLFLOW_EXPERIMENT_NAME",
    show_default=True,
    show_envvar=True,
    help="Where to look when no RUN is given.",
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
    """Compare runs: a table, a picture and the page of the MLflow UI.

    RUN is a run id or a unique beginning of one. The best by validation comes first; test figures are shown, never
    used to order.
    """
    import_keras()
    from rich.console import Console

    from training import tracking

    stored = tracking.runs() if run_ids else tracking.runs(experiment)
    if run_ids:
        chosen = [tracking.find(run_id, stored) for run_id in run_ids]
    else:
        chosen = [r for r in stored if study in (None, r.tags.get("study"))]
        chosen = [r for r in chosen if dataset in (None, r.tags.get("dataset"))][:last]
    if not chosen:
        raise tracking.RunNotFound(f"no run to compare in {tracking.tracking_uri()}; zoo train makes one")
    chosen = by_validation(chosen)
    if as_json:
        click.echo(json.dumps([_row(run) for run in chosen]))
        return
    console = Console()
    console.print(table(chosen))
    plot(chosen, picture)
    console.print(f"picture: {picture}")
    shown = f"--study {study}" if study and not run_ids else " ".join(run.run_id[:8] for run in chosen)
    console.print(f"MLflow's page: zoo ui {shown}", soft_wrap=True)


def by_validation(stored: "Sequence[StoredRun]") -> "list[StoredRun]":
    """The runs, best validation loss first; those without one, which died or diverged, last."""
    return sorted(stored, key=lambda run: run.metrics.get("best_validation/loss", float("inf")))


def _row(run: "StoredRun") -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "outcome": run.tags.get("outcome", run.status.lower()),
        "dataset": run.tags.get("dataset"),
        "model": run.tags.get("family"),
        "activation": run.tags.get("activation"),
        "seed": run.tags.get("seed"),
        "validation_loss": run.metrics.get("best_validation/loss"),
        "validation_accuracy": run.metrics.get("best_validation/accuracy"),
        "test_accuracy": run.metrics.get("test/accuracy"),
        "seconds": run.metrics.get("seconds"),
    }


def table(stored: "Sequence[StoredRun]") -> "Table":
    """The comparison as a table for the terminal; what all runs share is said once, below it."""
    from rich.table import Table

    rows = [_row(run) for run in stored]
    words = ("model", "activation", "dataset", "seed", "outcome")
    shared = [key for key in words if len({row[key] for row in rows}) == 1]
    if len(rows) == 1:
        shared = []
    caption = ", ".join(f"{key} {rows[0][key]}" for key in shared)
    made = Table(
        title="runs, best validation loss first", caption=caption, title_justify="left", caption_justify="left"
    )
    varying = [key for key in words if key not in shared]
    for key in ("run", *varying):
        made.add_column(key)
    for column in ("val. loss", "val. acc.", "test acc.", "seconds"):
        made.add_column(column, justify="right")
    for row in rows:
        figures = (
            _figure(row["validation_loss"], 4),
            _figure(row["validation_accuracy"], 4),
            _figure(row["test_accuracy"], 4),
            _figure(row["seconds"], 1),
        )
        made.add_row(row["run_id"][:8], *(str(row[key] or "-") for key in varying), *figures)
    return made


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def plot(stored: "Sequence[StoredRun]", path: Path) -> None:
    """Draw validation and test accuracy of the runs to the PNG file `path`."""
    from training.pictures import comparison, save

    missing = float("nan")
    labels = [f"{run.run_id[:8]}  {run.name}" for run in stored]
    figure = comparison(
        labels,
        [run.metrics.get("best_validation/accuracy", missing) for run in stored],
        [run.metrics.get("test/accuracy", missing) for run in stored],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--prompt", help="What the text goes on from.  [default: a new line]")
@click.option("--characters", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--temperature", type=float, default=0.8, show_default=True, help="Lower is safer, higher is wilder.")
@click.option("--seed", type=int, default=0, show_default=True)
def sample(run_id: str, prompt: str | None, characters: int, temperature: float, seed: int) -> None:
    """Draw text from the language model of RUN.

    RUN is a run id or a unique beginning of one.
    """
    import_keras()
    from training import sampling, tracking

    model, task = tracking.load(tracking.find(run_id))
    if task.get("kind") != "language_model":
        raise click.UsageError(f"run {run_id} is a {task.get('kind')} of {task['dataset']}, not a language model")
    text = sampling.sample(model, task["vocabulary"], prompt, characters, temperature, seed)
    click.echo((prompt or "") + text)
