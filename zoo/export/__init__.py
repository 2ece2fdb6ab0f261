"""From a Keras model to a SavedModel that any stock TensorFlow Serving loads.

    models/<name>/<version>/
        saved_model.pb  variables/
        assets.extra/
            model_card.json  MODEL_CARD.md
            tf_serving_warmup_requests

The graph is traced anew from the layers' Keras operations, so it does not depend on how the model was trained. It is
written to a hidden folder, loaded back, compared with the model, and only then renamed to its version, so that a server
that polls the folder never sees an incomplete version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

# Modules, not their functions of the same names, which would hide the modules in this package.
from zoo.export import check, contract, golden as golden, probes, publish
from zoo.export.card import model_card, write_card
from zoo.export.contract import ExportError as ExportError
from zoo.export.golden import Golden
from zoo.export.last_layer import with_outputs
from zoo.export.signatures import Graph, graph
from zoo.export.warmup import write_warmup
from zoo.kernels.target import Place, tracing_for

__all__ = ["ExportError", "Exported", "export", "golden"]


@dataclass(frozen=True)
class Exported:
    """A version that is ready to be served.

    Attributes:
        path: Folder of the version.
        version: Number of the version.
        metrics: "export/parity_max_abs_difference", from the Keras model, of probabilities or predicted numbers, and
            "export/golden_max_abs_difference", from the golden answers, if there are any;
            "export/latency_ms_batch_1" and "export/latency_ms_batch_32", medians for the default signature in Python;
            "export/bytes" on disk.
        refused: Reason for each signature that this model cannot have.
    """

    path: Path
    version: int
    metrics: Mapping[str, float]
    refused: Mapping[str, str]


def export(
    model: keras.Model,
    task: Mapping[str, Any],
    directory: str | Path,
    card: Mapping[str, Any] | None = None,
    *,
    xla: bool = False,
    examples: Mapping[str, Any] | None = None,
    golden: Golden | None = None,
) -> Exported:
    """Write `model` as the next version under `directory`, checked against the model.

    docs/export.md describes the inputs and outputs of the signatures.

    Args:
        model: A model of `zoo.models` or one of your own with the inputs `features` and `lengths`, on the TensorFlow
            backend; it may have been trained on any backend and in any precision. The outputs of a classifier may be
            logits, their softmax, or a sigmoid for each class: see `zoo.export.last_layer`.
        task: The task of the training, as in the `task.json` of a run: see `zoo.export.contract.contract`.
        directory: `models/<name>`; versions are folders in it, named by integers.
        card: Further facts for the model card; see `zoo.export.card.model_card`.
        xla: Add `serving_xla`, which a server runs only with XLA switched on.
        examples: Sequences for the requests that are checked and kept as warm-up: `{"features": [array
            (steps, channels), ...]}` or `{"text": [string, ...]}`, at least 2, of which 8 are used. They are written
            into the version, so they must not be private. Without them, random ones that resemble the training data.
        golden: The model's answers from where it was trained, for a further comparison.

    Returns:
        The version, its measurements, and the signatures that the model cannot have.

    Raises:
        ExportError: The backend is not TensorFlow, task or examples do not fit the model, the graph has an operation
            that a stock server may lack, the written model gives other answers, or the disk is full. Nothing is
            published then.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"export needs Keras's TensorFlow backend, this process runs {keras.backend.backend()!r}; "
            "load the .keras file in a process with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    agreed, facts, directory = contract.contract(model, task), dict(card or {}), Path(directory)
    sequences = probes.probes(model, agreed, examples)
    answers = probes.answers(model, agreed, sequences)
    agreed = with_outputs(agreed, model, answers)
    try:
        with publish.hidden_folder(directory) as hidden:
            built = graph(model, agreed, xla)
            write(model, built, hidden)
            written = check.Written(hidden)
            difference = check.check(model, agreed, hidden, written, sequences, answers)
            extra = hidden / "assets.extra"
            extra.mkdir(exist_ok=True)
            write_warmup(extra, str(facts.get("name") or directory.name), agreed, written, sequences)
            metrics = {"export/parity_max_abs_difference": difference}
            if golden is not None:
                metrics["export/golden_max_abs_difference"] = check.check_golden(model, agreed, written, golden)
            metrics |= check.measure(agreed, hidden, written, sequences)
            signatures = {name: written.signatures[name] for name in built.signatures}
            tolerance = check.tolerance(model)
            write_card(extra, model_card(model, agreed, facts, signatures, built.refused, tolerance, metrics))
            path = publish.publish(hidden, directory)
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(f"{directory}: the export failed and nothing was published: {error}") from error
    return Exported(path, int(path.name), metrics, built.refused)


def write(model: keras.Model, built: Graph, path: Path) -> None:
    """Write the SavedModel."""
    import tensorflow as tf

    # Not keras.export.ExportArchive, which traces every function twice.
    kept = tf.Module()
    kept.weights = [weight.value for weight in model.variables]
    kept.resources = list(built.resources)
    with tracing_for(Place.SAVED_MODEL):
        functions = {
            name: tf.function(signature.function, autograph=False).get_concrete_function(*signature.inputs)
            for name, signature in built.signatures.items()
        }
    tf.saved_model.save(kept, str(path), signatures=functions)
