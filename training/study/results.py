"""The runs of a study as rows: one JSON file a run, and all of them as one table."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from training.files import write_safely

# Keys of a configuration that a row has a field of its own for
_FIELDS = ("seed", "study", "condition")


class DamagedResult(ValueError):
    """A file of results is not what a study wrote."""

    exit_code = 1


@dataclass(frozen=True)
class Row:
    """One run of a study, as its JSON file holds it.

    Attributes:
        study: The study's name.
        condition: The label of what was varied, such as "relu".
        dataset: Such as "japanese_vowels".
        seed: Seed of the run.
        run_id: MLflow's; "" where the run never got one.
        outcome: "converged", "diverged" or "failed".
        reason: Why it diverged or failed, or "".
        metrics: Such as "best_validation/loss" and "test/accuracy"; empty unless the run converged.
        history: One dict an epoch, such as {"train/loss": 0.3, "validation/accuracy": 0.9}.
        epochs: How many ended.
        seconds: Wall-clock time of training.
        machine: System and processor.
        threads: That the run could use.
        config: The whole configuration, with dotted keys.
        environment: Versions, "git_commit", "git_dirty", "backend", "device"; all text.
        guessing: The loss of guessing: ln(classes), or 1 of numbers; NaN where it is not known.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    study: str
    condition: str
    dataset: str
    seed: int
    run_id: str
    outcome: Literal["converged", "diverged", "failed"]
    reason: str
    metrics: Mapping[str, float]
    history: Sequence[Mapping[str, float]]
    epochs: int
    seconds: float
    machine: str
    threads: int
    config: Mapping[str, Any]
    environment: Mapping[str, str]
    guessing: float

    @property
    def key(self) -> tuple[str, str, int]:
        """Its place in the study: (condition, dataset, seed)."""
        return (self.condition, self.dataset, self.seed)

    def to_json(self) -> str:
        """The row as standard JSON: a number that is not finite becomes "NaN", "Infinity" or "-Infinity"."""
        values = {field.name: _standard(getattr(self, field.name)) for field in fields(self)}
        return json.dumps(values, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Row":
        """The row that `to_json` wrote.

        Raises:
            DamagedResult: The text is not JSON, a key is missing or unknown, or a value is of another kind.
        """
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, each['loc'])) or 'the text'}: {each['msg']}" for each in error.errors()]
            raise DamagedResult("; ".join(problems)) from None


_ADAPTER = TypeAdapter(Row)


def _standard(value: Any) -> Any:
    """JSON has no numbers that are not finite; pydantic reads these names where it expects a number."""
    if isinstance(value, Mapping):
        return {key: _standard(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_standard(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def read_rows(folder: Path) -> list[Row]:
    """Read every `*.json` file of `folder`; a folder that does not exist has no rows.

    Returns:
        The rows, sorted by condition, dataset and seed.

    Raises:
        DamagedResult: A file is not a row, or two files are the same run.
    """
    found: dict[tuple[str, str, int], tuple[Row, Path]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            row = Row.from_json(path.read_bytes())
        except DamagedResult as error:
            raise DamagedResult(f"{path} is damaged ({error}); delete it, and the study runs that one again") from None
        if row.key in found:
            raise DamagedResult(f"{path} and {found[row.key][1]} are both the run {row.key}; delete one of them")
        found[row.key] = row, path
    return [found[key][0] for key in sorted(found)]


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as a table, without their histories: one row a run, sorted by dataset, condition and seed.

    Keys of the configuration and of the environment become columns only where runs differ in them.
    """
    metrics = sorted({name for row in rows for name in row.metrics})
    _, config = split_shared([row.config for row in rows])
    _, environment = split_shared([row.environment for row in rows])
    table = []
    for row in sorted(rows, key=lambda row: (row.dataset, row.condition, row.seed)):
        columns: dict[str, Any] = {
            "study": row.study,
            "dataset": row.dataset,
            "condition": row.condition,
            "seed": row.seed,
            "outcome": row.outcome,
            **{name: row.metrics.get(name, "") for name in metrics},
            "epochs": row.epochs,
            "seconds": row.seconds,
            "guessing": row.guessing,
            "run_id": row.run_id,
            "machine": row.machine,
            "threads": row.threads,
            **{f"config.{key}": _cell(row.config.get(key, "")) for key in config if key not in _FIELDS},
            **{f"environment.{key}": row.environment.get(key, "") for key in environment},
            "reason": row.reason,
        }
        table.append(columns)
    _write_table(table, path)


def write_diagnostics(rows: Sequence[Row], metrics: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Write the last diagnostics of each run, one row for each run, in the order of `write_csv`.

    Diagnostics are made when there is time for them, so repeating a run may give those of another epoch.

    Args:
        rows: The runs.
        metrics: The metrics of each run in the tracking store, by its id; runs without an entry are left out.
        path: The file.
    """
    seen = {id: {k: v for k, v in found.items() if k.startswith("within/")} for id, found in metrics.items()}
    keys = sorted({key for row in rows for key in seen.get(row.run_id, {})})
    table = [
        {"dataset": row.dataset, "condition": row.condition, "seed": row.seed, "run_id": row.run_id}
        | {key.removeprefix("within/"): seen[row.run_id].get(key, "") for key in keys}
        for row in sorted(rows, key=lambda row: (row.dataset, row.condition, row.seed))
        if seen.get(row.run_id)
    ]
    _write_table(table, path)


def _write_table(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    text = io.StringIO()
    if table:
        writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safely(path, text.getvalue().encode())


def split_shared(mappings: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """What all mappings share, and the keys in which they differ, each in order of the keys.

    Example:
    >>> split_shared([{"units": 8, "seed": 0}, {"units": 8, "seed": 1}])
    ({'units': 8}, ['seed'])
    """
    keys = sorted({key for mapping in mappings for key in mapping})
    values = {key: {_cell(mapping.get(key, "")) for mapping in mappings} for key in keys}
    everywhere = {key for key in keys if all(key in mapping for mapping in mappings) and len(values[key]) == 1}
    return {key: mappings[0][key] for key in keys if key in everywhere}, [k for k in keys if k not in everywhere]


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
