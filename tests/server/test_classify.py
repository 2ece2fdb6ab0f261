"""Classification, regression and multi-inference of examples, by REST and by the handlers that gRPC uses."""

import dataclasses
import json
import sys
from typing import Any

import pytest

from examples import example
from serving import protos
from serving.calls.messages import replay
from serving.errors import Code, ServingError
from serving.grpc_server import GrpcServer
from serving.handlers import Handlers
from serving.metrics import Metrics
from serving.protos import apis, proto_module
from serving.rest.api import RestApi
from serving.rest.json_examples import decode_examples
from serving.server import Server

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def rest(server: Server, verb: str, document: object) -> tuple[int, Any]:
    api = RestApi(server.manager, server.options, Metrics())
    answer = api.answer("POST", f"/v1/models/kinds:{verb}", json.dumps(document).encode())
    return answer.status, json.loads(answer.body)


def test_rest_needs_no_extra_and_grpc_says_which_it_needs(
    kinds_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protos, "_modules", {})
    for name in [name for name in sys.modules if name.startswith("tensorflow_serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    assert rest(kinds_server, "regress", {"signature_name": "regress", "examples": [{"x": [1.0, 2.0]}]})[0] == 200
    assert rest(kinds_server, "predict", {"signature_name": "scalar", "inputs": [[1, 2]]}) == (200, {"outputs": 1.5})
    with pytest.raises(protos.ServingApiMissing, match=r"pip install 'sequence-zoo\[serve\]'"):
        GrpcServer(kinds_server.manager, kinds_server.options, Metrics())


def examples_input(*rows: tuple[float, ...]) -> Any:
    message = apis("input_pb2").Input()
    for row in rows:
        message.example_list.examples.add().MergeFromString(example(*row))
    return message


def request(kind: str, signature: str, *rows: tuple[float, ...]) -> Any:
    message = getattr(
        apis(kind), {"classification_pb2": "Classification", "regression_pb2": "Regression"}[kind] + "Request"
    )()
    message.model_spec.name = "kinds"
    message.model_spec.signature_name = signature
    message.input.CopyFrom(examples_input(*rows))
    return message


@pytest.fixture
def handlers(kinds_server: Server) -> Handlers:
    return Handlers(kinds_server.manager, Metrics())


def test_rest_classifies_and_regresses(kinds_server: Server) -> None:
    document = {"signature_name": "classify", "examples": [{"x": [0.25, 1.0]}, {"x": [3.5, -1.0]}]}
    assert rest(kinds_server, "classify", document) == (
        200, {"results": [[["first", 0.25], ["second", 1.0]], [["first", 3.5], ["second", -1.0]]]},
    )  # fmt: skip
    for signature, results in (("regress", [1.25, 2.5]), ("regress_column", [0.25, 3.5])):
        assert rest(kinds_server, "regress", {**document, "signature_name": signature}) == (200, {"results": results})
    only_scores = {**document, "signature_name": "classify_scores"}
    assert rest(kinds_server, "classify", only_scores)[1]["results"][0] == [["", 0.25], ["", 1.0]]
    only_classes = {**document, "signature_name": "classify_classes"}
    assert rest(kinds_server, "classify", only_classes)[1]["results"][0] == [["first", 0.0], ["second", 0.0]]


def test_a_context_stands_before_every_example(kinds_server: Server) -> None:
    document = {"signature_name": "regress", "context": {"x": [0.5, 0.25]}, "examples": [{"x": [1.0, 2.0]}, {}]}
    # A feature that stands twice in a message: the last one counts.
    assert rest(kinds_server, "regress", document) == (200, {"results": [3.0, 0.75]})


def test_json_values_become_the_kinds_of_features() -> None:
    document = {"examples": [{"f": [1.5, float("nan")], "i": [1, True, -(2**63)], "s": ["é", {"b64": "/w=="}],
                              "one": 2.5, "empty": [], "huge": 2**64}]}  # fmt: skip
    decoded = decode_examples(json.dumps(document).encode())
    assert decoded.signature_name == ""
    message = proto_module("tensorflow.core.example.example_pb2").Example.FromString(decoded.examples[0])
    feature = message.features.feature
    assert str(list(feature["f"].float_list.value)) == "[1.5, nan]"
    assert list(feature["i"].int64_list.value) == [1, 1, -(2**63)]
    assert list(feature["s"].bytes_list.value) == ["é".encode(), b"\xff"]
    assert list(feature["one"].float_list.value) == [2.5]
    assert feature["empty"].WhichOneof("kind") is None
    assert list(feature["huge"].float_list.value) == [2.0**64]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b'{"signature_name": 1}', "'signature_name' key must be a string value."),
        (b'{"context": [], "examples": []}', "Example must be JSON object but got JSON Array"),
        (b"{}", "When method is classify, key 'examples' is expected and was not found"),
        (b'{"examples": {}}', "Expecting 'examples' value to be an list/array"),
        (b'{"examples": []}', "'examples' value is an empty array"),
        (b'{"examples": [true]}', "Example must be JSON object but got JSON True"),
        (b'{"examples": [{"f": [1, 2.5]}]}', "Unexpected element type in feature: f expecting type: int64"),
        (b'{"examples": [{"f": [2.5, 1]}]}', "Unexpected element type in feature: f expecting type: float"),
        (b'{"examples": [{"f": ["a", 1]}]}', "Unexpected element type in feature: f expecting type: bytes"),
        (b'{"examples": [{"f": [null]}]}', "Feature: f has element with unexpected JSON type: Null"),
        (b'{"examples": [{"f": [[1.0]]}]}', "Feature: f has element with unexpected JSON type: Array"),
        (b'{"examples": [{"f": {"b64": 1}}]}', "Feature: f has element with unexpected JSON type: Object"),
        (b'{"examples": [{"f": {"b64": "!"}}]}', "Unable to base64 decode"),
        (b'{"examples": [{"f": 9223372036854775808}]}', "Feature: f has uint64 element. Only int64 is supported."),
        (b'{"examples": [{"f": 1e39}]}', "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        (b'{"examples": [{"f": [1e39, 1.0]}]}', "Cannot convert JSON value: 1e+39 to float without loss"),
        (b'{"examples": [{"f": "\\ud800"}]}', "JSON Parse error: The surrogate pair in string is invalid."),
        (b'{"examples": [{"\\ud800": 1}]}', "JSON Parse error: The surrogate pair in string is invalid."),
    ],
)  # fmt: skip
def test_bodies_that_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        decode_examples(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("verb", "signature", "code", "message"),
    [
        ("classify", "none", Code.INVALID_ARGUMENT, "No signature was found with the name: none"),
        ("classify", "", Code.INVALID_ARGUMENT, "No signature was found with the name: serving_default"),
        ("classify", "two", Code.INVALID_ARGUMENT, "Expected one input Tensor."),
        ("classify", "classify_three", Code.INVALID_ARGUMENT, "Expected one or two output Tensors, found 3"),
        ("classify", "classify_renamed", Code.FAILED_PRECONDITION, "No classification inputs found in SignatureDef: "),
        ("classify", "classify_other", Code.FAILED_PRECONDITION, "Expected classification signature outputs to"),
        ("classify", "classify_flat", Code.INVALID_ARGUMENT, "shape: [batch_size num_classes] but got [2]"),
        ("classify", "classify_int", Code.INVALID_ARGUMENT, "Expected scores Tensor of DT_FLOAT. Got: DT_INT32"),
        ("classify", "classify_short", Code.INVALID_ARGUMENT, "Expected scores output batch size of 2. Got: 1"),
        ("classify", "classify_unlike", Code.INVALID_ARGUMENT, "Tensors class and score should match in dim_size(1)."),
        ("regress", "none", Code.INVALID_ARGUMENT, "No signature was found with the name: none"),
        ("regress", "two", Code.INVALID_ARGUMENT, "Expected one input Tensor."),
        ("regress", "classify", Code.INVALID_ARGUMENT, "Expected one output Tensor."),
        ("regress", "classify_renamed", Code.FAILED_PRECONDITION, "No regression inputs found in SignatureDef: "),
        ("regress", "regress_other", Code.FAILED_PRECONDITION, "No regression outputs found in SignatureDef: "),
        ("regress", "regress_wide", Code.INVALID_ARGUMENT, "either [batch_size] or [batch_size, 1] but got [2,2]"),
        ("regress", "regress_int", Code.INVALID_ARGUMENT, "Expected output Tensor of DT_FLOAT.  Got: DT_INT32"),
        ("regress", "regress_short", Code.INVALID_ARGUMENT, "did not match output batch size: 2 vs. 1"),
    ],
)  # fmt: skip
def test_signatures_that_are_refused(handlers: Handlers, verb: str, signature: str, code: Code, message: str) -> None:
    kind = {"classify": "classification_pb2", "regress": "regression_pb2"}[verb]
    with pytest.raises(ServingError) as caught:
        getattr(handlers, verb)(request(kind, signature, (1, 2), (3, 4)))
    assert caught.value.code is code
    assert message in caught.value.message


