"""The sections of a configuration: keys, defaults, and which values each key takes by itself.

Nothing here imports Keras until a value is to be checked that only Keras knows, so that a wrong key is refused at once.
"""

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from training import datasets
from training.datasets.base import Task
from zoo.quiet import import_keras
from zoo.signatures import builders

COLUMN_KEYS = ("time", "id", "label", "target", "ignore", "static", "channels")
"""Keys of the dataset section that say which columns of a person's own data are what."""


class Section(BaseModel):
    """A part of the configuration: frozen, and nothing in it is guessed or ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
        time: Of `path` only, as all up to `layout`: columns that say where in its sequence a row stands.
        id: Columns that say which sequence a row belongs to.
        label: The column that is to be predicted, as classes or as numbers.
        target: Columns to be forecast, or numbers to be predicted of a sequence.
        ignore: Columns that are not to be used.
        static: Columns that are true of a whole sequence, given at every step and never forecast.
        channels: Columns that are channels, although they look like something else.
        layout: "steps": a row a step; "sequences": a row a sequence; "channels_first": arrays [n, channels, steps];
            inferred where `None`.
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
    """How weights are updated.

    Attributes:
        name: "adam", "adamw" (adam that must have a `weight_decay`), "rmsprop" or "sgd".
        learning_rate: Step size, the largest where there is a schedule.
        momentum: Share of the last step that goes into the next; of sgd and rmsprop.
        clipnorm: Scale the whole gradient down to this norm where it is larger; `None` leaves it.
        clipvalue: Cut every entry of the gradient to this distance from 0; needs `clipnorm=none`.
        weight_decay: Share of a weight that a step takes away, times the learning rate. Matrices only: biases and the
            scales of normalisations are left alone.
        schedule: How the learning rate falls after the warm-up, until `train.epochs` are over.
        warmup_epochs: Epochs, or a part of one, over which it rises in a line from nearly 0.
        final_share: What is left of the learning rate at the end; 0.01 where `None`. Not for "constant".
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
    """How long a run trains, and how its numbers are computed.

    Attributes:
        epochs: At most this many.
        patience: Stop after so many epochs without a better validation loss; `None` never stops early.
        jit_compile: Compile the step: by XLA on TensorFlow, by torch.compile on torch; on JAX that is always done.
        precision: What layers compute in: "float32", or 16 bits with weights kept in float32.
        label_smoothing: Share of every label spread over all classes, in the loss only; not for numbers.
        threads: Threads that the run may use; `None` leaves everything to the machine.
        device: "cpu", "gpu" (the first one), "gpu:1"; "auto" takes a GPU where the backend sees one.
        distribution: "data" trains on all devices of the host, or of several hosts; `None` on one.
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
        import_keras(find_devices=False)  # in silence; the first to import it here may be this check
        from zoo import activations

        activations.get(value)
    return value


@cache
def model_section(name: str) -> type[Section]:
    """The section of the model called `name`, made from its builder's signature: one place for every default."""
    # Text begins with an embedding, whatever the model.
    fields: dict[str, Any] = {"name": (Literal[name], name), "embedding": (Annotated[int, Field(ge=1)], 64)}
    checked = []
    for key, argument in builders()[name].arguments.items():
        fields[key] = (argument.annotation, argument.default)
        checked += [key] if key.endswith("activation") else []
    validators: dict[str, Any] = {"_activations": field_validator(*checked)(_check_activation)} if checked else {}
    return create_model(f"{name}_section", __base__=Section, __validators__=validators, **fields)
