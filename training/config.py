"""The one description of a run: what the file, the command line and MLflow's parameters all hold.

A run is described by sections; every value has a default, so that a file or a command line says only what differs:

>>> config = load(overrides=["model.units=8", "model.activation=leaky_relu(0.33)", "optimizer.clipnorm=none"])
>>> config.model.units, config.optimizer.clipnorm
(8, None)
>>> config.flat()["model.activation"], config.flat()["dataset.name"]
('leaky_relu(0.33)', 'japanese_vowels')
>>> load(overrides=["model.unit=8"])
Traceback (most recent call last):
training.config.ConfigError: unknown config key 'model.unit'; did you mean 'model.units'? ...
"""

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator

from training import augmentation, datasets
from training.datasets.base import Task
from training.tasks import model_task
from zoo import activations
from zoo.models import MODELS, build, builder
from zoo.suggest import unknown

NAMED_CONFIGS = Path(__file__).parent / "configs"


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the key, the value and what is valid."""

    exit_code = 2


class Section(BaseModel):
    """A part of the configuration: frozen, and nothing in it is guessed or ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatasetSection(Section):
    """Which data, and how it is cut and batched.

    Attributes:
        name: A dataset of `zoo datasets`; not used where there is a `path`.
        path: Data of your own: a file or folder as in docs/datasets.md, or `None`.
        validation_fraction: Share of the training split kept aside for choosing.
        batch_size: Sequences a training step.
        buckets: Sequences are padded to one of at most this many lengths.
        max_length: Crop longer sequences to this many steps; `None` keeps all.
        task: Of `path` only: what to predict, where the data should not decide.
        horizon: Of `path` only: steps to forecast.
        window: Language models: steps over which gradients go back, 100 where `None`. A forecast of `path`: the steps
            that it is made from, four horizons where `None`.
        cache: "memory" reads all data at once; "disk" leaves what is kept packed in its file, for data larger than
            memory.
        class_weights: Let every class weigh the same in training, however rare it is.
        augment: Changes to the training sequences, such as ["jitter(0.05)", "scale(0.1)"].
    """

    name: str = "japanese_vowels"
    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    batch_size: int = Field(default=16, ge=1)
    buckets: int = Field(default=4, ge=1)
    max_length: int | None = Field(default=None, ge=1)
    path: str | None = None
    task: Task | None = None
    horizon: int | None = Field(default=None, ge=1)
    window: int | None = Field(default=None, ge=1)
    cache: Literal["memory", "disk"] = "memory"
    class_weights: bool = False
    augment: list[str] = []

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            datasets.get(name)
        except datasets.UnknownDataset as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("augment")
    @classmethod
    def _augmentations(cls, names: list[str]) -> list[str]:
        for name in names:
            augmentation.get(name)
        return names


class OptimizerSection(Section):
    """How weights are updated.

    Attributes:
        name: "adam", "rmsprop" or "sgd".
        learning_rate: Step size.
        clipnorm: Scale the whole gradient down to this norm where it is larger; `None` leaves it.
    """

    name: Literal["adam", "rmsprop", "sgd"] = "adam"
    learning_rate: float = Field(default=2e-3, gt=0)
    clipnorm: float | None = Field(default=1.0, gt=0)


class TrainSection(Section):
    """How long training goes on.

    Attributes:
        epochs: At most this many.
        patience: Stop after so many epochs without a better validation loss; `None` never stops early.
        jit_compile: Compile the step with XLA; on JAX that is always done.
    """

    epochs: int = Field(default=100, ge=1)
    patience: int | None = Field(default=25, ge=1)
    jit_compile: bool = False


def _check_activation(value: str | None) -> str | None:
    if value is not None:
        activations.get(value)
    return value


@cache
def model_section(name: str) -> type[Section]:
    """The section of the model called `name`, made from its builder's signature: one place for every default."""
    # Text begins with an embedding, whatever the model.
    fields: dict[str, Any] = {"name": (Literal[name], name), "embedding": (Annotated[int, Field(ge=1)], 64)}
    checked = []
    for key, parameter in inspect.signature(builder(name)).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            fields[key] = (parameter.annotation, parameter.default)
            checked += [key] if key.endswith("activation") else []
    validators: dict[str, Any] = {"_activations": field_validator(*checked)(_check_activation)} if checked else {}
    return create_model(f"{name}_section", __base__=Section, __validators__=validators, **fields)


