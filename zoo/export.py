"""From a Keras model to a SavedModel that any stock TensorFlow Serving loads.

    models/<name>/<version>/
        saved_model.pb  variables/
        assets.extra/model_card.json

The graph is traced anew from the layers' Keras operations, so it does not depend on how the model was trained. It is
written to a hidden folder, loaded back, compared with the model, and only then renamed to its version: a server that
polls the folder never sees half of it.
"""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.export_ops import refused_operations
from zoo.models import fixed_steps

Tensor = Any

# The exported graph and the Keras model run the same operations; only their order may differ, and with it how often an
# intermediate value is rounded. The half-precision bounds are four roundings, 2^-9 and 2^-6.
PARITY_TOLERANCE = {"float64": 1e-5, "float32": 1e-5, "float16": 2**-9, "bfloat16": 2**-6}


class ExportError(RuntimeError):
    """The model cannot be exported, or what was written does not equal it."""

    exit_code = 1


def export(
    model: keras.Model, classes: Sequence[str], directory: str | Path, card: Mapping[str, Any] | None = None
) -> Path:
    """Write `model` as the next version under `directory`.

    Signatures: `serving_default(features)`, where every sequence has as many steps as the array, and
    `serving_padded(features, lengths)`. Both take float32 (batch, steps, channels) and give `probabilities` and
    `logits` (batch, classes), `class_id` int64 (batch,) and `label` string (batch,). A row whose valid steps are not
    all finite, or whose length is not in [1, steps], gets NaN, -1 and "": a server may put the rows of many
    clients into one batch, so one bad row must not fail the others.

    Args:
        model: A model of `zoo.models`, on the TensorFlow backend.
        classes: The name of each class, in the order of the logits.
        directory: `models/<name>`; versions are folders in it, named by integers.
        card: What else the model card should say.

    Returns:
        The folder of the new version.

    Raises:
        ExportError: The backend is not TensorFlow, `classes` do not fit, the graph holds an operation that a
            stock server may not have, or the written model does not give the model's probabilities.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"export needs Keras's TensorFlow backend, this process runs {keras.backend.backend()!r}; "
            "load the .keras file in a process with KERAS_BACKEND=tensorflow"
        )
    outputs = model.output_shape[-1]
    if len(classes) != outputs or len(set(classes)) != outputs:
        raise ExportError(f"the model has {outputs} outputs, so it needs as many different class names; got {classes}")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    hidden = directory / f".writing-{uuid.uuid4().hex}"
    try:
        _write(model, classes, hidden)
        operations = refused_operations(hidden)
        if operations:
            raise ExportError(f"the graph holds operations that a stock TensorFlow Serving may lack: {operations}")
        difference = _parity(model, hidden)
        _write_card(model, classes, hidden, {**(card or {}), "parity_max_abs_difference": difference})
        return _publish(hidden, directory)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _channels(model: keras.Model) -> int:
    # By name: a model read from a file gives its inputs as a list where the one that was saved gave a dict.
    return int(next(tensor.shape[-1] for tensor in model.inputs if tensor.name == "features"))


def _write(model: keras.Model, classes: Sequence[str], path: Path) -> None:
    import tensorflow as tf

    channels = _channels(model)
    features = tf.TensorSpec((None, None, channels), tf.float32, name="features")
    lengths = tf.TensorSpec((None,), tf.int32, name="lengths")
    names = tf.constant(list(classes))

    def padded(features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        # A server feeds whatever shape it is sent; without these, some wrong ones would broadcast to an answer.
        features = tf.ensure_shape(features, (None, None, channels))
        one_a_row = tf.debugging.assert_equal(
            tf.shape(lengths), tf.shape(features)[:1], message="lengths must have one value a row of features"
        )
        a_step = tf.debugging.assert_positive(
            tf.shape(features)[1], message="features must have at least one time step"
        )
        with tf.control_dependencies([one_a_row, a_step]):
            features, lengths = tf.identity(features), tf.identity(lengths)
        steps = tf.shape(features)[1]
        valid = tf.sequence_mask(lengths, steps)[:, :, tf.newaxis]
        # What stands in the padding must not matter, whatever it is.
        features = tf.where(valid, features, tf.zeros_like(features))
        finite = tf.reduce_all(tf.math.is_finite(features), axis=(1, 2))
        answered = tf.logical_and(finite, tf.logical_and(lengths >= 1, lengths <= steps))
        logits = tf.cast(model({"features": features, "lengths": lengths}, training=False), tf.float32)
        answered = tf.logical_and(answered, tf.reduce_all(tf.math.is_finite(logits), axis=1))
        logits = tf.where(answered[:, tf.newaxis], logits, tf.constant(np.nan, tf.float32))
        best = tf.argmax(logits, axis=-1)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "class_id": tf.where(answered, best, tf.constant(-1, tf.int64)),
            "label": tf.where(answered, tf.gather(names, best), tf.constant("")),
        }

    def default(features: Tensor) -> dict[str, Tensor]:
        return padded(features, tf.fill([tf.shape(features)[0]], tf.shape(features)[1]))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", default, input_signature=[features])
    archive.add_endpoint("serving_padded", padded, input_signature=[features, lengths])
    archive.write_out(str(path), verbose=False)


def _parity(model: keras.Model, path: Path) -> float:
    """Largest difference in probability between the model and what was written, on random padded sequences."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    steps = max(12, (fixed_steps(model) or 0) + 5)
    features = rng.normal(size=(5, steps, _channels(model))).astype("float32")
    lengths = np.array([steps, 1, 2, steps // 2, steps - 1], "int32")
    expected = tf.nn.softmax(model({"features": features, "lengths": lengths}, training=False)).numpy()
    loaded = tf.saved_model.load(str(path))
    written = loaded.signatures["serving_padded"](features=tf.constant(features), lengths=tf.constant(lengths))
    answered = np.isfinite(expected).all(axis=1)
    if not answered.any():
        raise ExportError("the model gives no finite probability for any of 5 random sequences: it has diverged")
    difference = float(np.max(np.abs(written["probabilities"].numpy() - expected)[answered]))
    tolerance = max(PARITY_TOLERANCE[layer.compute_dtype] for layer in model.layers)
    if not difference <= tolerance:  # written so that NaN fails too
        raise ExportError(
            f"the written model differs from the Keras model by {difference:g} in probability, "
            f"more than {tolerance:g}; nothing was published"
        )
    return difference


def _write_card(model: keras.Model, classes: Sequence[str], path: Path, card: Mapping[str, Any]) -> None:
    import tensorflow as tf

    steps = fixed_steps(model)
    about = {
        "model": model.name,
        "parameters": model.count_params(),
        "inputs": {
            "features": f"float32 [batch, time, {_channels(model)}], raw values",
            "lengths": "int32 [batch], valid steps of each row (serving_padded only)",
            "fixed_time_axis": steps,
        },
        "classes": list(classes),
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
        **card,
    }
    extra = path / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "model_card.json").write_text(json.dumps(about, indent=2) + "\n")


def _publish(hidden: Path, directory: Path) -> Path:
    """Flush to disk, then rename to the next free version; a version that exists is never touched."""
    for path in [*hidden.rglob("*"), hidden]:
        _flush(path)
    while True:
        taken = [int(child.name) for child in directory.iterdir() if child.name.isdecimal()]
        target = directory / str(max(taken, default=0) + 1)
        try:
            # Atomic, and refused where another export has taken the number since: a folder replaces no full one.
            os.rename(hidden, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue
            raise
        _flush(directory)
        return target


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
