"""Reads and checks the configuration of a run.

Every value has a default, so a file or a command line only has to give what differs from it:

>>> config = load(overrides=["model.units=8", "model.activation=leaky_relu(0.33)", "optimizer.clipnorm=none"])
>>> config.model.units, config.optimizer.clipnorm
(8, None)
>>> config.flat()["model.activation"], config.flat()["dataset.name"]
('leaky_relu(0.33)', 'japanese_vowels')
>>> load(overrides=["model.unit=8"])
Traceback (most recent call last):
training.config.validate.ConfigError: unknown config key 'model.unit'; did you mean 'model.units'? ...
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator

from training import datasets
from training.config.experiment import default_experiment
from training.config.schema import (
    COLUMN_KEYS,
    DatasetSection,
    OptimizerSection,
    Section,
    TrainSection,
    model_section,
)
from training.datasets.store.portable import where_prepared
from training.datasets.targets import NO_TARGETS, TARGETS
from zoo.signatures import builders
from zoo.suggest import unknown

NAMED_CONFIGS = Path(__file__).parents[1] / "configs"


class ConfigError(ValueError):
    """A configuration that cannot be run.

    The message names the key, the value and what is valid.
    """

    exit_code = 2


class Config(Section):
    """One run.

    Attributes:
        seed: Seed for Python, NumPy, Keras, the validation split and the order of the data.
        experiment: The MLflow experiment of the run, as its name or as "id:" and its id. Default:
            `MLFLOW_EXPERIMENT_NAME`, else `MLFLOW_EXPERIMENT_ID`, else "sequence-zoo".
        study: A tag by which runs are grouped in the MLflow UI, or `None`.
        condition: Label of what the study varies; also a tag.
        dataset: See `DatasetSection`.
        model: A model of `zoo models` and the arguments of its builder.
        optimizer: See `OptimizerSection`.
        train: See `TrainSection`.
    """

    seed: int = Field(default=0, ge=0, lt=2**31)
    experiment: str = Field(default_factory=default_experiment)
    study: str | None = None
    condition: str | None = None
    dataset: DatasetSection = DatasetSection()
    model: Any = Field(default_factory=lambda: model_section("lstm")())
    optimizer: OptimizerSection = OptimizerSection()
    train: TrainSection = TrainSection()

    @field_validator("model", mode="before")
    @classmethod
    def _of_builder(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            name = value.get("name", "lstm")
            if not _is_model(name):
                raise ValueError(unknown("model", name, builders()))
            return model_section(name)(**value)
        if not isinstance(value, Section):
            raise ValueError("write a section: model.name=..., model.units=...")
        return value

    def flat(self) -> dict[str, Any]:
        """Dotted keys with plain values, in the form of MLflow's parameters."""
        rows: dict[str, Any] = {}
        for key, value in self:
            if isinstance(value, BaseModel):
                rows.update({f"{key}.{inner}": inner_value for inner, inner_value in value})
            else:
                rows[key] = value
        return rows

    def model_arguments(self) -> dict[str, Any]:
        """The arguments of the model's builder."""
        return {key: value for key, value in self.model if key not in ("name", "embedding")}


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration and check it without building its model.

    `training.train.check_model` checks the rest. Loading has no side effects: no thread or device is set and no model
    is built, and Keras is imported only to check a value that Keras defines, such as an activation.

    Args:
        path: A TOML file, or the name of one in `training/configs/`; `None` starts from the defaults.
        overrides: `key=value` pairs with dotted keys; a value is TOML (`8`, `0.5`, `true`, `"text"`), a bare word
            is text, and `none` means no value.

    Raises:
        ConfigError: The file cannot be read, or a key or value is not valid.
        Unanswered: The user's own data does not determine what to predict, and no key of the configuration does.
    """
    values = _read(path) if path is not None else {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"{override!r} is not understood; write key=value, such as model.units=64")
        _set(values, key.strip(), _value(text.strip()))
    config = parse(values)
    if config.dataset.path is not None:
        from training.datasets.own import refuse_doubts

        refuse_doubts(find_dataset(config.dataset))
    return config


def parse(values: Mapping[str, Any]) -> Config:
    """Make a `Config` from nested plain values, and check it as `load` does.

    Raises:
        ConfigError: Something is wrong; the message has one sentence for each problem.
        ValueError: The user's own data cannot be used; the error has an `exit_code`.
    """
    if problems := _unknown_keys(values):
        raise ConfigError("; ".join(problems))
    try:
        config = Config(**_without_none(values))
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(problem) for problem in error.errors())) from None
    _check_training(config.optimizer, config.train)
    section = config.dataset
    with where_prepared(section.name):
        spec = find_dataset(section).spec
    _check_keys(section, spec)
    if config.train.label_smoothing and TARGETS[spec.task].are_numbers:
        raise ConfigError(
            f"config key 'train.label_smoothing' spreads labels over classes; a {spec.task} has none: leave it at 0; "
            f"received {config.train.label_smoothing!r} for {spec.name}"
        )
    return config


def find_dataset(section: DatasetSection) -> datasets.Dataset:
    """Find the dataset that a configuration names; errors are those of `datasets.find`."""
    if section.path is None:
        return datasets.find(section.name)
    from training.datasets.own import Answers

    columns = {key: tuple(getattr(section, key)) for key in COLUMN_KEYS}
    return datasets.find(
        section.name,
        section.path,
        task=section.task,
        horizon=section.horizon,
        window=section.window,
        answers=Answers(**columns, layout=section.layout),
    )


def _check_training(section: OptimizerSection, train: TrainSection) -> None:
    """Reject keys that contradict each other.

    Raises:
        ConfigError: Two keys contradict each other.
    """
    name, falls = section.name, section.schedule != "constant"
    for key, impossible, what in (
        ("momentum", section.momentum and name not in ("sgd", "rmsprop"), f"is for sgd and rmsprop, not for {name}"),
        ("weight_decay", not section.weight_decay and name == "adamw", "must be more than 0 for adamw; or choose adam"),
        (
            "clipvalue",
            section.clipvalue is not None and section.clipnorm is not None,
            f"needs optimizer.clipnorm=none, since only one of them can cut; clipnorm is {section.clipnorm!r}",
        ),
        (
            "warmup_epochs",
            section.warmup_epochs >= train.epochs,
            f"must be less than train.epochs, which is {train.epochs!r}",
        ),
        (
            "final_share",
            section.final_share is not None and not falls,
            "needs a learning rate that falls: optimizer.schedule=cosine, linear or exponential",
        ),
        (
            "final_share",
            section.final_share == 0 and section.schedule == "exponential",
            "must be more than 0 for an exponential schedule, which never reaches 0",
        ),
    ):
        if impossible:
            raise ConfigError(f"config key 'optimizer.{key}' {what}; received {getattr(section, key)!r}")


def _check_keys(section: DatasetSection, spec: datasets.Spec) -> None:
    """Reject keys that this dataset does not use.

    Raises:
        ConfigError: The dataset does not use a key that is set.
    """
    targets = TARGETS[spec.task]
    forecast = section.path is not None and targets.has_horizon
    running_text = targets is NO_TARGETS
    for key, useful, what in (
        ("task", section.path is not None, "is for data of your own, named by dataset.path"),
        ("horizon", section.path is not None, "is for data of your own, named by dataset.path"),
        *((key, section.path is not None, "is for data of your own, named by dataset.path") for key in COLUMN_KEYS),
        ("layout", section.path is not None, "is for data of your own, named by dataset.path"),
        ("window", running_text or forecast, "is for language models, and for forecasts of data of your own"),
        ("class_weights", targets.has_classes, f"weighs classes; a {spec.task} has none"),
        ("augment", not spec.text, "changes values, and text has none"),
        (
            "max_length",
            targets is not NO_TARGETS,
            "crops sequences; a language model reads all of the text, window by window",
        ),
    ):
        value = getattr(section, key)
        if value and not useful:
            raise ConfigError(f"config key 'dataset.{key}' {what}; received {value!r} for {spec.name}")


def _read(path: str | Path) -> dict[str, Any]:
    named = NAMED_CONFIGS / f"{path}.toml"
    file = named if named.is_file() else Path(path)
    if not file.is_file():
        names = [found.stem for found in NAMED_CONFIGS.glob("*.toml")]
        raise ConfigError(f"no file at {str(path)!r}, and {unknown('named configuration', str(path), names)}")
    try:
        return tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"unknown config key {key!r}: {section!r} is a value, not a section")
    values[last] = value


def _without_none(value: Any) -> Any:
    """Replace the word none by `None`, in files and on the command line, because TOML has no null."""
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items()}
    return None if isinstance(value, str) and value.lower() == "none" else value


# === Unknown keys ===


def _unknown_keys(values: Mapping[str, Any]) -> list[str]:
    """A sentence for each unknown key; the keys of an unknown model are not checked."""
    model = values.get("model")
    name = model.get("name", "lstm") if isinstance(model, Mapping) else "lstm"
    keys = _keys(name)
    sections = {key.partition(".")[0] for key in keys if "." in key}
    problems = []
    for key, value in values.items():
        if key in sections and not isinstance(value, Mapping | Section):
            problems.append(f"config key {key!r} is a section: write {_first(keys, key)}=...; received {value!r}")
            continue
        inner = [f"{key}.{part}" for part in value] if isinstance(value, Mapping) else [key]
        judged = key != "model" or _is_model(name)
        problems += [_unknown_key(each, keys) for each in inner if judged and each not in keys and key not in keys]
        if isinstance(value, Mapping) and key in keys:
            problems.append(f"config key {key!r} is a value, not a section; received {dict(value)!r}")
    return problems


def _is_model(name: Any) -> bool:
    return isinstance(name, str) and name in builders()


def _first(keys: Sequence[str], section: str) -> str:
    return next(key for key in keys if key.startswith(f"{section}."))


def _keys(model: Any) -> list[str]:
    """Every key of a configuration for the model called `model`, with its section."""
    section = model_section(model if _is_model(model) else "lstm")
    fields: dict[str, Any] = dict(Config.model_fields)
    keys = []
    for key, field in fields.items():
        made = section if key == "model" else field.annotation
        inner = made.model_fields if isinstance(made, type) and issubclass(made, Section) else None
        keys += [key] if inner is None else [f"{key}.{part}" for part in inner]
    return keys


def _unknown_key(key: str, keys: Sequence[str]) -> str:
    """Suggest keys, first those of the same name in another section."""
    _, _, last = key.rpartition(".")
    likely = [valid for valid in keys if valid.rpartition(".")[2] == last]
    spelt_alike = difflib.get_close_matches(last, [valid.rpartition(".")[2] for valid in keys], n=2, cutoff=0.75)
    likely += [valid for valid in keys if valid.rpartition(".")[2] in spelt_alike and not likely]
    section = [valid for valid in keys if valid.partition(".")[0] == key.partition(".")[0]]
    return unknown("config key", key, section or keys, likely)


def _sentence(problem: Any) -> str:
    key, received = ".".join(str(part) for part in problem["loc"]), problem["input"]
    if key == "model" and isinstance(received, Mapping):
        key, received = "model.name", received.get("name")
    message = problem["msg"].removeprefix("Value error, ")
    return f"config key {key!r}: {message[0].lower()}{message[1:]}; received {received!r}"
