"""A study as a person asks for it: a Python file, or what varies on a command line."""

import itertools
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from training.study.design import DATASET_KEYS, DEFAULT_SEEDS, PlanError, Study
from zoo.suggest import unknown

NAMED_STUDIES = Path(__file__).parents[1] / "studies"


def read_study(path: str) -> Study:
    """The `STUDY` of a Python file, or of one of those in `training/studies/` by name.

    Raises:
        PlanError: There is no such file, it raises, or it defines no `STUDY`.
    """
    named = NAMED_STUDIES / f"{path}.py"
    file = named if named.is_file() else Path(path)
    if not file.is_file():
        names = [found.stem for found in NAMED_STUDIES.glob("*.py")]
        raise PlanError(
            f"no file at {path!r}, and {unknown('named study', path, names)}. What varies can also be given as "
            "--activation tanh,relu or model.units=32,64"
        )
    try:
        found = runpy.run_path(str(file)).get("STUDY")
    except (Exception, SystemExit) as error:
        raise PlanError(f"{file} raised {type(error).__name__}: {error}") from error
    if not isinstance(found, Study):
        raise PlanError(f"{file} has {found!r} as STUDY: write `STUDY = training.study.Study(name, conditions, ...)`")
    return found


def overridden(study: Study, overrides: Sequence[str]) -> Study:
    """The study with `key=value` pairs of a command line, which win over what it says for all runs or for a dataset.

    Args:
        study: From a file.
        overrides: As `zoo train` takes them.

    Raises:
        PlanError: A pair sets what tells the conditions or the datasets of the study apart; the message names it.

    Example:
    >>> study = Study("s", {"tanh": [], "relu": ["model.activation=relu"]}, {"a": ["train.epochs=300"]})
    >>> overridden(study, ["train.epochs=2"]).datasets
    {'a': ['train.epochs=300', 'train.epochs=2']}
    >>> overridden(study, ["model.activation=elu"])
    Traceback (most recent call last):
    training.study.design.PlanError: model.activation=elu: study 's' varies model.activation between its conditions...
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if any(_touch(key, theirs) for theirs in _keys(study.conditions)):
            raise PlanError(
                f"{override}: study {study.name!r} varies {key} between its conditions, so it cannot be the same for "
                "all of them. Leave it out, or copy the study's file and change it there"
            )
        if study.datasets and any(_touch(key, theirs) for theirs in DATASET_KEYS):
            raise PlanError(
                f"{override}: study {study.name!r} says itself on which datasets it runs. Leave it out, or copy the "
                "study's file and change it there"
            )
    datasets = study.datasets
    if isinstance(datasets, Mapping):
        # After those of the dataset, of which the last one wins.
        datasets = {label: [*theirs, *overrides] for label, theirs in datasets.items()}
    return replace(study, overrides=[*study.overrides, *overrides], datasets=datasets)


def _keys(groups: Mapping[str, Sequence[str]]) -> set[str]:
    return {text.partition("=")[0].strip() for group in groups.values() for text in group}


def _touch(key: str, other: str) -> bool:
    """Whether setting the one changes the other: they are equal, or one is the other's section."""
    return key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")


def alternatives(text: str) -> list[str]:
    """What a comma separates, outside of brackets and quotes.

    Example:
    >>> alternatives("tanh,leaky_relu(0.1),rrelu(0.1, 0.3)"), alternatives('["jitter(0.05)", "scale(0.1)"]')
    (['tanh', 'leaky_relu(0.1)', 'rrelu(0.1, 0.3)'], ['["jitter(0.05)", "scale(0.1)"]'])
    """
    parts, depth, quote = [""], 0, ""
    for symbol in text:
        if quote:
            quote = "" if symbol == quote else quote
        elif symbol in "\"'":
            quote = symbol
        else:
            depth += (symbol in "([{") - (symbol in ")]}")
        if symbol == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += symbol
    return [part.strip() for part in parts]


def grid(
    given: Sequence[str],
    seeds: int | Sequence[int] = DEFAULT_SEEDS,
    name: str | None = None,
    config: str | None = None,
    baseline: str | None = None,
) -> Study:
    """The study of `key=value,value,...`: every combination is a condition, and one value alone is for all runs.

    Args:
        given: As on a command line; `dataset.name` says on which datasets.
        seeds: As in `Study`.
        name: As in `Study`; made of what varies where `None`.
        config: As in `Study`.
        baseline: As in `Study`.

    Raises:
        PlanError: A key is given twice, or a value is empty.

    Example:
    >>> study = grid(["model.activation=tanh,relu", "dataset.name=digits_rows", "train.epochs=2"])
    >>> study.name, list(study.conditions.items())[1], study.datasets, study.overrides
    ('activation', ('relu', ['model.activation=relu']), ['digits_rows'], ['train.epochs=2'])
    >>> list(grid(["model.activation=tanh,relu", "model.units=8,16"]).conditions)[1]
    'activation=tanh, units=16'
    """
    values: dict[str, list[str]] = {}
    for text in given:
        key, equals, choices = text.partition("=")
        key = key.strip()
        if not equals or not all(alternatives(choices)):
            raise PlanError(f"{text!r} is not understood; write key=value, or key=value,value,... for what varies")
        if key in values:
            raise PlanError(f"{key} is given twice: write {key}=" + ",".join([*values[key], *alternatives(choices)]))
        if key == "seed":
            raise PlanError(f"{text!r}: seeds are given as --seeds 5, or --seeds 0,3,7")
        if key == "study":
            raise PlanError(f"{text!r}: the name of a study is given as --name")
        values[key] = alternatives(choices)
    datasets = values.pop("dataset.name", [])
    axes = {key: choices for key, choices in values.items() if len(choices) > 1}
    conditions = {}
    for chosen in itertools.product(*axes.values()):
        setting = dict(zip(axes, chosen, strict=True))
        conditions[_label(setting)] = [f"{key}={value}" for key, value in setting.items()]
    shared = [f"{key}={choices[0]}" for key, choices in values.items() if key not in axes]
    made = "-".join(_short(key) for key in axes) or "seeds"
    return Study(name or made, conditions, datasets, seeds, config, shared, baseline)


def _label(setting: Mapping[str, str]) -> str:
    if len(setting) == 1 and next(iter(setting)) in ("model.activation", "model.name"):
        return next(iter(setting.values()))
    return ", ".join(f"{_short(key)}={value}" for key, value in setting.items()) or "as configured"


def _short(key: str) -> str:
    section, _, name = key.partition(".")
    return section if name in ("", "name") else name
