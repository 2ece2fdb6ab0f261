"""The verb `zoo datasets`: what data there is, and whether it is prepared."""

import dataclasses
import json
from typing import Any

import click

from training.datasets import DATASETS, Dataset, get


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--prepare", is_flag=True, help="Prepare NAME now instead of at the first training.")
def datasets(name: str | None, as_json: bool, prepare: bool) -> None:
    """List the datasets, or say all that is known about NAME."""
    if name is None:
        if prepare:
            raise click.UsageError("--prepare needs the NAME of one dataset; `zoo datasets` lists them")
        if as_json:
            click.echo(json.dumps([_facts(dataset) for dataset in DATASETS.values()], indent=2))
        else:
            _print_all()
        return
    dataset = get(name)
    if prepare:
        dataset.prepare()
    if as_json:
        click.echo(json.dumps(_facts(dataset), indent=2))
    else:
        _print_one(dataset)


def _facts(dataset: Dataset) -> dict[str, Any]:
    return {**dataclasses.asdict(dataset.spec), "prepared": dataset.is_prepared()}


def _print_all() -> None:
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    headings = ("name", "task", "channels", "steps", "classes", "train / test", "licence", "prepared", "reference")
    table = Table(*headings, box=box.SIMPLE_HEAD)
    for dataset in DATASETS.values():
        spec = dataset.spec
        table.add_row(
            spec.name,
            spec.task,
            str(spec.channels),
            _steps(spec.lengths),
            str(len(spec.classes)),
            " / ".join(str(spec.counts[split]) for split in ("train", "test")),
            spec.licence,
            "yes" if dataset.is_prepared() else "no",
            f"{spec.references[0].value:g}" if spec.references else "none",
        )
    # A row stays a row, also in a pipe or a narrow window: cut columns would say nothing.
    unbounded = Console(width=1000)
    Console(width=Measurement.get(unbounded, unbounded.options, table).maximum).print(table)


def _print_one(dataset: Dataset) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    spec = dataset.spec
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    references = "\n".join(f"{ref.value:g}  {ref.figure} [{ref.source}]" for ref in spec.references)
    rows = {
        "name": spec.name,
        "task": spec.task,
        "features": spec.features,
        "channels": str(spec.channels),
        "steps": _steps(spec.lengths),
        "classes": f"{len(spec.classes)}: {', '.join(spec.classes)}",
        "examples": ", ".join(f"{split} {count}" for split, count in spec.counts.items()),
        "split rule": spec.split_rule,
        "licence": spec.licence,
        "citation": spec.citation,
        "homepage": spec.homepage,
        "references": references or "none known for this split",
        "prepared": "yes" if dataset.is_prepared() else f"no (zoo datasets {spec.name} --prepare)",
    }
    for label, value in rows.items():
        table.add_row(label, Text(value))
    Console().print(table)


def _steps(lengths: tuple[int, int]) -> str:
    shortest, longest = lengths
    return str(shortest) if shortest == longest else f"{shortest} to {longest}"
