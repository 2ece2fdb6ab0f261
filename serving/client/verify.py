"""Golden requests, which an export brings along with their answers, replayed against a server or in this process."""

import http.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.calls.examples import CLASSIFY_METHOD
from serving.calls.tensor_protos import to_array
from serving.client.base import Client
from serving.client.errors import ServerError
from serving.client.examples import from_proto
from serving.errors import ServingError
from serving.models.records import read_records
from serving.models.warmup import WARMUP_FILE
from serving.protos import apis
from serving.release.version_folders import find_versions, is_complete, version_number
from serving.runtime.model import DEFAULT_SIGNATURE, Array

ATOL = 1e-6
RTOL = 1e-5
# Two classes so close may change places with the last bits of a sum; which is the likeliest means nothing then.
SMALLEST_MARGIN = 1e-5
_CHOICES = ("class_id", "label")

Outputs = dict[str, Array]
Ask = Callable[["Golden"], Outputs]


class VerifyError(RuntimeError):
    """There is nothing to verify with."""

    exit_code = 2


@dataclass(frozen=True)
class Golden:
    """One request with the answer that it must get.

    Attributes:
        record: Its number in the file, from 0.
        kind: `predict`, `classify`, `regress` or `multi_inference`.
        signature_name: Which signature it asks; of a multi-inference, those of its tasks between commas.
        log: The `PredictionLog` message.
        inputs: An array for each input of a predict request; empty for the others.
        examples: The features of each `tf.Example` of the others.
        expected: The answer's arrays: the outputs by name; `classes` and `scores`; or `outputs`. Of a multi-inference,
            the last three with the signature of their task before them, as in `classify/scores`.
    """

    record: int
    kind: str
    signature_name: str
    log: Any
    inputs: Mapping[str, Array]
    examples: list[dict[str, list[Any]]]
    expected: Outputs


@dataclass(frozen=True)
class Comparison:
    """How one answer compares with the golden one.

    Attributes:
        golden: The request.
        largest: The largest difference between two finite floats; 0.0 where there are none.
        where: The output in which it is.
        problems: What is not equal, in words; empty where the answer is right.
    """

    golden: Golden
    largest: float
    where: str
    problems: tuple[str, ...]


def version_folder(path: Path) -> tuple[str, int, Path]:
    """Model name, version and folder that `models/NAME` (its newest version) or `models/NAME/VERSION` means.

    Raises:
        VerifyError: There is no version.
    """
    path = path.resolve()
    version = version_number(path.name)
    if version is not None and is_complete(path):
        return path.parent.name, version, path
    versions = find_versions(path) if path.is_dir() else {}
    if not versions:
        raise VerifyError(f"{path} holds no version of a model; give models/NAME or models/NAME/VERSION")
    newest = max(versions)
    return path.name, newest, versions[newest]


def read_golden(folder: Path) -> list[Golden]:
    """The golden requests of a version.

    Raises:
        VerifyError: There are none.
        RecordError: The file is damaged.
        ServingApiMissing: The extra `serve` is not installed.
    """
    path = folder / WARMUP_FILE
    if not path.is_file():
        raise VerifyError(
            f"{path} is missing, so there is nothing to compare with; `zoo export` writes it where the extra serve is "
            "installed (pip install 'sequence-zoo[serve]')"
        )
    message = apis("prediction_log_pb2").PredictionLog
    logs = [message.FromString(record) for record in read_records(path)]
    read = [_golden(number, log) for number, log in enumerate(logs)]
    golden = [request for request in read if request is not None]
    if not golden:
        raise VerifyError(f"none of the {len(logs)} records of {path} has an answer to compare with; export it again")
    return golden


def _golden(number: int, log: Any) -> Golden | None:
    """A record with its answer; None if it has no answer, or is of a kind that is not compared."""
    kind = str(log.WhichOneof("log_type")).removesuffix("_log")
    if kind not in ("predict", "classify", "regress", "multi_inference"):
        return None
    both = getattr(log, f"{kind}_log")
    expected = arrays_of(kind, both.response)
    if not any(array.size for array in expected.values()):
        return None
    specs = [task.model_spec for task in both.request.tasks] if kind == "multi_inference" else [both.request.model_spec]
    name = ",".join(spec.signature_name or DEFAULT_SIGNATURE for spec in specs)
    if kind == "predict":
        inputs = {alias: to_array(tensor) for alias, tensor in both.request.inputs.items()}
        return Golden(number, kind, name, log, inputs, [], expected)
    if both.request.input.WhichOneof("kind") != "example_list":
        return None
    examples = [from_proto(example) for example in both.request.input.example_list.examples]
    return Golden(number, kind, name, log, {}, examples, expected)


def arrays_of(kind: str, response: Any) -> Outputs:
    """The arrays in a response message."""
    if kind == "predict":
        return {alias: to_array(tensor) for alias, tensor in response.outputs.items()}
    if kind == "classify":
        return _classified(response.result)
    if kind == "regress":
        return _values([entry.value for entry in response.result.regressions])
    found: Outputs = {}
    for result in response.results:
        if result.WhichOneof("result") == "classification_result":
            outputs = _classified(result.classification_result)
        else:
            outputs = _values([entry.value for entry in result.regression_result.regressions])
        found |= _of_task(result, outputs)
    return found


