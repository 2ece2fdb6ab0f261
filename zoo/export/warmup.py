"""Requests that warm up a server, with the expected answers."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.export.check import Written, stream
from zoo.export.classify_regress import CLASSIFY, REGRESS
from zoo.export.contract import Contract
from zoo.export.probes import Probe, alone, batch, chunks, examples_of
from zoo.export.signatures import DEFAULT, PADDED, STREAM

logger = logging.getLogger(__name__)

FILE = "tf_serving_warmup_requests"  # TensorFlow Serving looks for this name


def write_warmup(path: Path, name: str, contract: Contract, written: Written, probes: Sequence[Probe]) -> int:
    """Write requests to each signature, with the answers of `written`, in TensorFlow Serving's format.

    TensorFlow Serving reads only the requests. `serving_xla` is left out: a server without XLA, which is the default,
    would reject the request, and with it the model.

    Args:
        path: The folder of the version.
        name: The served model's name, for the requests.
        contract: The model's contract.
        written: The written model.
        probes: Sequences for the requests.

    Returns:
        The number of records, 0 if the package with TensorFlow Serving's messages is not installed.
    """
    try:
        import tensorflow_serving.apis.prediction_log_pb2 as messages
    except ImportError:
        logger.warning("no warm-up requests were written; they need: pip install 'sequence-zoo[serve]'")
        return 0
    import tensorflow as tf

    logs = [_predict_log(messages, name, *record) for record in _predictions(contract, written, probes)]
    for signature in (CLASSIFY, REGRESS):
        if signature in written.signatures:
            for sequences in (probes[:1], probes[:3]):
                logs.append(_example_log(messages, name, signature, contract, written, sequences))
    with tf.io.TFRecordWriter(str(path / FILE)) as file:
        for log in logs:
            file.write(log.SerializeToString())
    return len(logs)


def _predictions(contract: Contract, written: Written, probes: Sequence[Probe]) -> list[Any]:
    """Signature, inputs and outputs of each request to Predict."""
    requests = [(DEFAULT, alone(contract, probes[0])), (DEFAULT, alone(contract, probes[-1], rows=3))]
    if contract.text:
        requests.append((DEFAULT, batch(contract, probes)))
    else:
        requests += [(PADDED, batch(contract, probes)), (PADDED, batch(contract, probes[:1]))]
    records = [(signature, inputs, written.ask(signature, inputs)) for signature, inputs in requests]
    if STREAM in written.signatures:
        pieces = chunks(contract, max(probes, key=len))[:2]
        answers = stream(contract, written, pieces)
        names = written.signatures[STREAM].structured_input_signature[1]
        first = alone(contract, pieces[0])
        begin = {name: 0 * answers[0][name] for name in names if name not in first}
        for piece, states, answer in zip(pieces, [begin, answers[0]], answers, strict=False):
            inputs = alone(contract, piece)
            records.append((STREAM, {**inputs, **{name: states[name] for name in begin}}, answer))
    return records


def _predict_log(
    messages: Any, name: str, signature: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> Any:
    import tensorflow as tf

    log = messages.PredictionLog()
    for message, tensors in ((log.predict_log.request.inputs, inputs), (log.predict_log.response.outputs, outputs)):
        for key, array in tensors.items():
            message[key].CopyFrom(tf.make_tensor_proto(array))
    for message in (log.predict_log.request, log.predict_log.response):
        message.model_spec.name, message.model_spec.signature_name = name, signature
    return log


def _example_log(
    messages: Any, name: str, signature: str, contract: Contract, written: Written, sequences: Sequence[Probe]
) -> Any:
    log, examples = messages.PredictionLog(), examples_of(contract, sequences)
    kind = log.classify_log if signature == CLASSIFY else log.regress_log
    kind.request.input.example_list.examples.extend(examples)
    for message in (kind.request, kind.response):
        message.model_spec.name, message.model_spec.signature_name = name, signature
    answers = written.ask(signature, {"inputs": [example.SerializeToString() for example in examples]})
    if signature == REGRESS:
        for value in answers["outputs"]:
            kind.response.result.regressions.add(value=value)
        return log
    for labels, scores in zip(answers["classes"], answers["scores"], strict=True):
        row = kind.response.result.classifications.add()
        for label, score in zip(labels, scores, strict=True):
            row.classes.add(label=label.decode(), score=score)
    return log
