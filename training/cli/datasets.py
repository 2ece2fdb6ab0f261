"""The verb `zoo datasets`: what data there is, what is known about it, and preparing it."""

import dataclasses
import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from training.cli.own_data_options import as_answers, own_data_options
from training.datasets import DATASETS, FAMILIES, Dataset, Examples, Spec, find, get
from training.datasets.store import portable
from training.datasets.targets import STEP_LABELS, TARGETS
from zoo.quiet import import_tensorflow

if TYPE_CHECKING:
    from rich.table import Table

    from training.datasets.own import OwnData

_BINS = 10
_BAR = 40
_LISTED = 30
_DRAWN = 3


class _DescribeByName(click.Group):
    """`zoo datasets NAME` is short for `zoo datasets describe NAME`."""

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        short = arguments[0] not in self.commands
        return super().resolve_command(context, ["describe", *arguments] if short else arguments)


@click.group(cls=_DescribeByName, invoke_without_command=True, subcommand_metavar="[COMMAND | NAME | PATH]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def datasets(context: click.Context, as_json: bool) -> None:
    """List the datasets, describe one, or prepare one.

    \b
    zoo datasets                             what there is
    zoo datasets japanese_vowels             all that is known about one
    zoo datasets describe recordings.csv     what is seen in data of your own
    zoo datasets prepare spoken_digit        now instead of at the first training
    zoo datasets carry spoken_digit --to F   for a machine without TensorFlow Datasets
    """  # noqa: D301  (click reads the backspace character as "keep these lines")
    context.obj = as_json
    if context.invoked_subcommand is not None:
        return
    if as_json:
        click.echo(json.dumps([_facts(dataset) for dataset in map(get, DATASETS)], indent=2))
    else:
        _print_all()


@datasets.command()
@click.argument("name", metavar="NAME|PATH")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--png", type=click.Path(path_type=Path, dir_okay=False), help="Own data: draw a few sequences to a file."
)
@own_data_options
@click.pass_obj
def describe(as_json_before: bool, /, name: str, as_json: bool, png: Path | None, **own: Any) -> None:
    """Say all that is known about the dataset NAME, or what is seen in data of your own at PATH."""
    from training.datasets.own import OwnData, is_path

    known = name in DATASETS or name.partition("/")[0] in FAMILIES
    path = name if not known and is_path(name) else None
    if path is None and any(value is not None for value in (png, *own.values())):
        given = ", ".join(f"--{key}" for key, value in {"png": png, **own}.items() if value is not None)
        raise click.UsageError(f"{given} are for data of your own; there is no file {name!r}")
    try:
        task, horizon, window = own["task"], own["horizon"], own["window"]
        dataset = find(name, path, task=task, horizon=horizon, window=window, answers=as_answers(own))
    except ValueError as error:
        if path is None or not hasattr(error, "exit_code"):
            raise
        raise type(error)(_as_options(str(error))) from error
    if png is not None and isinstance(dataset, OwnData):
        from training import pictures
        from training.datasets.own.summary import shown_sequences

        pictures.save(pictures.sequences(shown_sequences(dataset), dataset.channels), png)
    if as_json or as_json_before:
        click.echo(json.dumps(_facts(dataset), indent=2))
        return
    from rich.console import Console

    console = Console()
    if isinstance(dataset, OwnData):
        console.print(spec_table(dataset.spec, _seen(dataset)))
        for table in [*_content_tables(dataset), _first_steps_table(dataset), _bars_table(dataset)]:
            console.print(table)
    else:
        prepared = f"yes, {_size(dataset)}" if dataset.is_prepared() else f"no (zoo datasets prepare {name})"
        more = {"prepared": prepared}
        if not dataset.spec.references:
            more["references"] = "none known for this split"
        console.print(spec_table(dataset.spec, more))


def _as_options(message: str) -> str:
    """A message with the keys of a configuration as the options that this verb has.

    Example:
    >>> _as_options("give dataset.task=forecasting and a shorter dataset.window")
    'give --task=forecasting and a shorter --window'
    """
    return re.sub(r"\bdataset\.(task|horizon|window)\b", r"--\1", message)


@datasets.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a sentence.")
@click.pass_obj
def prepare(as_json_before: bool, name: str, as_json: bool) -> None:
    """Prepare NAME now instead of at the first training."""
    dataset = get(name)
    started = time.perf_counter()
    if not dataset.is_prepared():
        with portable.where_prepared(name):
            import_tensorflow()
            dataset.prepare()
    seconds = time.perf_counter() - started
    if as_json or as_json_before:
        click.echo(json.dumps({**_facts(dataset), "seconds": round(seconds, 3)}, indent=2))
    else:
        click.echo(f"{name} is prepared, {_size(dataset)}; this took {seconds:.1f} s")


