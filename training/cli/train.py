"""The verbs of training: `train` and `sample`. Heavy imports wait until a verb runs."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from training.cli.own_data_options import as_overrides, own_data_options
from training.train import Diverged, check_model, train_one
from zoo.quiet import import_keras

if TYPE_CHECKING:
    from rich.console import Console

    from training.config import Config
    from training.run.loop import Result


@click.command()
@click.option("--config", "path", help="A TOML file, or the name of one in training/configs.")
@click.option("--data", help="Data of your own: a .ts pair, a .npz, a table such as a CSV file, or a folder of them.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was killed or failed, from its last checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@own_data_options
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def train(
    path: str | None, data: str | None, resume: str | None, as_json: bool, overrides: tuple[str, ...], **own: Any
) -> None:
    """Train one model and record the run in MLflow.

    \b
    zoo train                                             the default: an LSTM on japanese_vowels
    zoo train model.activation=relu seed=1
    zoo train --config japanese_vowels_lstm model.units=64 optimizer.clipnorm=none
    zoo train --data measurements.csv model.units=32
    zoo train --data sales.csv --task forecasting --horizon 7 --id shop --time date
    zoo train --resume 3f2a                               a run by the beginning of its id
    """  # noqa: D301  (click reads the backspace character as "keep these lines")
    from rich.console import Console

    overrides = (*overrides, *as_overrides(own))
    # What is wrong with the call is said before Keras is imported, which takes seconds.
    if resume is not None and (path or data or overrides):
        raise click.UsageError("--resume goes on with the run's own configuration: give it alone")
    if resume is not None:
        resume, config = _stopped_run(resume)
    else:
        config = _requested(path, data, overrides)
    import_keras(find_devices=False)
    from training.run import distribution

    distribution.join()
    if resume is not None and distribution.several_hosts():
        raise click.UsageError("--resume goes on with a run of one host: checkpoints lie on the first one only")
    check_model(config)
    console = Console(stderr=True)
    if resume is None and config.dataset.path:
        _show_own_data(config, console)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to stop: as with Ctrl-C
    with _saying_how_to_resume() as started:
        run_id, result = train_one(config, console, resume, started)
    if not distribution.is_first():
        return  # the first host says what came of it
    if as_json:
        click.echo(json.dumps(_summary(run_id, result)))
    elif result.validation:
        figures = [
            f"{part} {name.replace('_', ' ')} {value:.4f}"
            for part, scores in (("validation", result.validation), ("test", result.test))
            if scores is not None
            for name, value in scores.figures.items()
        ]
        if result.test is None:
            figures.append("no test score, as no step of the test split that the model reads has a label")
        count = len(result.history)
        epochs = "1 epoch" if count == 1 else f"{count} epochs"
        click.echo(f"run {run_id[:8]}: {', '.join(figures)}, {epochs} in {result.seconds:.1f} s")
    if result.outcome == "diverged":
        raise Diverged(f"run {run_id[:8]} {result.reason}")


class Interrupted(RuntimeError):
    """The run was interrupted, and can be resumed."""

    exit_code = 1


@contextmanager
def _saying_how_to_resume() -> Iterator[Callable[[str], None]]:
    """Say how to resume a run that the block leaves unfinished; yields a function to be called with the run's id."""
    ids: list[str] = []
    try:
        yield ids.append
    except (KeyboardInterrupt, Exception) as error:
        if not ids:
            raise
        command = f"zoo train --resume {ids[0][:8]}"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted: run {ids[0]} is kept; resume it with {command}") from None
        click.echo(f"run {ids[0]} is kept; resume it with {command} once what stopped it is mended", err=True)
        raise


def _requested(path: str | None, data: str | None, overrides: tuple[str, ...]) -> "Config":
    """The configuration that a call describes, every key and value checked by itself."""
    from training.config import load

    if data is None:
        return load(path, overrides)
    for override in overrides:
        if override.partition("=")[0].strip() in ("dataset.name", "dataset.path"):
            raise click.UsageError(f"--data {data} and {override} both say which data: give one of them")
    return load(path, [*overrides, f"dataset.path={json.dumps(data)}"])


def _show_own_data(config: "Config", console: "Console") -> None:
    """Print what was inferred from one's own data, so that a wrong guess is seen before it is trained on."""
    from training.cli.datasets import spec_table
    from training.config import find_dataset

    dataset: Any = find_dataset(config.dataset)
    console.print(spec_table(dataset.spec, {"note": "\n".join(dataset.notes)}))


def _stopped_run(beginning: str) -> "tuple[str, Config]":
    """The id and the configuration of the run whose id begins with `beginning`."""
    from training import tracking
    from training.config import parse
    from training.run import checkpoints

    run_id = tracking.find(beginning).run_id if tracking.has_mlflow() else checkpoints.find(beginning)
    return run_id, parse(checkpoints.read_description(run_id)["config"])


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
@click.argument("run_id", metavar="RUN")
@click.option("--prompt", help="What the text goes on from.  [default: a new line]")
@click.option("--characters", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--temperature", type=float, default=0.8, show_default=True, help="Lower is safer, higher is wilder.")
@click.option("--seed", type=int, default=0, show_default=True)
def sample(run_id: str, prompt: str | None, characters: int, temperature: float, seed: int) -> None:
    """Draw text from the language model of RUN.

    RUN is a run id or a unique beginning of one.
    """
    from training import tracking

    run = tracking.find(run_id)  # before Keras is imported, which takes seconds
    import_keras()
    from training.run import sampling

    model, task = tracking.load(run)
    if task.get("kind") != "language_model":
        raise click.UsageError(f"run {run_id} is a {task.get('kind')} of {task['dataset']}, not a language model")
    text = sampling.sample(model, task["vocabulary"], prompt, characters, temperature, seed)
    click.echo((prompt or "") + text)