def test_an_example_without_the_feature_and_an_empty_input(handlers: Handlers) -> None:
    with pytest.raises(ServingError) as caught:
        handlers.classify(request("classification_pb2", "classify", ()))
    assert caught.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(ServingError, match=r"^Input is empty\.$"):
        handlers.regress(request("regression_pb2", "regress"))


def test_method_names_are_looked_at_only_when_told_to(kinds_server: Server) -> None:
    handlers = Handlers(kinds_server.manager, Metrics(), check_method_names=True)
    for verb, kind, word in (
        ("classify", "classification_pb2", "classification"),
        ("regress", "regression_pb2", "regression"),
    ):
        with pytest.raises(
            ServingError, match=f"Expected {word} signature method_name to be tensorflow/serving/{verb}. Was"
        ):
            getattr(handlers, verb)(request(kind, verb, (1, 2)))
    options = dataclasses.replace(kinds_server.options, enable_signature_method_name_check=True)
    answer = RestApi(kinds_server.manager, options, Metrics()).answer(
        "POST", "/v1/models/kinds:classify", b'{"signature_name": "classify", "examples": [{"x": [1.0, 2.0]}]}'
    )
    assert answer.status == 400


def multi(*tasks: tuple[str, str, str]) -> Any:
    message = apis("inference_pb2").MultiInferenceRequest(input=examples_input((1, 2), (3, 5)))
    for name, signature, method in tasks:
        task = message.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = name, signature
    return message