@datasets.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--to", required=True, type=click.Path(path_type=Path, file_okay=False), help="The folder to write to.")
def carry(names: tuple[str, ...], to: Path) -> None:
    """Write the datasets NAME as arrays, for a machine that cannot prepare them.

    There, FOLDER is what TFDS_DATA_DIR names, and the datasets have the same names, splits and values.
    """
    for name in names:
        dataset = get(name)
        with portable.where_prepared(name):
            if not dataset.is_prepared():
                import_tensorflow()
            folder = portable.carry(dataset, to)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        click.echo(f"{folder}: {size / 1e6:.1f} MB")
    click.echo(f"Bring {to} to the other machine, and let TFDS_DATA_DIR name it there")


def spec_table(spec: Spec, more: dict[str, str] | None = None) -> "Table":
    """All that a spec says, as a table for the terminal; what it leaves empty is left out.

    Args:
        spec: Of any dataset.
        more: Further rows, label and text; one of a label that is there replaces it.
    """
    from rich.table import Table
    from rich.text import Text

    references = "\n".join(f"{ref.value:g}  {ref.figure} [{ref.source}]" for ref in spec.references)
    rows = {
        "name": spec.name,
        "task": spec.task,
        "features": spec.features,
        "channels": "tokens of a vocabulary" if spec.text else str(spec.channels),
        "steps": _steps(spec.lengths),
        "classes": _counted(spec.classes),
        "outputs": _counted(spec.outputs),
        "horizon": f"{spec.horizon} steps" if TARGETS[spec.task].has_horizon else "",
        "examples": ", ".join(f"{split} {count}" for split, count in spec.counts.items()),
        "split rule": spec.split_rule,
        "licence": spec.licence,
        "citation": spec.citation,
        "homepage": spec.homepage,
        "references": references,
        **(more or {}),
    }
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for label, value in rows.items():
        if value:
            table.add_row(label, Text(value))
    return table


