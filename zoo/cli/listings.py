"""The verbs `models` and `activations`, which list the content of the zoo."""

import json
import math
from pathlib import Path
from typing import Any

import click

from zoo.quiet import import_keras
from zoo.signatures import builders


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def models(as_json: bool) -> None:
    """List the models, with the arguments that `zoo train model.KEY=VALUE` takes."""
    made = builders()
    if as_json:
        click.echo(json.dumps({name: {key: a.default for key, a in b.arguments.items()} for name, b in made.items()}))
        return
    from rich.table import Table

    from zoo.terminal import show

    table = Table("model", "what it is; its arguments and their defaults", show_lines=True)
    table.columns[0].no_wrap = True
    for name, built in made.items():
        arguments = ", ".join(f"{key}={argument.default}" for key, argument in built.arguments.items())
        table.add_row(name, f"{built.summary}\n{arguments}")
    show(table)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    is_flag=False,
    flag_value=Path("mlruns/activations.png"),
    help="Draw each function and its derivative into this PNG (without a path: mlruns/activations.png).",
)
def activations(as_json: bool, plot: Path | None) -> None:
    """List the activations and their properties, at their default parameters, or draw them."""
    import_keras()
    if plot is not None:
        from zoo.cli.gallery import plot as draw

        draw(plot)
        click.echo(plot)
        return
    from rich import box
    from rich.table import Table

    from zoo.activations import ACTIVATIONS, bind
    from zoo.terminal import show

    rows = {name: _properties(bind(name)) for name in ACTIVATIONS}
    if as_json:
        click.echo(json.dumps(rows))
        return
    headings = ("name", "range", "mono-\ntonic", "zero-\ncentred", "satu-\nrates", "formula")
    table = Table(*headings, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for column in table.columns[:-1]:
        column.no_wrap = True
    table.columns[-1].overflow = "fold"
    for name, row in rows.items():
        parameters = ", ".join(f"{value:.3g}" for value in row["parameters"].values())
        flags = ["yes" if row[key] else "no" for key in ("monotonic", "zero_centred")]
        limits = f"{_limit(row['lower'], '-inf')} .. {_limit(row['upper'], 'inf')}"
        table.add_row(f"{name}({parameters})" if parameters else name, limits, *flags, row["saturates"], row["formula"])
    show(table)


def _limit(value: float | None, none: str) -> str:
    return none if value is None else f"{value:.3g}"


def _properties(activation: Any) -> dict[str, Any]:
    definition = activation.definition
    return {
        "parameters": dict(activation.parameters),
        "formula": definition.formula,
        # JSON has no infinity, so null means that there is no bound.
        "lower": activation.lower if math.isfinite(activation.lower) else None,
        "upper": activation.upper if math.isfinite(activation.upper) else None,
        "bounded": activation.bounded,
        "monotonic": definition.monotonic,
        "zero_centred": definition.zero_centred,
        "saturates": definition.saturates,
        "learnable": definition.learnable,
        "source": definition.source,
    }
