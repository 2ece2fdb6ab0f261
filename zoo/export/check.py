"""Compares a written SavedModel with its Keras model, and measures its speed."""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from zoo.export.classify_regress import CLASSIFY, REGRESS
from zoo.export.contract import Contract, ExportError, Outputs
from zoo.export.golden import Golden
from zoo.export.last_layer import sum_to_one
from zoo.export.operations import refused_operations
from zoo.export.probes import Probe, alone, batch, chunks, examples_of, expected, probes as sequences_of
from zoo.export.signatures import DEFAULT, PADDED, STREAM, XLA

Arrays = dict[str, NDArray[Any]]

# Largest difference of a probability, or relative to the largest predicted number. The exported graph and the Keras
# model run the same operations, but their order may differ, and so the rounding of intermediate values. The
# half-precision bounds are four roundings, 2^-9 and 2^-6.
PARITY_TOLERANCE = {"float64": 1e-5, "float32": 1e-5, "float16": 2**-9, "bfloat16": 2**-6}

_RUNS = 5


class Written:
    """A SavedModel that was loaded back, with arrays as inputs and outputs of its signatures."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        self._kept = tf.saved_model.load(str(path))  # its variables live as long as it does
        self.signatures = self._kept.signatures

    def ask(self, signature: str, inputs: Mapping[str, Any]) -> Arrays:
        """The outputs of a signature."""
        import tensorflow as tf

        outputs = self.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def tolerance(model: keras.Model) -> float:
    """Largest allowed difference between answers, given the precision of the model's layers."""
    return max(PARITY_TOLERANCE[layer.compute_dtype] for layer in model.layers)


def check(
    model: keras.Model,
    contract: Contract,
    path: Path,
    written: Written,
    probes: Sequence[Probe],
    answers: NDArray[Any],
) -> float:
    """Compare the written model with the model's answers, and its signatures with each other.

    The model's own output must be among the written outputs, as "probabilities" or as "logits", so that a wrong idea of
    its meaning is found.

    Returns:
        The largest difference between written model and model, of a probability or a predicted number.

    Raises:
        ExportError: Something differs by more than `tolerance`, the model has no finite answer, or the graph has an
            operation that a stock server may lack.
    """
    unknown = refused_operations(path)
    if unknown:
        raise ExportError(f"the graph has operations that a stock TensorFlow Serving may lack: {unknown}")
    bound = tolerance(model)
    outputs = written.ask(DEFAULT if contract.text else PADDED, batch(contract, probes))
    whole = outputs[contract.value]
    difference = _compare(contract, whole, expected(contract, answers), bound, "the Keras model")
    if contract.labelled and not sum_to_one(answers) and contract.outputs is not Outputs.INDEPENDENT:
        size = max(1.0, float(np.max(np.abs(answers), where=np.isfinite(answers), initial=0.0)))
        # The slope of softmax is at most a quarter.
        _compare(contract, outputs["logits"], answers, 4 * bound * size, "the Keras model before softmax")
    elif contract.labelled:
        _compare(contract, whole, answers, bound, "the Keras model, whose answers are probabilities,")
        least, most = np.nanmin(whole), np.nanmax(whole)
        if least < 0 or most > 1 + bound:
            raise ExportError(
                f"the outputs of the written model are not {contract.outputs.value}: they range from {least:.3g} to "
                f"{most:.3g}; nothing was published"
            )
    for name, key in ((CLASSIFY, "scores"), (REGRESS, "outputs")):
        if name in written.signatures:
            serialised = [example.SerializeToString() for example in examples_of(contract, probes)]
            results = written.ask(name, {"inputs": np.array(serialised, object)})[key]
            _compare(contract, results.reshape(whole.shape), whole, bound, f"{DEFAULT}, called by {name},")
    longest = max(probes, key=len)
    alone_whole = written.ask(DEFAULT, alone(contract, longest))[contract.value]
    if STREAM in written.signatures:
        pieces = [answer[contract.value] for answer in stream(contract, written, chunks(contract, longest))]
        results = np.concatenate(pieces, axis=1) if contract.each_step else pieces[-1]
        _compare(contract, results, alone_whole, bound, f"{DEFAULT}, called by {STREAM} in pieces,")
    if XLA in written.signatures:
        results = written.ask(XLA, alone(contract, longest))[contract.value]
        _compare(contract, results, alone_whole, bound, f"{DEFAULT}, called by {XLA},")
    return difference


def check_golden(model: keras.Model, contract: Contract, written: Written, golden: Golden) -> float:
    """Compare the written model with the model's answers from where it was trained.

    Returns:
        The largest difference, of a probability or a number.

    Raises:
        ExportError: It exceeds both the golden answers' `tolerance` and the `tolerance` of the model.
    """
    inputs = batch(contract, sequences_of(model, contract, golden.examples))
    results = written.ask(DEFAULT if contract.text else PADDED, inputs)[contract.value]
    bound = max(tolerance(model), golden.tolerance)
    return _compare(contract, results, golden.answers, bound, f"the model where it was trained ({golden.where})")


def _compare(contract: Contract, results: NDArray[Any], expected: NDArray[Any], bound: float, what: str) -> float:
    answered = np.isfinite(expected)
    scale = 1.0 if contract.labelled else float(np.max(np.abs(expected), where=answered, initial=0.0)) or 1.0
    difference = float(np.max(np.abs(np.where(answered, results - expected, 0.0))))
    if not difference <= bound * scale:  # not `difference > ...`: NaN has to fail too
        raise ExportError(
            f"the written model differs from {what} by {difference:g} in its {contract.value}, more than "
            f"{bound * scale:g}; nothing was published"
        )
    return difference


def stream(contract: Contract, written: Written, pieces: Sequence[Probe]) -> list[Arrays]:
    """The answers to the pieces of one sequence, each with the states after it."""
    _, inputs = written.signatures[STREAM].structured_input_signature
    first = alone(contract, pieces[0])
    states = {name: np.zeros((1, *spec.shape[1:]), np.float32) for name, spec in inputs.items() if name not in first}
    answers = []
    for piece in pieces:
        answers.append(written.ask(STREAM, {**alone(contract, piece), **states}))
        states = {name: answers[-1][name] for name in states}
    return answers


def measure(contract: Contract, path: Path, written: Written, probes: Sequence[Probe]) -> dict[str, float]:
    """The size, and median milliseconds of the default signature for 1 and 32 copies of a sequence of median length."""
    import tensorflow as tf

    middle = sorted(probes, key=len)[len(probes) // 2]
    metrics = {}
    for rows in (1, 32):
        inputs = {name: tf.constant(value) for name, value in alone(contract, middle, rows).items()}
        seconds = []
        for _ in range(1 + _RUNS):
            start = time.perf_counter()
            outputs = written.signatures[DEFAULT](**inputs)
            outputs[contract.value].numpy()
            seconds.append(time.perf_counter() - start)
        metrics[f"export/latency_ms_batch_{rows}"] = 1000 * statistics.median(seconds[1:])  # the first is a warm-up
    return {**metrics, "export/bytes": float(sum(f.stat().st_size for f in path.rglob("*") if f.is_file()))}
