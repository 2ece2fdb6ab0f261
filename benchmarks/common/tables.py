"""Rows of results as files and as tables of Markdown."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean, of ratios; NaN of none."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def table(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table, or an empty list for no lines."""
    body = [f"| {' | '.join(_text(value) for value in line)} |" for line in lines]
    return [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |", *body, ""] if body else []


def _text(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.2f}"
    return str(value)