def _of_task(task: Any, outputs: Outputs) -> Outputs:
    """The outputs of one of several tasks, told apart by its signature."""
    return {f"{task.model_spec.signature_name or DEFAULT_SIGNATURE}/{name}": array for name, array in outputs.items()}


def _classified(result: Any) -> Outputs:
    return _classes([[(entry.label, entry.score) for entry in row.classes] for row in result.classifications])


def _values(values: list[float]) -> Outputs:
    return {"outputs": np.array(values, np.float32)}


def _classes(rows: list[list[tuple[str, float]]]) -> Outputs:
    return {
        "classes": np.array([[label.encode() for label, _ in row] for row in rows], dtype=object),
        "scores": np.array([[score for _, score in row] for row in rows], np.float32),
    }


def ask_server(client: Client) -> Ask:
    """Asks a server, by REST or by gRPC; the tasks of a multi-inference one by one, since REST has no call for it."""

    def classified(golden: Golden, signature_name: str) -> Outputs:
        return _classes(client.classify(golden.examples, signature_name))

    def regressed(golden: Golden, signature_name: str) -> Outputs:
        return _values(client.regress(golden.examples, signature_name))

    def ask(golden: Golden) -> Outputs:
        if golden.kind == "classify":
            return classified(golden, golden.signature_name)
        if golden.kind == "regress":
            return regressed(golden, golden.signature_name)
        if golden.kind == "multi_inference":
            found: Outputs = {}
            for task in golden.log.multi_inference_log.request.tasks:
                call = classified if task.method_name == CLASSIFY_METHOD else regressed
                found |= _of_task(task, call(golden, task.model_spec.signature_name or DEFAULT_SIGNATURE))
            return found
        outputs = client.raw(golden.inputs, golden.signature_name)
        wanted = set(golden.log.predict_log.request.output_filter) or set(outputs)
        return {name: array for name, array in outputs.items() if name in wanted}

    return ask


@contextmanager
def ask_here(folder: Path) -> Iterator[Ask]:
    """Asks the SavedModel in `folder`, loaded into this process as the local server would.

    Raises:
        ServingError: It cannot be loaded.
    """
    from serving.calls.messages import replay
    from serving.runtime.load import load

    model = load(folder)
    try:
        yield lambda golden: arrays_of(golden.kind, replay(model, golden.log))
    finally:
        model.close()


def check(golden: Golden, ask: Ask, *, atol: float = ATOL, rtol: float = RTOL) -> Comparison:
    """Ask for an answer and compare it; a request that is refused has that as its problem.

    Raises:
        ServerError: The server does not have the model, or not that version.
        Unreachable: No answer came.
    """
    try:
        return compare(golden, ask(golden), atol=atol, rtol=rtol)
    except ServingError as error:
        return Comparison(golden, 0.0, "", (error.described,))
    except ServerError as error:
        # Without the model no request can be compared; any other refusal is a difference like a wrong number.
        if error.status == http.client.NOT_FOUND:
            raise
        return Comparison(golden, 0.0, "", (str(error),))


def compare(golden: Golden, actual: Outputs, *, atol: float = ATOL, rtol: float = RTOL) -> Comparison:
    """Compare every output of an answer with the golden one.

    Floats may differ by `atol` + `rtol` times the golden value; NaN equals NaN. Strings and integers are equal, but
    `class_id` and `label` only where the two likeliest classes are more than `SMALLEST_MARGIN` apart.
    """
    expected = golden.expected
    problems = [f"{name} is missing" for name in sorted(set(expected) - set(actual))]
    problems += [f"{name} was not expected" for name in sorted(set(actual) - set(expected))]
    firm = _firm(expected)
    largest, where = 0.0, ""
    for name in sorted(set(expected) & set(actual)):
        ours, theirs = expected[name], actual[name]
        # REST carries no types: an int64 may come back as int32, and only strings must stay strings.
        if ours.shape != theirs.shape or (ours.dtype.kind == "O") != (theirs.dtype.kind == "O"):
            problems.append(f"{name} is {theirs.dtype} {theirs.shape}, expected {ours.dtype} {ours.shape}")
            continue
        if ours.dtype.kind != "f":
            differs = ours != theirs
            if name in _CHOICES and firm is not None and firm.shape == differs.shape:
                differs = differs & firm
        else:
            differs = ~np.isclose(theirs, ours, rtol=rtol, atol=atol, equal_nan=True)
            finite = np.isfinite(ours) & np.isfinite(theirs)
            difference = float(np.abs(theirs[finite].astype(np.float64) - ours[finite]).max(initial=0.0))
            if difference > largest or not where:
                largest, where = difference, name
        if differs.any():
            problems.append(f"{name} differs in {int(differs.sum())} of {differs.size}")
    return Comparison(golden, largest, where, tuple(problems))


def _firm(expected: Outputs) -> Array | None:
    """Where the likeliest class is likeliest by a margin; None without probabilities."""
    probabilities = expected.get("probabilities")
    if probabilities is None or probabilities.shape[-1] < 2:
        return None
    first, second = np.moveaxis(np.sort(probabilities, axis=-1)[..., :-3:-1], -1, 0)
    firm: Array = ~(first - second <= SMALLEST_MARGIN)  # a row of NaN is firm: it has no class, and both must say so
    return firm