def _counted(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"{len(names)}: {', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''}"


def _facts(dataset: Dataset) -> dict[str, Any]:
    from training.datasets.own import OwnData

    facts = dataclasses.asdict(dataset.spec)
    if isinstance(dataset, OwnData):
        from training.datasets.own.summary import summary

        doubts = [dataclasses.asdict(doubt) for doubt in dataset.doubts]
        columns = {**dataset.columns, "channels": dataset.channels}
        return {
            **facts,
            **summary(dataset),
            "notes": dataset.notes,
            "doubts": doubts,
            "columns": columns,
            "content": _content(dataset),
            "length_counts": _lengths(dataset),
        }
    return {**facts, "prepared": dataset.is_prepared(), "bytes_on_disk": dataset.bytes_on_disk()}


def _print_all() -> None:
    from zoo import terminal

    table = _listed(whole=True)
    width = terminal.width()
    if width is not None and width < terminal.natural_width(table):
        table = _listed(whole=False)
    terminal.show(table)
    click.echo("Further variants as FAMILY/VARIANT, of:")
    click.echo(click.wrap_text(", ".join(FAMILIES), width or 1000, initial_indent="  ", subsequent_indent="  "))
    click.echo("zoo datasets NAME says all that is known of one: classes, split, licence, references")


def _listed(whole: bool) -> "Table":
    """All datasets, a row each; without what makes it wider than a terminal where it is not to be whole."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1) if whole else 0, show_edge=whole)
    table.add_column("name", no_wrap=True)
    table.add_column("task", no_wrap=True)
    table.add_column("channels" if whole else "chan-\nnels", justify="right", no_wrap=True)
    table.add_column("steps", overflow="fold")
    table.add_column("classes" if whole else "clas-\nses", justify="right", no_wrap=True)
    table.add_column("train", justify="right", no_wrap=True)
    table.add_column("test", justify="right", no_wrap=True)
    for column in ("licence", "prepared", "reference") if whole else ("pre-\npared",):
        table.add_column(column, no_wrap=True)
    for dataset in map(get, DATASETS):
        spec = dataset.spec
        prepared = f"yes, {_size(dataset)}" if dataset.is_prepared() else "no"
        reference = f"{spec.references[0].value:g}" if spec.references else "none"
        table.add_row(
            spec.name,
            spec.task,
            "tokens" if spec.text else str(spec.channels),
            _steps(spec.lengths),
            str(len(spec.classes) or "none"),
            *(str(spec.counts[split]) for split in ("train", "test")),
            *((spec.licence, prepared, reference) if whole else (prepared[:3],)),
        )
    return table


def _size(dataset: Dataset) -> str:
    size = dataset.bytes_on_disk()
    return f"{size / 1e6:.1f} MB on disk" if size else "nothing on disk"


def _steps(lengths: tuple[int, int] | None) -> str:
    if lengths is None:
        return "unknown"
    shortest, longest = lengths
    return str(shortest) if shortest == longest else f"{shortest} to {longest}"


# === What is in data of your own ===


def _content(dataset: "OwnData") -> dict[str, dict[str, Any]]:
    """Per split the examples of every class (labelling: the steps), or the range of every output."""
    return {split: _content_of(dataset.load(split), dataset.spec) for split in ("train", "test")}


def _content_of(examples: Examples, spec: Spec) -> dict[str, Any]:
    if spec.classes:
        labels = examples.kind.labels(examples.targets)
        counts = np.bincount(labels[labels >= 0], minlength=len(spec.classes))
        without = {"(no label)": int((labels < 0).sum())} if (labels < 0).any() else {}
        return dict(zip(spec.classes, counts.tolist(), strict=True)) | without
    values = examples.targets.reshape(-1, len(spec.outputs))
    ranges = zip(values.min(axis=0), values.mean(axis=0), values.max(axis=0), strict=True)
    return {
        name: {"lowest": float(lowest), "mean": float(mean), "highest": float(highest)}
        for name, (lowest, mean, highest) in zip(spec.outputs, ranges, strict=True)
    }


def _seen(dataset: "OwnData") -> dict[str, str]:
    """What was understood and assumed, as rows of the table of the spec."""
    from training.datasets.own.summary import time_between_steps

    roles = [f"{role}: {', '.join(names)}" for role, names in dataset.columns.items() if role != "channels"]
    stopping = [doubt for doubt in dataset.doubts if doubt.stops]
    notes = [note for note in dataset.notes if note not in map(str, stopping)]
    stops = [f"{doubt.seen}; assumed: {doubt.assumed}; answer with {doubt.otherwise}" for doubt in stopping]
    return {
        "columns": "; ".join(roles),
        "time steps": time_between_steps(dataset),
        "note": "\n".join(notes),
        "to be answered before training": "\n".join(stops),
    }


def _first_steps_table(dataset: "OwnData") -> "Table":
    """Channels, a row each: range, and the first steps as understood."""
    from rich import box
    from rich.table import Table

    from training.datasets.own.summary import first_answer, first_steps, ranges

    steps = first_steps(dataset)
    table = Table("channel", "lowest, mean, highest", "first steps of a sequence", box=box.SIMPLE_HEAD)
    for index, (name, values) in enumerate(list(ranges(dataset).items())[:_LISTED]):
        first = ", ".join(f"{step[index]:.4g}" for step in steps)
        table.add_row(name, ", ".join(f"{value:.4g}" for value in values.values()), first)
    table.add_row("to be predicted", "", first_answer(dataset))
    return table


def _bars_table(dataset: "OwnData") -> "Table":
    """A few sequences as lines of bars."""
    from rich import box
    from rich.table import Table

    from training.datasets.own.summary import bars, shown_sequences

    table = Table("sequence", "channel", "over time", box=box.SIMPLE_HEAD)
    for name, sequence in shown_sequences(dataset):
        for index, channel in enumerate(dataset.channels[:_DRAWN]):
            table.add_row(name if index == 0 else "", channel, bars(sequence[:, index]))
    return table


def _lengths(dataset: "OwnData") -> list[tuple[int, int, int]]:
    """A histogram of the steps of all sequences: shortest, longest, how many."""
    lengths = np.concatenate([dataset.load(split).lengths for split in ("train", "test")])
    return histogram(lengths)


def histogram(lengths: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Count lengths in at most ten ranges, as equally wide as whole numbers allow.

    Returns:
        Of every range its shortest and longest possible length, and how many there are.

    Example:
    >>> histogram(np.array([3, 3, 4])), histogram(np.arange(1, 101))[:2]
    ([(3, 3, 2), (4, 4, 1)], [(1, 10, 10), (11, 20, 10)])
    """
    shortest, longest = int(lengths.min()), int(lengths.max())
    width = math.ceil((longest - shortest + 1) / _BINS)
    counts = np.bincount((lengths - shortest) // width)
    starts = shortest + width * np.arange(len(counts))
    return [(int(start), int(start) + width - 1, int(count)) for start, count in zip(starts, counts, strict=True)]


def _content_tables(dataset: "OwnData") -> list["Table"]:
    from rich import box
    from rich.table import Table

    content = _content(dataset)
    if dataset.spec.classes:
        counted = "steps of" if TARGETS[dataset.spec.task] is STEP_LABELS else "sequences of"
        by_class = Table(f"{counted} class", "train", "test", box=box.SIMPLE_HEAD)
        for name in dict.fromkeys([*content["train"], *content["test"]]):
            by_class.add_row(name, *(str(content[split].get(name, 0)) for split in ("train", "test")))
    else:
        by_class = Table("output", "train: lowest, mean, highest", "test", box=box.SIMPLE_HEAD)
        for name in dataset.spec.outputs:
            ranges = (", ".join(f"{value:.4g}" for value in content[split][name].values()) for split in content)
            by_class.add_row(name, *ranges)
    bars = Table("steps", "sequences", "", box=box.SIMPLE_HEAD)
    counts = _lengths(dataset)
    most = max(count for _, _, count in counts)
    for shortest, longest, count in counts:
        bars.add_row(_steps((shortest, longest)), str(count), "#" * math.ceil(_BAR * count / most))
    return [by_class, bars]
