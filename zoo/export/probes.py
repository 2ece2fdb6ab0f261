"""Sequences to try a model on: examples, or random ones that resemble its training data."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from zoo.export.contract import Contract, ExportError, Outputs
from zoo.export.text import indices_of
from zoo.models import fixed_steps
from zoo.text import CUTS

Probe = NDArray[np.float32] | str

_MOST = 8


def probes(model: keras.Model, contract: Contract, examples: Mapping[str, Any] | None) -> list[Probe]:
    """Sequences of different lengths, at least 2: the first of `examples`, or random ones.

    Args:
        model: The model, whose normalisation layer has the statistics of the channels.
        contract: The contract of the model.
        examples: `{"features": [array (steps, channels), ...]}` or `{"text": [string, ...]}`.

    Raises:
        ExportError: The examples are not of this shape.
    """
    name = "text" if contract.text else "features"
    if examples is None:
        return _random_texts(contract) if contract.text else _random_features(model, contract)
    sequences = list(examples.get(name, ()))[:_MOST]
    if len(sequences) < 2:
        raise ExportError(
            f"examples must have at least 2 sequences under {name!r}; received {len(sequences)} there, and the keys "
            f"{list(examples)}"
        )
    if contract.text:
        return [str(text) for text in sequences]
    arrays = [np.asarray(sequence, np.float32) for sequence in sequences]
    for array in arrays:
        if array.ndim != 2 or array.shape[1] != contract.channels or not len(array) or not np.isfinite(array).all():
            raise ExportError(
                f"each example must be finite (steps, {contract.channels}) with a step or more; received {array.shape}"
            )
    return list(arrays)


def _random_features(model: keras.Model, contract: Contract) -> list[Probe]:
    rng = np.random.default_rng(0)
    longest = max(12, (fixed_steps(model) or 0) + 5)
    mean, deviation = 0.0, 1.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and not layer.invert:
            mean, variance = (keras.ops.convert_to_numpy(value) for value in (layer.mean, layer.variance))
            deviation = np.sqrt(variance)
            break
    shapes = [(steps, contract.channels) for steps in (longest, 1, 2, longest // 2, longest - 1)]
    return [np.float32(rng.normal(size=shape) * deviation + mean).reshape(shape) for shape in shapes]


def _random_texts(contract: Contract) -> list[Probe]:
    rng = np.random.default_rng(0)
    known = list((contract.vocabulary or ())[2:]) or ["a"]
    between = "" if contract.tokens == "characters" else " "
    texts: list[Probe] = [between.join(rng.choice(known, size=steps)) for steps in (12, 1, 2, 6)]
    return [*texts, "\u2603 unheard-of"]


def batch(contract: Contract, sequences: Sequence[Probe]) -> dict[str, NDArray[Any]]:
    """The inputs of the padded signature, or `text`, for these sequences."""
    if contract.text:
        return {"text": np.array([str(text).encode() for text in sequences], object)}
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)
    features = np.zeros((len(sequences), lengths.max(), contract.channels), np.float32)
    for row, sequence in zip(features, sequences, strict=True):
        row[: len(sequence)] = sequence
    return {"features": features, "lengths": lengths}


def answers(model: keras.Model, contract: Contract, sequences: Sequence[Probe]) -> NDArray[Any]:
    """The unchanged output of the Keras model on its own backend; NaN where there is no answer.

    Raises:
        ExportError: The model has no finite answer.
    """
    inputs = _tokens(contract, sequences) if contract.text else batch(contract, sequences)
    # On TensorFlow without a graph, because an exported graph is compared with it; elsewhere compiled, to save time.
    eager = keras.backend.backend() == "tensorflow"
    output = model(inputs, training=False) if eager else model.predict_on_batch(inputs)
    results = np.array(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")))
    results[inputs["lengths"] == 0] = np.nan
    if contract.each_step:
        results[np.arange(results.shape[1]) >= inputs["lengths"][:, None]] = np.nan
    if not np.isfinite(results).any():
        raise ExportError(f"the model has no finite answer to any of {len(sequences)} sequences: it has diverged")
    return results


def expected(contract: Contract, answers: NDArray[Any]) -> NDArray[Any]:
    """The probabilities or numbers that a client should receive, from the outputs of the model."""
    if not contract.labelled or contract.outputs is not Outputs.LOGITS:
        return answers
    with np.errstate(invalid="ignore"):  # NaN stands for no answer
        powers = np.exp(answers - answers.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _tokens(contract: Contract, sequences: Sequence[Probe]) -> dict[str, NDArray[Any]]:
    rows = [indices_of(str(text), contract) for text in sequences]
    lengths = np.array([len(row) for row in rows], np.int32)
    features = np.zeros((len(rows), max(1, lengths.max())), np.int32)
    for tokens, row in zip(features, rows, strict=True):
        tokens[: len(row)] = row
    return {"features": features, "lengths": lengths}


def alone(contract: Contract, sequence: Probe, rows: int = 1) -> dict[str, NDArray[Any]]:
    """The inputs of the default signature for `rows` copies of this sequence."""
    inputs = batch(contract, [sequence] * rows)
    return {name: array for name, array in inputs.items() if name != "lengths"}


def examples_of(contract: Contract, sequences: Sequence[Probe]) -> list[Any]:
    """A `tf.train.Example` for each of these sequences."""
    import tensorflow as tf

    def example(sequence: Probe) -> Any:
        if contract.text:
            values = tf.train.Feature(bytes_list=tf.train.BytesList(value=[str(sequence).encode()]))
            return tf.train.Example(features=tf.train.Features(feature={"text": values}))
        values = tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(sequence)))
        return tf.train.Example(features=tf.train.Features(feature={"features": values}))

    return [example(sequence) for sequence in sequences]


def chunks(contract: Contract, sequence: Probe) -> list[Probe]:
    """Cut the sequence into up to three pieces of random lengths."""
    rng = np.random.default_rng(1)
    steps = CUTS[contract.tokens or "words"](str(sequence)) if contract.text else sequence
    cuts = [0, *sorted(rng.choice(range(1, len(steps)), size=min(2, len(steps) - 1), replace=False)), len(steps)]
    parts = [steps[start:end] for start, end in itertools.pairwise(cuts)]
    if not contract.text:
        return [np.asarray(part) for part in parts]
    return [("" if contract.tokens == "characters" else " ").join(part) for part in parts]
