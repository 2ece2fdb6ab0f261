"""What a study is: conditions x datasets x seeds, every run of it described and checked before the first one starts.

>>> study = Study(
...     "relu_for_tanh",
...     conditions={"tanh": ["model.activation=tanh"], "relu": ["model.activation=relu"]},
...     datasets=["japanese_vowels", "digits_rows"],
...     seeds=3,
... )
>>> len(study.runs()), study.runs()[1].key
(12, 'relu--japanese_vowels--0')
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from zoo.suggest import unknown

if TYPE_CHECKING:
    from training.config import Config

_Given = TypeVar("_Given")

DEFAULT_SEEDS = 5

DATASET_KEYS = ("dataset.name", "dataset.path")
# What these name is the study's to say, not a condition's.
_OWN_KEYS = {
    "seed": "the study's `seeds` (--seeds)",
    "study": "the study's `name` (--name)",
    "condition": "the condition's label",
}


class PlanError(ValueError):
    """A study that cannot be run as described; the message says all that is wrong."""

    exit_code = 2


@dataclass(frozen=True)
class Planned:
    """One run of a study.

    Attributes:
        condition: The label of what was varied.
        dataset: The label of the dataset.
        seed: Its seed.
        config: What is run.
    """

    condition: str
    dataset: str
    seed: int
    config: "Config"

    @property
    def key(self) -> str:
        """Its name in the study's folder."""
        return f"{slug(self.condition)}--{slug(self.dataset)}--{self.seed}"


