"""The sections of a configuration: keys, defaults, and the values that each key accepts.

Keras is imported only to check a value that only Keras knows, so that a wrong key is reported at once.
"""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from training import datasets
from training.datasets.base import Task
from zoo.quiet import import_keras
from zoo.signatures import builders

COLUMN_KEYS = ("time", "id", "label", "target", "ignore", "static", "channels")
"""Keys of the dataset section that assign roles to the columns of the user's own data."""


class Section(BaseModel):
    """A section of the configuration: frozen, strictly typed, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DatasetSection(Section):
    """The data of a run, and how it is split and batched.

    Attributes:
        name: A dataset of `zoo datasets`; not used where there is a `path`.
        path: Data of your own: a file or folder as in docs/datasets.md, or `None`.
        validation_fraction: Share of the training split set aside for choosing the best epoch.
        batch_size: Sequences per training step.
        buckets: Sequences are padded to one of at most this many lengths.
        max_length: Crop longer sequences to this many steps; `None` keeps all.
        task: With a `path` only: what to predict, instead of what is inferred from the data.
        horizon: With a `path` only: steps to forecast.
        window: Language models: steps that gradients are propagated back, 100 where `None`. Forecasts of a `path`: the
            steps that a forecast is made from, four horizons where `None`.
        time: Columns that give the position of a row in its sequence. Like all keys up to `layout`, with a `path` only.
        id: Columns that identify the sequence of a row.
        label: The column to predict, as classes or as numbers.
        target: Columns to forecast, or numbers to predict for a sequence.
        ignore: Columns to leave out.
        static: Columns with one value for a whole sequence: an input at every step, never forecast.
        channels: Columns that are channels, although they look like something else.
        layout: "steps": one row for each step; "sequences": one row for each sequence; "channels_first": arrays
            [n, channels, steps]; inferred where `None`.
        cache: "memory" reads all data at once; "disk" maps packed data from its file, for data larger than memory.
        class_weights: Give every class the same total weight in training, however rare it is.
        augment: Augmentations of the training sequences, such as ["jitter(0.05)", "scale(0.1)"].
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
    time: list[str] = []
    id: list[str] = []
    label: list[str] = []
    target: list[str] = []
    ignore: list[str] = []
    static: list[str] = []
    channels: list[str] = []
    layout: Literal["steps", "sequences", "channels_first"] | None = None
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

    @field_validator(*COLUMN_KEYS, mode="before")
    @classmethod
    def _separated(cls, names: Any) -> Any:
        return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names or []

    @field_validator("augment")
    @classmethod
    def _augmentations(cls, names: list[str]) -> list[str]:
        from training.batches import augmentation

        for name in names:
            augmentation.get(name)
        return names


class OptimizerSection(Section):
    """The optimizer and its learning-rate schedule.

    Attributes:
        name: "adam", "adamw" (requires a `weight_decay`), "rmsprop" or "sgd".
        learning_rate: Step size, the largest where there is a schedule.
        momentum: Share of the last step that is added to the next; for sgd and rmsprop only.
        clipnorm: Largest norm of the whole gradient, which is scaled down to it; `None` does not clip.
        clipvalue: Largest absolute value of each entry of the gradient; needs `clipnorm=none`.
        weight_decay: Share of a weight that a step subtracts, times the learning rate. It applies to matrices only,
            not to biases or the scales of normalisations.
        schedule: How the learning rate falls from the end of the warm-up to the end of `train.epochs`.
        warmup_epochs: Epochs over which the learning rate rises linearly from almost 0; fractions are allowed.
        final_share: The final learning rate as a share of the largest; 0.01 where `None`. Not for "constant".
    """

    name: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    learning_rate: float = Field(default=2e-3, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    clipnorm: float | None = Field(default=1.0, gt=0)
    clipvalue: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine", "linear", "exponential"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0)
    final_share: float | None = Field(default=None, ge=0, lt=1)


class TrainSection(Section):
    """How long a run trains, and how it computes.

    Attributes:
        epochs: The largest number of epochs.
        patience: Epochs without a better validation loss before training stops; `None` never stops early.
        jit_compile: Compile the step: by XLA on TensorFlow, by torch.compile on torch; on JAX it always is.
        precision: The precision of the layers: "float32", or 16 bits with weights kept in float32.
        label_smoothing: Share of every label that the loss spreads over all classes; for classes only.
        threads: Threads that the run may use; `None` keeps the default of the backend.
        device: "cpu", "gpu" (the first one), "gpu:1"; "auto" uses a GPU where the backend finds one.
        distribution: "data" trains on all devices of the host, or of several hosts; `None` uses one device.
    """

    epochs: int = Field(default=100, ge=1)
    patience: int | None = Field(default=25, ge=1)
    jit_compile: bool = False
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    threads: int | None = Field(default=None, ge=1)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|gpu(:\d+)?)$")
    distribution: Literal["data"] | None = None


def _check_activation(value: str | None) -> str | None:
    if value is not None:
        import_keras(find_devices=False)  # quietly: this check may be the first to import Keras
        from zoo import activations

        activations.get(value)
    return value


@cache
def model_section(name: str) -> type[Section]:
    """The section of the model called `name`, derived from its builder's signature.

    This way every default is written in one place only.
    """
    # A section key and not a builder argument: with text, every model begins with an embedding.
    fields: dict[str, Any] = {"name": (Literal[name], name), "embedding": (Annotated[int, Field(ge=1)], 64)}
    checked = []
    for key, argument in builders()[name].arguments.items():
        fields[key] = (argument.annotation, argument.default)
        checked += [key] if key.endswith("activation") else []
    validators: dict[str, Any] = {"_activations": field_validator(*checked)(_check_activation)} if checked else {}
    return create_model(f"{name}_section", __base__=Section, __validators__=validators, **fields)
