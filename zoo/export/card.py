"""The model card: origin, inputs, outputs and use of a model, as JSON and as a page."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.export.contract import Contract
from zoo.models import fixed_steps

UNKNOWN = "unknown"

# Facts that only the caller of the export knows.
_FROM_CALLER = ("run_id", "git_commit", "git_dirty", "licence", "intended_use", "unsuitable_use", "limits")
_OF_DATA = ("name", "digest", "split", "licence", "features")

_BAD_INPUT = {
    "row": "A row with a value that is not finite, with a length outside [1, steps], with an empty text, or whose "
    'values are not whole steps is answered by NaN, class_id -1 and an empty label ("classes" keep their names). The '
    "other rows of the request are answered.",
    "request": "A wrong type, a wrong number of channels, no time step at all, or inputs with different numbers of "
    "rows fail the whole request with INVALID_ARGUMENT.",
    "piece": "A piece for stream_step that is not answered does not change the states of its row.",
}

_MEANING = {
    "features": "raw values, as the training data had them; the model normalises them itself",
    "text": "UTF-8; the model cuts it into tokens itself",
    "lengths": "valid steps of each row; later values do not matter",
    "inputs": "serialised tf.Example: FloatList `features` of steps * channels values, or BytesList `text`",
    "logits": "before softmax, or before the sigmoid of each class",
    "probabilities": "of each class",
    "class_id": "index of the largest probability",
    "label": "name of that class",
    "predictions": "in the units of the training targets",
    "classes": "the names of all classes",
    "scores": "probability of each class",
    "outputs": "in the units of the training targets",
}


def model_card(
    model: keras.Model,
    contract: Contract,
    facts: Mapping[str, Any],
    signatures: Mapping[str, Any],
    refused: Mapping[str, str],
    tolerance: float,
    metrics: Mapping[str, float],
) -> dict[str, Any]:
    """Make the model card. Facts that neither `facts` nor the model has are "unknown".

    Args:
        model: The model.
        contract: The contract of the model.
        facts: Facts from the caller, all of which are kept: `name`, `run_id`, `dataset` (a name, or a mapping with
            `name`, `digest`, `split`, `licence`, ...), `metrics`, `licence`, `limits`, `intended_use`,
            `unsuitable_use`, `git_commit`, `config`, ...
        signatures: The signatures of the loaded SavedModel.
        refused: The reason for each signature that the model cannot have.
        tolerance: Largest allowed difference from the Keras model's answers.
        metrics: Measurements made at export.
    """
    import tensorflow as tf

    data = facts.get("dataset")
    data = dict(data) if isinstance(data, Mapping) else {"name": data}
    if "split_rule" in data:
        data.setdefault("split", data.pop("split_rule"))
    known = {key: value for key, value in facts.items() if value is not None and key != "dataset"}
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}
    return {
        "name": UNKNOWN,
        "task": contract.kind,
        "model": model.name,
        "parameters": model.count_params(),
        **dict.fromkeys(_FROM_CALLER, UNKNOWN),
        "metrics": UNKNOWN,
        **known,
        "dataset": {**dict.fromkeys(_OF_DATA, UNKNOWN), **{k: v for k, v in data.items() if v is not None}},
        "classes" if contract.labelled else "outputs": list(contract.names),
        "model_gives": contract.outputs.value if contract.labelled else "numbers",
        "horizon": contract.horizon,
        "tokens": contract.tokens,
        "fixed_time_axis": fixed_steps(model),
        "signatures": {name: _described(function, contract) for name, function in signatures.items()},
        "without": dict(refused),
        "bad_input": _BAD_INPUT,
        "exported": {"parity_tolerance": tolerance, **metrics},
        "versions": {"sequence-zoo": _version(), **versions, "python": platform.python_version()},
    }


def _version() -> str:
    try:
        return importlib.metadata.version("sequence-zoo")
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


def _described(function: Any, contract: Contract) -> dict[str, Any]:
    _, inputs = function.structured_input_signature
    outputs = function.structured_outputs
    return {
        "inputs": {name: _tensor(name, spec, contract) for name, spec in sorted(inputs.items())},
        "outputs": {name: _tensor(name, spec, contract) for name, spec in sorted(outputs.items())},
    }


def _tensor(name: str, spec: Any, contract: Contract) -> dict[str, Any]:
    meaning = _MEANING.get(name, "a state; all zeros at the beginning of a sequence")
    shape = [None] * 0 if spec.shape.rank is None else spec.shape.as_list()
    return {"dtype": spec.dtype.name, "shape": _named(name, shape, contract), "meaning": meaning}


def _named(name: str, shape: list[int | None], contract: Contract) -> list[Any]:
    """Replace the variable axes of `shape` by names."""
    second = "steps" if name == "features" or contract.each_step else None
    return [("batch" if axis == 0 else second) if size is None else size for axis, size in enumerate(shape)]


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write `model_card.json` and, for reading, `MODEL_CARD.md`."""
    (folder / "model_card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False, default=str) + "\n")
    (folder / "MODEL_CARD.md").write_text(page(card))


def page(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    names = card.get("classes") or card.get("outputs") or []
    shown = ", ".join(map(str, names[:20])) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    lines = [
        f"# {card['name']}",
        "",
        f"`{card['model']}`, a {str(card['task']).replace('_', ' ')} with {card['parameters']} parameters. "
        f"Answers: {shown}.",
        "",
    ]
    for title, key in (("Intended use", "intended_use"), ("Unsuitable use", "unsuitable_use"), ("Limits", "limits")):
        lines += [f"## {title}", "", _text(card[key]), ""]
    lines += ["## Data", "", *_table(card["dataset"]), "", "## Metrics", "", *_table(card["metrics"]), ""]
    origin = {key: card[key] for key in ("licence", "run_id", "git_commit", "git_dirty")}
    lines += ["## Origin", "", *_table(origin), *_rows(card["versions"]), ""]
    lines += ["## Signatures", ""]
    for name, signature in card["signatures"].items():
        lines += [f"### `{name}`", "", "| | tensor | type | shape | meaning |", "| --- | --- | --- | --- | --- |"]
        for way in ("inputs", "outputs"):
            lines += [
                f"| {way[:-1]} | `{tensor}` | {about['dtype']} | {_shape(about['shape'])} | {about['meaning']} |"
                for tensor, about in signature[way].items()
            ]
        lines.append("")
    if card["without"]:
        lines += ["Not there:", "", *(f"- `{name}`: {reason}" for name, reason in card["without"].items()), ""]
    lines += ["## Bad input", "", *(f"- {answer}" for answer in card["bad_input"].values()), ""]
    lines += ["## Measured at export", "", *_table(card["exported"]), ""]
    return "\n".join(lines)


def _shape(shape: list[Any]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "\n".join(f"- {item}" for item in value)
    return str(value)


def _table(values: Any) -> list[str]:
    return ["| | |", "| --- | --- |", *_rows(values)] if isinstance(values, Mapping) and values else [_text(values)]


def _rows(values: Mapping[str, Any]) -> list[str]:
    def cell(value: Any) -> str:
        return (f"{value:.6g}" if isinstance(value, float) else str(value)).replace("|", "\\|").replace("\n", " ")

    return [f"| {cell(key)} | {cell(value)} |" for key, value in values.items()]
