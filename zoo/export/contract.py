"""The contract of a served model: its task, the names of its outputs, and the meaning of its tensors."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import keras

from zoo.models.inputs import Kind

LABELLED = ("classification", "labelling", "language_model")


class ExportError(RuntimeError):
    """The model cannot be exported, or the written model differs from it."""

    exit_code = 1


class Outputs(enum.Enum):
    """The kind of numbers in the outputs of a classifier."""

    LOGITS = "logits"
    DISTRIBUTION = "probabilities of classes that exclude each other, which sum to 1"
    INDEPENDENT = "a probability of each class by itself"


@dataclass(frozen=True)
class Contract:
    """The task of a model, checked against the model.

    Attributes:
        kind: Kind of task.
        channels: Number of values for each step; 1 for text.
        names: Names of the classes, or of a language model's tokens, in the order of the logits; or of the numbers.
        horizon: Number of forecast steps; 1 for other tasks.
        vocabulary: Text of each token if steps are tokens, else `None`.
        tokens: "words" or "characters" if steps are tokens, else `None`.
        outputs: Kind of numbers in a classifier's outputs, from `zoo.export.last_layer.outputs_of`.
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
        """Whether there is an answer for every step, not one for a sequence."""
        return self.kind in ("labelling", "language_model")

    @property
    def text(self) -> bool:
        """Whether steps are tokens, so that the server receives strings."""
        return self.vocabulary is not None

    @property
    def value(self) -> str:
        """The output by which two runs of the model are compared."""
        return "probabilities" if self.labelled else "predictions"

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of the model's output, with `None` for axes that vary."""
        steps = {"labelling": (None,), "language_model": (None,), "forecasting": (self.horizon,)}
        return (None, *steps.get(self.kind, ()), len(self.names))


def contract(model: keras.Model, task: Mapping[str, Any]) -> Contract:
    """The contract of `model`, trained for `task`.

    Args:
        model: A model with the inputs `features` and `lengths` of `zoo.models`.
        task: The task, as in the `task.json` of a run: `kind`; `classes` or `outputs` (their names); `horizon`;
            `vocabulary`, and `tokens`, "words" or "characters". Without `tokens`, a vocabulary of single characters
            means characters.

    Raises:
        ExportError: The task is incomplete, or does not fit the model.

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
        raise ExportError(
            f"the model has {outputs} outputs, so it needs as many different {what} names; received {names}"
        )
    if tuple(model.output_shape) != made.shape:
        raise ExportError(
            f"the answers to a {made.kind} have the shape {list(made.shape)}, and those of the model "
            f"{list(model.output_shape)}: is the task the one that it was trained for?"
        )


def _check_vocabulary(model: keras.Model, vocabulary: tuple[str, ...]) -> None:
    sizes = {layer.input_dim for layer in model.layers if isinstance(layer, keras.layers.Embedding)}
    if len(set(vocabulary)) != len(vocabulary) or len(vocabulary) < 2 or sizes != {len(vocabulary)}:
        raise ExportError(
            f"the task has a vocabulary of {len(set(vocabulary))} different tokens, and the model embeds "
            f"{sorted(sizes)}: pass the vocabulary that it was trained with"
        )
