"""Whether what was written equals the model, and how fast it is."""

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

# The exported graph and the Keras model run the same operations; only their order may differ, and with it how often an
# intermediate value is rounded. The half-precision bounds are four roundings, 2^-9 and 2^-6. Of a probability, or of
# the largest number that the model answers.
PARITY_TOLERANCE = {"float64": 1e-5, "float32": 1e-5, "float16": 2**-9, "bfloat16": 2**-6}

_RUNS = 5


class Written:
    """A SavedModel that was loaded back; its signatures take and give arrays."""

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
    """How far answers may lie apart, by the precision of the model's layers."""
    return max(PARITY_TOLERANCE[layer.compute_dtype] for layer in model.layers)


def check(
    model: keras.Model,
    contract: Contract,
    path: Path,
    written: Written,
    probes: Sequence[Probe],
    answers: NDArray[Any],
) -> float:
    """Compare what was written with what the model answers, and its signatures with each other.

    The numbers that the model puts out are looked for among the outputs as they are, so that a wrong idea of what they
    mean cannot be checked by itself: probabilities under that name, all other numbers of classes as the logits.

    Returns:
        The largest difference between written and model, of a probability or a number.

    Raises:
        ExportError: Something differs by more than `tolerance`, the model gives nothing finite, or the graph holds
            an operation that a stock server may not have.
    """
    unknown = refused_operations(path)
    if unknown:
        raise ExportError(f"the graph holds operations that a stock TensorFlow Serving may lack: {unknown}")
    bound = tolerance(model)
    outputs = written.ask(DEFAULT if contract.text else PADDED, batch(contract, probes))
    whole = outputs[contract.value]
    difference = _compare(contract, whole, expected(contract, answers), bound, "the Keras model")
    if contract.labelled and not sum_to_one(answers) and contract.outputs is not Outputs.INDEPENDENT:
        size = max(1.0, float(np.max(np.abs(answers), where=np.isfinite(answers), initial=0.0)))
        # Softmax passes on a quarter of a difference at most.
        _compare(contract, outputs["logits"], answers, 4 * bound * size, "the Keras model before softmax")
    elif contract.labelled:
        _compare(contract, whole, answers, bound, "the Keras model, whose answers are probabilities,")
        least, most = np.nanmin(whole), np.nanmax(whole)
        if least < 0 or most > 1 + bound:
            raise ExportError(
                f"the written model differs from what it is said to give, {contract.outputs.value}: its answers go "
                f"from {least:.3g} to {most:.3g}; nothing was published"
            )
    for name, key in ((CLASSIFY, "scores"), (REGRESS, "outputs")):
        if name in written.signatures:
            serialised = [example.SerializeToString() for example in examples_of(contract, probes)]
            found = written.ask(name, {"inputs": np.array(serialised, object)})[key]
            _compare(contract, found.reshape(whole.shape), whole, bound, f"{DEFAULT}, asked by {name},")
    longest = max(probes, key=len)
    alone_whole = written.ask(DEFAULT, alone(contract, longest))[contract.value]
    if STREAM in written.signatures:
        pieces = [answer[contract.value] for answer in stream(contract, written, chunks(contract, longest))]
        found = np.concatenate(pieces, axis=1) if contract.each_step else pieces[-1]
        _compare(contract, found, alone_whole, bound, f"{DEFAULT}, asked by {STREAM} in pieces,")
    if XLA in written.signatures:
        found = written.ask(XLA, alone(contract, longest))[contract.value]
        _compare(contract, found, alone_whole, bound, f"{DEFAULT}, asked by {XLA},")
    return difference


def check_golden(model: keras.Model, contract: Contract, written: Written, golden: Golden) -> float:
    """Compare what was written with what the model answered where it was trained.

    Returns:
        The largest difference, of a probability or a number.

    Raises:
        ExportError: It is more than the golden answers' `tolerance`, or `tolerance` of the model where that is more.
    """
    asked = batch(contract, sequences_of(model, contract, golden.examples))
    found = written.ask(DEFAULT if contract.text else PADDED, asked)[contract.value]
    bound = max(tolerance(model), golden.tolerance)
    return _compare(contract, found, golden.answers, bound, f"the model where it was trained ({golden.where})")


def _compare(contract: Contract, found: NDArray[Any], wanted: NDArray[Any], bound: float, what: str) -> float:
    answered = np.isfinite(wanted)
    scale = 1.0 if contract.labelled else float(np.max(np.abs(wanted), where=answered, initial=0.0)) or 1.0
    difference = float(np.max(np.abs(np.where(answered, found - wanted, 0.0))))
    if not difference <= bound * scale:  # written so that NaN fails too
        raise ExportError(
            f"the written model differs from {what} by {difference:g} in its {contract.value}, more than "
            f"{bound * scale:g}; nothing was published"
        )
    return difference


def stream(contract: Contract, written: Written, pieces: Sequence[Probe]) -> list[Arrays]:
    """The answers to the pieces of one sequence, each with the states after it."""
    _, inputs = written.signatures[STREAM].structured_input_signature
    asked = alone(contract, pieces[0])
    states = {name: np.zeros((1, *spec.shape[1:]), np.float32) for name, spec in inputs.items() if name not in asked}
    answers = []
    for piece in pieces:
        answers.append(written.ask(STREAM, {**alone(contract, piece), **states}))
        states = {name: answers[-1][name] for name in states}
    return answers


def measure(contract: Contract, path: Path, written: Written, probes: Sequence[Probe]) -> dict[str, float]:
    """Median milliseconds of the default signature for 1 and 32 times a sequence of middle length, and the size."""
    import tensorflow as tf

    middle = sorted(probes, key=len)[len(probes) // 2]
    figures = {}
    for rows in (1, 32):
        inputs = {name: tf.constant(value) for name, value in alone(contract, middle, rows).items()}
        seconds = []
        for _ in range(1 + _RUNS):
            start = time.perf_counter()
            outputs = written.signatures[DEFAULT](**inputs)
            outputs[contract.value].numpy()
            seconds.append(time.perf_counter() - start)
        figures[f"export/latency_ms_batch_{rows}"] = 1000 * statistics.median(seconds[1:])  # the first one plans
    return {**figures, "export/bytes": float(sum(f.stat().st_size for f in path.rglob("*") if f.is_file()))}
