"""The options that say what data of your own means, the same for every verb that takes such data."""

import json
from collections.abc import Callable
from typing import Any, get_args

import click

from training.datasets import Task
from training.datasets.own.answers import ROLES, Answers, Layout

_HELP = {
    "time": "columns that say where in its sequence a row stands.",
    "id": "columns that say which sequence a row belongs to.",
    "label": "the column that is to be predicted.",
    "target": "columns to be forecast, or numbers to be predicted of a sequence.",
    "ignore": "columns that are not to be used.",
    "static": "columns that are true of a whole sequence.",
    "channels": "columns that are channels, although they look like something else.",
}
KEYS = (*ROLES, "layout", "task", "horizon", "window")


def own_data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a verb, which gets them as keyword arguments, `KEYS`.

    Args:
        command: The verb, before it becomes a command.
    """
    options = [
        *(click.option(f"--{role}", metavar="COLUMNS", help=f"Own data: {_HELP[role]}") for role in ROLES),
        click.option("--layout", type=click.Choice(get_args(Layout)), help="Own data: how it lies."),
        click.option(
            "--task", type=click.Choice(get_args(Task)), help="Own data: what to predict, if not the inferred."
        ),
        click.option("--horizon", type=int, help="Own data: how many steps to forecast."),
        click.option("--window", type=int, help="Own data: from how many steps to forecast."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def as_overrides(given: dict[str, Any]) -> list[str]:
    """The options as overrides of a configuration.

    Args:
        given: The keyword arguments of a verb; those that are no such options, or None, are left out.

    Example:
    >>> as_overrides({"time": "day,hour", "horizon": 7, "id": None})
    ['dataset.time="day,hour"', 'dataset.horizon=7']
    """
    said = {key: given[key] for key in KEYS if given.get(key) is not None}
    return [f"dataset.{key}={_quoted(value) if isinstance(value, str) else value}" for key, value in said.items()]


def as_answers(given: dict[str, Any]) -> Answers:
    """The options that say which column is what.

    Example:
    >>> as_answers({"time": "day, hour", "horizon": 7}).time
    ('day', 'hour')
    """
    columns = {
        role: tuple(name.strip() for name in (given.get(role) or "").split(",") if name.strip()) for role in ROLES
    }
    return Answers(**columns, layout=given.get("layout"))


def _quoted(text: str) -> str:
    """A text of TOML."""
    return json.dumps(text, ensure_ascii=False)