def test_several_questions_at_once(handlers: Handlers) -> None:
    response = handlers.multi_inference(multi(("kinds", "regress", REGRESS), ("kinds", "classify", CLASSIFY)))
    first, second = response.results
    assert (first.model_spec.name, first.model_spec.version.value, first.model_spec.signature_name) == (
        "kinds",
        1,
        "regress",
    )
    assert [regression.value for regression in first.regression_result.regressions] == [3, 8]
    scores = [[c.score for c in row.classes] for row in second.classification_result.classifications]
    assert scores == [[1, 2], [3, 5]]


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        ([], Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        ([("kinds", "regress", REGRESS), ("", "a", CLASSIFY)], Code.INVALID_ARGUMENT, "with an empty model name."),
        ([("kinds", "regress", REGRESS), ("b", "a", CLASSIFY)], Code.INVALID_ARGUMENT, "must access the same model"),
        ([("kinds", "regress", REGRESS)] * 2, Code.INVALID_ARGUMENT, "Duplicate evaluation of signature: regress"),
        ([("kinds", "", REGRESS)], Code.INVALID_ARGUMENT, "not found in model graph: serving_default"),
        ([("kinds", "regress", "x")], Code.UNIMPLEMENTED, "Unsupported signature method_name: x"),
        ([("none", "regress", REGRESS)], Code.NOT_FOUND, "Servable not found for request: Latest(none)"),
    ],
)  # fmt: skip
def test_several_questions_that_are_refused(handlers: Handlers, tasks: list[Any], code: Code, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        handlers.multi_inference(multi(*tasks))
    assert caught.value.code is code
    assert message in caught.value.message


def test_recorded_requests_can_be_replayed(kinds_server: Server) -> None:
    log_class = apis("prediction_log_pb2").PredictionLog
    with kinds_server.manager.handle("kinds") as (_, model):
        log = log_class()
        log.classify_log.request.CopyFrom(request("classification_pb2", "classify", (1, 2)))
        assert replay(model, log).result.classifications[0].classes[1].score == 2
        log = log_class()
        log.multi_inference_log.request.CopyFrom(multi(("kinds", "regress", REGRESS)))
        assert len(replay(model, log).results) == 1
        with pytest.raises(ServingError, match="Unsupported log_type for warmup: None"):
            replay(model, log_class())
