"""The `zoo` command, with the verbs of zoo, training and serving.

Verbs are imported by name when they are called, so that `zoo --help` is fast and `zoo serve` never imports what only
training needs.
"""

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

# TensorFlow's C++ parts also log errors that Python raises as exceptions; the exception is enough.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click

from zoo import __version__

# Number of new objects after which Python searches for cycles, 700 by default. Imports make millions of objects and
# hardly a cycle, and the searches took a tenth of the CPU time of the start of `zoo train`.
_COLLECT_AFTER = 150_000

# The command of each verb, and its line in `zoo --help`.
VERBS: dict[str, tuple[str, str]] = {
    "train": ("training.cli.train:train", "Train one model and record the run in MLflow."),
    "study": ("training.cli.study:study", "Run conditions x datasets x seeds, and report on them."),
    "sample": ("training.cli.train:sample", "Draw text from a language model."),
    "compare": ("training.cli.compare:compare", "Compare runs: tables, a picture, the MLflow page."),
    "ui": ("training.cli.ui:ui", "Show runs in MLflow's pages."),
    "export": ("training.cli.export:export", "Export a run as a SavedModel for TensorFlow Serving."),
    "promote": ("training.cli.export:promote", "Put a label on a version: servers and MLflow get to know."),
    "rollback": ("training.cli.export:rollback", "Put a label back on the version that had it before."),
    "serve": ("serving.cli.serve:serve", "Serve an exported model over TensorFlow Serving's API."),
    "predict": ("serving.cli.client:predict", "Send sequences to a server and print its answers."),
    "classify": ("serving.cli.client:classify", "The same by TensorFlow Serving's Classify."),
    "status": ("serving.cli.client:status", "Say which versions of a model a server has."),
    "metadata": ("serving.cli.client:metadata", "Say what a served model takes and gives."),
    "verify": ("serving.cli.client:verify", "Replay an export's golden requests and compare the answers."),
    "bench-serve": ("serving.cli.bench:bench_serve", "Put a load on a server and measure its latencies."),
    "models": ("zoo.cli.listings:models", "List the models and their arguments."),
    "datasets": ("training.cli.datasets:datasets", "List, describe and prepare the datasets."),
    "activations": ("zoo.cli.listings:activations", "List the activations and their properties."),
    "doctor": ("zoo.cli.doctor:doctor", "Say what is installed, what is missing and how to get it."),
}


class Verbs(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module, _, attribute = VERBS[name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{VERBS[name][0]} is {type(command).__name__}, expected a click command")
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zoo")
def zoo() -> None:
    """Train, compare, export and serve models for sequences.

    Exit codes: 0 done, 1 the work failed, 2 the call was wrong. --debug after any verb shows the traceback of an error.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; an error is one message and an exit code."""
    gc.set_threshold(_COLLECT_AFTER)
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_run([word for word in words if word != "--debug"], debug="--debug" in words))


def _run(arguments: list[str], debug: bool) -> int:
    try:
        result: Any = zoo.main(arguments, prog_name="zoo", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return 1
    except BrokenPipeError:
        # The reader of our output has closed it, as `head` does. Without this Python would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        text = str(error) or type(error).__name__
        known = hasattr(error, "exit_code")
        hint = "" if known else f" ({type(error).__name__}; --debug shows where)"
        click.echo(f"Error: {text}{hint}", err=True)
        return int(getattr(error, "exit_code", 1))
    return result if isinstance(result, int) else 0
