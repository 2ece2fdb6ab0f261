"""What a served model promises: its task, its names, and what every tensor means."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import keras

from zoo.models.inputs import Kind

LABELLED = ("classification", "labelling", "language_model")


class ExportError(RuntimeError):
    """The model cannot be exported, or what was written does not equal it."""

    exit_code = 1


class Outputs(enum.Enum):
    """The kind of numbers that a classifier puts out for its classes."""

    LOGITS = "logits"
    DISTRIBUTION = "probabilities of classes that exclude each other, which sum to 1"
    INDEPENDENT = "a probability of each class by itself"


@dataclass(frozen=True)
class Contract:
    """The task of a model, checked against the model.

    Attributes:
        kind: One of `zoo.models.inputs.Kind`.
        channels: Values a step; 1 for text.
        names: Names of the classes (of a language model, its tokens) in the order of the logits, or of the numbers.
        horizon: How many steps a forecast looks ahead; 1 for other tasks.
        vocabulary: Text of each token where steps are tokens, else `None`.
        tokens: "words" or "characters" where steps are tokens, else `None`.
        outputs: Kind of numbers that a classifier puts out, as `zoo.export.last_layer.outputs_of` finds it.
    """

    kind: Kind
    channels: int
    names: tuple[str, ...]
    horizon: int = 1
    vocabulary: tuple[str, ...] | None = None
    tokens: str | None = None
    outputs: Outputs = Outputs.LOGITS

    @property
    def labelled(self) -> bool:
        """Whether the answers are classes, not numbers."""
        return self.kind in LABELLED

    @property
    def each_step(self) -> bool:
        """Whether there is an answer for every step, not one a sequence."""
        return self.kind in ("labelling", "language_model")

    @property
    def text(self) -> bool:
        """Whether steps are tokens, so that the server is sent strings."""
        return self.vocabulary is not None

    @property
    def value(self) -> str:
        """The output that two runs of the model are compared by."""
        return "probabilities" if self.labelled else "predictions"

    @property
    def shape(self) -> tuple[int | None, ...]:
        """What the model gives, `None` for axes that vary."""
        steps = {"labelling": (None,), "language_model": (None,), "forecasting": (self.horizon,)}
        return (None, *steps.get(self.kind, ()), len(self.names))


def contract(model: keras.Model, task: Mapping[str, Any]) -> Contract:
    """The contract of `model`, trained for `task`.

    Args:
        model: With the inputs `features` and `lengths` of `zoo.models`.
        task: What a run keeps as `task.json`: `kind`; `classes` or `outputs` (their names); `horizon`; `vocabulary`,
            and `tokens`, "words" or "characters". Without `tokens`, a vocabulary of single characters is one of
            characters.

    Raises:
        ExportError: The task does not say enough, or not what the model does.

    Example:
    >>> from zoo.models import SequenceTask, build
    >>> model = build("lstm", SequenceTask(channels=3, classes=2), units=4)
    >>> contract(model, {"classes": ["no", "yes"]}).shape
    (None, 2)
    """
    inputs = {tensor.name: tensor for tensor in getattr(model, "inputs", None) or []}
    if set(inputs) != {"features", "lengths"}:
        raise ExportError(f"export takes models with the inputs `features` and `lengths`; this one has {list(inputs)}")
    if inputs["features"].shape[0] is not None:
        raise ExportError(
            f"the model keeps states between batches of {inputs['features'].shape[0]} rows, and a server's rows come "
            "from different clients: build it without `stateful_batch` and give it the same weights"
        )
    kind, text = task.get("kind", "classification"), len(inputs["features"].shape) == 2
    if kind not in get_args(Kind):
        raise ExportError(f"the task is of kind {kind!r}, expected one of {', '.join(get_args(Kind))}")
    vocabulary = tuple(task.get("vocabulary") or ()) if text else None
    made = Contract(
        kind=kind,
        channels=1 if text else int(inputs["features"].shape[-1]),
        names=_names(kind, task, vocabulary),
        horizon=int(task.get("horizon") or 1) if kind == "forecasting" else 1,
        vocabulary=vocabulary,
        tokens=_tokens(task, vocabulary),
    )
    _check(model, made)
    return made


def _names(kind: str, task: Mapping[str, Any], vocabulary: tuple[str, ...] | None) -> tuple[str, ...]:
    if kind == "language_model":
        return vocabulary or ()
    return tuple(task.get("classes" if kind in LABELLED else "outputs") or ())


def _tokens(task: Mapping[str, Any], vocabulary: tuple[str, ...] | None) -> str | None:
    if vocabulary is None:
        return None
    single = all(len(token) == 1 for token in vocabulary[2:])
    tokens = task.get("tokens") or ("characters" if single else "words")
    if tokens not in ("words", "characters"):
        raise ExportError(f"the task's tokens are {tokens!r}, expected 'words' or 'characters'")
    return str(tokens)


def _check(model: keras.Model, made: Contract) -> None:
    outputs, names = model.output_shape[-1], list(made.names)
    if made.vocabulary is not None:
        _check_vocabulary(model, made.vocabulary)
    if len(names) != outputs or (made.kind != "language_model" and len(set(names)) != outputs):
        what = "class" if made.labelled else "output"
        raise ExportError(f"the model has {outputs} outputs, so it needs as many different {what} names; got {names}")
    if tuple(model.output_shape) != made.shape:
        raise ExportError(
            f"a {made.kind} is answered in the shape {list(made.shape)}, and the model gives "
            f"{list(model.output_shape)}: is the task the one that it was trained for?"
        )


def _check_vocabulary(model: keras.Model, vocabulary: tuple[str, ...]) -> None:
    sizes = {layer.input_dim for layer in model.layers if isinstance(layer, keras.layers.Embedding)}
    if len(set(vocabulary)) != len(vocabulary) or len(vocabulary) < 2 or sizes != {len(vocabulary)}:
        raise ExportError(
            f"the task has a vocabulary of {len(set(vocabulary))} different tokens, and the model embeds "
            f"{sorted(sizes)}: give the vocabulary that it was trained with"
        )