class Config(Section):
    """One run.

    Attributes:
        seed: Of Python, NumPy, Keras, the validation split and the order of the data.
        experiment: The MLflow experiment that the run belongs to.
        study: A tag by which runs are grouped in the MLflow UI, or `None`.
        dataset: See `DatasetSection`.
        model: A model of `zoo models` and the arguments of its builder.
        optimizer: See `OptimizerSection`.
        train: See `TrainSection`.
    """

    seed: int = Field(default=0, ge=0, lt=2**31)
    experiment: str = "sequence-zoo"
    study: str | None = None
    dataset: DatasetSection = DatasetSection()
    model: Any = Field(default_factory=lambda: model_section("lstm")())
    optimizer: OptimizerSection = OptimizerSection()
    train: TrainSection = TrainSection()

    @field_validator("model", mode="before")
    @classmethod
    def _of_builder(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            name = value.get("name", "lstm")
            if name not in MODELS:
                raise ValueError(unknown("model", name, MODELS))
            return model_section(name)(**value)
        if not isinstance(value, Section):
            raise ValueError("write a section: model.name=..., model.units=...")
        return value

    def flat(self) -> dict[str, Any]:
        """Dotted keys and plain values, as MLflow's parameters show them."""
        rows: dict[str, Any] = {}
        for key, value in self:
            if isinstance(value, BaseModel):
                rows.update({f"{key}.{inner}": inner_value for inner, inner_value in value})
            else:
                rows[key] = value
        return rows

    def model_arguments(self) -> dict[str, Any]:
        """What the model's builder is called with."""
        return {key: value for key, value in self.model if key not in ("name", "embedding")}


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        path: A TOML file, or the name of one in `training/configs/`; `None` starts from the defaults.
        overrides: `key=value` pairs with dotted keys; a value is TOML (`8`, `0.5`, `true`, `"text"`), a bare word
            is text, and `none` is nothing.

    Raises:
        ConfigError: The file cannot be read, or a key or value is not valid.
    """
    values = _read(path) if path is not None else {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"{override!r} is not understood; write key=value, such as model.units=64")
        _set(values, key.strip(), _value(text.strip()))
    return validate(values)


def validate(values: Mapping[str, Any]) -> Config:
    """Make a `Config` of nested plain values.

    Raises:
        ConfigError: One sentence for everything that is wrong.
    """
    try:
        config = Config(**_without_none(values))
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(problem, values) for problem in error.errors())) from None
    section = config.dataset
    spec = find_dataset(section).spec
    _check_keys(section, spec)
    try:
        # A trial build: what a layer would refuse is refused here, before any data is read.
        build(config.model.name, model_task(spec, embedding=config.model.embedding), **config.model_arguments())
    except ValueError as error:
        raise ConfigError(f"model {config.model.name!r} refuses its arguments: {error}") from None
    return config


def find_dataset(section: DatasetSection) -> datasets.Dataset:
    """The dataset that a configuration names; raises what `datasets.find` raises."""
    return datasets.find(section.name, section.path, task=section.task, horizon=section.horizon, window=section.window)


def _check_keys(section: DatasetSection, spec: datasets.Spec) -> None:
    """Refuse keys that the dataset has no use for.

    Raises:
        ConfigError: There is such a key.
    """
    language, forecast = spec.task == "language_model", section.path is not None and spec.task == "forecasting"
    for key, useful, what in (
        ("task", section.path is not None, "is for data of your own, named by dataset.path"),
        ("horizon", section.path is not None, "is for data of your own, named by dataset.path"),
        ("window", language or forecast, "is for language models, and for forecasts of data of your own"),
        ("class_weights", spec.task in ("classification", "labelling"), f"weighs classes; a {spec.task} has none"),
        ("augment", not spec.text, "changes values, and text has none"),
        ("max_length", not language, "crops sequences; a language model reads all of the text, window by window"),
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
    """TOML has no null: the word none stands for it, in files and on the command line."""
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items()}
    return None if isinstance(value, str) and value.lower() == "none" else value


def _unknown_key(key: str, values: Mapping[str, Any]) -> str:
    name = values["model"].get("name") if isinstance(values.get("model"), Mapping) else None
    keys = list((Config(model=model_section(name)()) if name in MODELS else Config()).flat())
    section = [valid for valid in keys if valid.partition(".")[0] == key.partition(".")[0]]
    return unknown("config key", key, section or keys)


def _sentence(problem: Any, values: Mapping[str, Any]) -> str:
    key, received = ".".join(str(part) for part in problem["loc"]), problem["input"]
    if problem["type"] == "extra_forbidden":
        return _unknown_key(key, values)
    if key == "model" and isinstance(received, Mapping):
        key, received = "model.name", received.get("name")
    message = problem["msg"].removeprefix("Value error, ")
    return f"config key {key!r}: {message[0].lower()}{message[1:]}; received {received!r}"