@dataclass(frozen=True)
class Study:
    """A question: what do these conditions do, on these datasets?

    Overrides are `key=value` as `zoo train` takes them. They are applied in the order: configuration, `overrides`,
    the dataset's, the condition's.

    Attributes:
        name: Of its folder under `mlruns/studies/`, and the MLflow tag `study`.
        conditions: Overrides by label.
        datasets: Names; or overrides by label, where a dataset wants sizes of its own. Empty for that of the
            configuration.
        seeds: How many, from 0; or which.
        config: The configuration to start from, as `zoo train --config` takes it; `None` for the defaults.
        overrides: For all runs.
        baseline: The condition that the others are compared with; `None` for the first.
    """

    name: str
    conditions: Mapping[str, Sequence[str]]
    datasets: Mapping[str, Sequence[str]] | Sequence[str] = ()
    seeds: int | Sequence[int] = DEFAULT_SEEDS
    config: str | None = None
    overrides: Sequence[str] = ()
    baseline: str | None = None

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Every seed."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else tuple(self.seeds)

    @property
    def compared_with(self) -> str:
        """The label of the baseline."""
        return self.baseline or next(iter(self.conditions))

    def runs(self) -> list[Planned]:
        """Every run, the first seed of all conditions and datasets first, so that an unfinished study is balanced.

        Raises:
            PlanError: All that is wrong, by condition.
        """
        problems = self._problems()
        if not problems:
            cells, problems = self._cells()
        if problems:
            raise PlanError(f"study {self.name!r} cannot be run:\n" + "\n".join(f"  {line}" for line in problems))
        return [
            # Not through `load`, for which the label "none" would be nothing.
            Planned(condition, dataset, seed, config.model_copy(update={"seed": seed}))
            for seed in self.all_seeds
            for (condition, dataset), config in cells.items()
        ]

    def _problems(self) -> list[str]:
        problems = []
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", self.name):
            problems.append(f"name {self.name!r}: write letters, digits, '_', '-' and '.', as it names a folder")
        seeds = self.all_seeds
        if not seeds or any(isinstance(seed, bool) or not 0 <= seed < 2**31 for seed in seeds):
            problems.append(f"seeds {self.seeds!r}: give how many, at least 1, or a list of numbers from 0 to 2^31 - 1")
        if len(set(seeds)) != len(seeds):
            problems.append(f"seeds {self.seeds!r}: one is there twice")
        if not self.conditions:
            problems.append("conditions: there are none; give at least one label with its overrides")
        elif self.compared_with not in self.conditions:
            problems.append(unknown("baseline", self.compared_with, self.conditions))
        labelled = {"condition": self.conditions}
        if isinstance(self.datasets, Mapping):
            labelled["dataset"] = self.datasets
        for kind, group in labelled.items():
            for label, overrides in group.items():
                problems += _wrong_overrides(f"{kind} {label!r} sets", overrides, DATASET_KEYS * (kind == "condition"))
        problems += _wrong_overrides("`overrides` set", self.overrides)
        return problems + _shared_names("condition", self.conditions) + _shared_names("dataset", self.datasets)

    def _cells(self) -> "tuple[dict[tuple[str, str], Config], list[str]]":
        """The configuration of each condition on each dataset, and what is wrong with them."""
        from training.config import load
        from training.train import check_model

        datasets = self._datasets()
        overrides = {
            (condition, dataset): [*self.overrides, *where, *what]
            for (dataset, where), (condition, what) in itertools.product(datasets.items(), self.conditions.items())
        }
        # All keys before any model is built: a wrong one is said at once, without Keras.
        configs, problems = self._each(overrides, lambda texts: load(self.config, texts))
        if not problems:
            configs, problems = self._each(configs, check_model)
        cells: dict[tuple[str, str], Config] = {}
        for (condition, dataset), config in configs.items():
            label = dataset or config.dataset.path or config.dataset.name
            cells[condition, label] = config.model_copy(update={"study": self.name, "condition": condition})
        return cells, problems

    def _each(
        self, cells: "Mapping[tuple[str, str], _Given]", step: "Callable[[_Given], Config]"
    ) -> "tuple[dict[tuple[str, str], Config], list[str]]":
        """What a step makes of each condition on each dataset, and what is wrong with those that it refuses."""
        made, wrong = {}, dict[str, list[tuple[str, str]]]()
        for cell, given in cells.items():
            try:
                made[cell] = step(given)
            except Exception as error:
                if not hasattr(error, "exit_code"):
                    raise
                wrong.setdefault(str(error), []).append(cell)
        datasets = len(self._datasets())
        return made, [self._where(places, datasets) + message for message, places in wrong.items()]

    def _datasets(self) -> dict[str, Sequence[str]]:
        if isinstance(self.datasets, Mapping):
            return dict(self.datasets)
        return {name: [f"dataset.name={name}"] for name in self.datasets} or {"": []}

    def _where(self, places: Sequence[tuple[str, str]], datasets: int) -> str:
        """Where a mistake is, in as few words as can be: "condition 'relu' on 'digits_rows': "."""
        if len(places) == len(self.conditions) * datasets:
            return ""
        by_condition: dict[str, list[str]] = {}
        for condition, dataset in places:
            by_condition.setdefault(condition, []).append(dataset)
        return "".join(
            f"condition {condition!r}" + (f" on {', '.join(map(repr, those))}" if len(those) < datasets else "") + ": "
            for condition, those in by_condition.items()
        )


def slug(label: str) -> str:
    """A label as part of a file's name.

    Example:
    >>> slug("gates leaky_relu(0.1)"), slug("adding_problem/150")
    ('gates-leaky_relu-0.1', 'adding_problem-150')
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-")


def _wrong_overrides(subject: str, overrides: object, foreign: Sequence[str] = ()) -> list[str]:
    """What is wrong with overrides, of which `foreign` are keys that `datasets` should have."""
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        return [f"{subject} {overrides!r}: expected a list such as ['model.units=8']"]
    problems = []
    for override in overrides:
        key = str(override).partition("=")[0].strip()
        if key in _OWN_KEYS:
            problems.append(f"{subject} {key!r}, which is {_OWN_KEYS[key]}")
        if key in foreign:
            problems.append(f"{subject} {key!r}: put it into `datasets`, over which runs are paired")
    return problems


def _shared_names(kind: str, labels: Mapping[str, object] | Sequence[str]) -> list[str]:
    problems, seen = [], dict[str, str]()
    for label in labels:
        name = slug(label).casefold()
        if not name:
            problems.append(f"{kind} {label!r}: a label needs a letter or a digit")
        elif name in seen:
            problems.append(f"{kind}s {seen[name]!r} and {label!r} would share their files' names: rename one")
        seen[name] = label
    return problems
