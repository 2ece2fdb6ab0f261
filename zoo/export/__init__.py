"""From a Keras model to a SavedModel that any stock TensorFlow Serving loads.

    models/<name>/<version>/
        saved_model.pb  variables/
        assets.extra/
            model_card.json  MODEL_CARD.md
            tf_serving_warmup_requests

The graph is traced anew from the layers' Keras operations, so it does not depend on how the model was trained. It is
written to a hidden folder, loaded back, compared with the model, and only then renamed to its version: a server that
polls the folder never sees half of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

# As modules: a function of the same name would hide the module in this package.
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
    """A version that is there to be served.

    Attributes:
        path: Its folder.
        version: Its number.
        metrics: "export/parity_max_abs_difference" to the Keras model, of a probability or a predicted number, and
            "export/golden_max_abs_difference" to what it answered where it was trained, if that is known;
            "export/latency_ms_batch_1" and "export/latency_ms_batch_32", medians of the default signature in Python;
            "export/bytes" on disk.
        refused: Signatures that this model cannot have, with the reason.
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

    What the signatures take and give is in docs/export.md.

    Args:
        model: A model of `zoo.models` or one of your own with the inputs `features` and `lengths`, on the TensorFlow
            backend; it may have been trained on any, in any precision. A classifier may put out logits, the softmax of
            them, or a sigmoid for each class: see `zoo.export.last_layer`.
        task: What it was trained for, as `task.json` of a run says it: see `zoo.export.contract.contract`.
        directory: `models/<name>`; versions are folders in it, named by integers.
        card: Further facts for the model card; see `zoo.export.card.model_card`.
        xla: Add `serving_xla`, which a server runs only with XLA switched on.
        examples: Sequences for the requests that are checked and kept as warm-up: `{"features": [array
            (steps, channels), ...]}` or `{"text": [string, ...]}`, at least 2, of which 8 are used. They are written
            into the version, so no private ones. Without them, random ones that look like the training data.
        golden: Answers of the model where it was trained, for a further comparison.

    Returns:
        Where it is, what was measured, and which signatures the model cannot have.

    Raises:
        ExportError: The backend is not TensorFlow, task or examples do not fit the model, the graph holds an operation
            that a stock server may lack, what was written does not give the model's answers, or the disk is full.
            Nothing is published then.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"export needs Keras's TensorFlow backend, this process runs {keras.backend.backend()!r}; "
            "load the .keras file in a process with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    made, facts, directory = contract.contract(model, task), dict(card or {}), Path(directory)
    asked = probes.probes(model, made, examples)
    given = probes.answers(model, made, asked)
    made = with_outputs(made, model, given)
    try:
        with publish.hidden_folder(directory) as hidden:
            built = graph(model, made, xla)
            write(model, built, hidden)
            written = check.Written(hidden)
            parity = check.check(model, made, hidden, written, asked, given)
            extra = hidden / "assets.extra"
            extra.mkdir(exist_ok=True)
            write_warmup(extra, str(facts.get("name") or directory.name), made, written, asked)
            figures = {"export/parity_max_abs_difference": parity}
            if golden is not None:
                figures["export/golden_max_abs_difference"] = check.check_golden(model, made, written, golden)
            figures |= check.measure(made, hidden, written, asked)
            signatures = {name: written.signatures[name] for name in built.signatures}
            write_card(
                extra, model_card(model, made, facts, signatures, built.refused, check.tolerance(model), figures)
            )
            path = publish.publish(hidden, directory)
    except (OSError, tf.errors.OpError) as error:
        raise ExportError(f"{directory}: the export failed and nothing was published: {error}") from error
    return Exported(path, int(path.name), figures, built.refused)


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
