"""The REST API over a real socket: routes, status codes, kinds of numbers."""

import base64
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from rest_calls import ROW, ask, predict
from waiting import PATIENCE

from examples import example
from serving.metrics import Metrics
from serving.rest.api import RestApi
from serving.server import Server, ServerOptions


def test_predict_by_rows_and_by_columns(server: Server) -> None:
    status, rows = predict(server, {"instances": [ROW, ROW]})
    assert status == 200
    assert [set(row) for row in rows["predictions"]] == [{"logits", "probabilities", "class_id", "label"}] * 2
    assert rows["predictions"][0] == rows["predictions"][1]
    # Sums of small binary fractions: exact in float32.
    assert rows["predictions"][0]["logits"] == [0.0, 0.5]
    assert rows["predictions"][0]["label"] == "class_b"
    status, columns = predict(server, {"inputs": [ROW, ROW]})
    assert status == 200
    assert columns["outputs"]["class_id"] == [1, 1]
    assert columns["outputs"]["label"] == ["class_b", "class_b"]


def test_predict_with_lengths_and_a_version(server: Server) -> None:
    document = {
        "signature_name": "serving_padded",
        "instances": [{"features": ROW, "lengths": 1}, {"features": ROW, "lengths": 2}],
    }
    status, answer = predict(server, document, "/V1/models/digits/versions/0001:Predict")
    assert status == 200
    assert [row["logits"] for row in answer["predictions"]] == [[-1.5, 0.875], [0.0, 0.5]]


def test_non_finite_numbers_pass_through(server: Server) -> None:
    status, answer = ask(server, "POST", "/v1/models/digits:predict", '{"inputs": [[[NaN, 1, Infinity]]]}')
    assert status == 200
    assert answer["outputs"]["class_id"] == [-1]
    assert answer["outputs"]["label"] == [""]
    assert np.isnan(answer["outputs"]["logits"]).all()


def test_status_and_metadata(server: Server) -> None:
    available = {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    assert ask(server, "GET", "/v1/models/digits") == (200, available)
    assert ask(server, "GET", "/v1/models/digits/versions/1") == (200, available)
    assert ask(server, "GET", "/v1/models/digits/labels/any") == (200, available)
    status, metadata = ask(server, "GET", "/v1/models/digits/metadata")
    assert status == 200
    assert metadata["model_spec"] == {"name": "digits", "signature_name": "", "version": "1"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "serving_padded", "__saved_model_init_op"}
    assert signatures["serving_default"]["inputs"]["features"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "-1", "name": ""}, {"size": "3", "name": ""}],
            "unknown_rank": False,
        },
        "name": "serving_default_features:0",
    }
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"
    assert signatures["serving_default"]["defaults"] == {}
    assert list(signatures["serving_default"]["outputs"]) == ["class_id", "label", "logits", "probabilities"]


BIG = "9" * 30
MODELS, VERSIONS = "models here: digits", "versions of digits here: 1"
NOT_SERVED = f"Servable not found for request: Specific(digits, 7); {VERSIONS}"
UNKNOWN = f"Servable not found for request: Latest(none); {MODELS}"
UNKNOWN_LABEL = "Unrecognized servable version label: stable; labels of digits: none"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/v1/models", None, 400, "Missing model name in request."),
        ("GET", "/v1/models/", None, 400, "Malformed request: GET /v1/models/"),
        ("GET", "/v1/models/a/b", None, 400, "Malformed request: GET /v1/models/a/b"),
        ("GET", "/v1/models/digits:predict", None, 400, "Malformed request: GET /v1/models/digits:predict"),
        ("PUT", "/v1/models/digits:predict", "{}", 400, "Malformed request: PUT /v1/models/digits:predict"),
        ("DELETE", "/v1/models/digits", None, 400, "Malformed request: DELETE /v1/models/digits"),
        ("POST", "/v1/models/digits:explain", "{}", 400, "Malformed request: POST /v1/models/digits:explain"),
        ("GET", "/index.html", None, 404, None),
        ("GET", "/v2/models/digits", None, 404, None),
        ("GET", "/v1/models/none", None, 404, f"Could not find any versions of model none; {MODELS}"),
        ("GET", "/v1/models/..%2F..%2Fetc", None, 404, f"Could not find any versions of model ../../etc; {MODELS}"),
        ("GET", "/v1/models/digits/versions/7", None, 404, f"Could not find version 7 of model digits; {VERSIONS}"),
        ("GET", f"/v1/models/digits/versions/{BIG}", None, 400, f"Failed to convert version: {BIG} to numeric."),
        ("GET", "/v1/models/none/metadata", None, 404, UNKNOWN),
        ("GET", "/v1/models/digits/versions/7/metadata", None, 404, NOT_SERVED),
        ("POST", "/v1/models/none:predict", '{"inputs": 1}', 404, UNKNOWN),
        ("POST", "/v1/models/none:predict", "", 400, "JSON Parse error: The document is empty"),
        ("POST", "/v1/models/digits/versions/7:predict", "{}", 404, NOT_SERVED),
        ("POST", "/v1/models/digits/labels/stable:predict", "{}", 400, UNKNOWN_LABEL),
        (
            "POST", "/v1/models/digits:predict", '{"signature_name": "x", "inputs": 1}', 400,
            'Serving signature name: "x" not found in signature def',
        ),
        (
            "POST", "/v1/models/digits:predict", '{"signature_name": "__saved_model_init_op", "inputs": 1}', 400,
            "Failed to get input map for signature: __saved_model_init_op",
        ),
        ("POST", "/v1/models/digits:predict", '{"instances": [[[1, 2, 3], [4]]]}', 400, None),
        ("POST", "/v1/models/digits:predict", '{"instances": [[[1, 2]]]}', 400, None),
        ("POST", "/v1/models/digits:predict", '{"instances": [1]}', 400, None),
        ("POST", "/v1/models/digits:predict", '{"inputs": 1}', 400, None),
        ("POST", "/v1/models/digits:predict", "not json", 400, "JSON Parse error: Invalid value. at offset: 0"),
        ("GET", "/v1/models/digits/labels/stable/metadata", None, 400, UNKNOWN_LABEL),
        ("POST", "/v1/models/none:classify", '{"examples": [{}]}', 404, UNKNOWN),
        ("POST", "/v1/models/none:regress", "[]", 400, "JSON Value: [] Is not object"),
        ("OPTIONS", "/v1/models/digits", None, 400, "Origin header is missing in CORS preflight"),
    ],
)  # fmt: skip
def test_errors(server: Server, method: str, path: str, body: str | None, status: int, message: str | None) -> None:
    answer = ask(server, method, path, body)
    assert answer[0] == status
    assert set(answer[1]) == {"error"}
    if message is not None:
        assert answer[1]["error"] == message
    assert ask(server, "GET", "/v1/models/digits")[0] == 200


def test_a_shape_that_the_graph_refuses(server: Server) -> None:
    status, answer = predict(server, {"instances": [[[1, 2]]]})
    assert status == 400
    # TensorFlow's own words follow, in brackets.
    assert answer["error"].startswith("input 'features' has shape (1, 1, 2), the signature takes (any, any, 3) (")


def test_preflight_and_head(server: Server) -> None:
    assert ask(server, "OPTIONS", "/v1/models/digits", Origin="http://example.org")[0] == 200
    api = RestApi(server.manager, ServerOptions(), Metrics())
    assert api.answer("OPTIONS", "/v1/models/digits", b"", "http://example.org").headers is None
    api = RestApi(server.manager, ServerOptions(rest_api_enable_cors_support=True), Metrics())
    for answer in (
        api.answer("OPTIONS", "/v1/models/digits", b"", "http://example.org"),
        api.answer("GET", "/v1/models/none", b""),
    ):
        assert answer.headers is not None
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert ask(server, "HEAD", "/v1/models/digits") == (200, None)


@pytest.mark.parametrize(
    ("signature", "inputs", "status", "expected"),
    [
        ("echo_string", ["a", {"b64": "/w=="}], 200, None),
        ("bytes", [{"b64": "AP8="}], 200, {"s_bytes": [{"b64": "AP8="}], "n": [2]}),
        ("echo_int64", [[9007199254740993]], 200, [[9007199254740993]]),
        ("echo_bool", [True], 200, [True]),
        ("echo_half", [1.5], 501, "Conversion of JSON Value: 1.5 to type: half"),
        ("two", {"a": [[1, 2]], "b": [3]}, 200, {"sum": [[4.0, 5.0]], "b": [3]}),
        ("scalar", [[1, 2]], 200, 1.5),
    ],
)
def test_kinds(kinds_server: Server, signature: str, inputs: object, status: int, expected: object) -> None:
    document = json.dumps({"signature_name": signature, "inputs": inputs})
    if signature == "echo_string":
        # A string that is not UTF-8 goes out as it came in, as TensorFlow Serving writes it.
        connection = http.client.HTTPConnection(urlsplit(kinds_server.url).netloc, timeout=PATIENCE)
        connection.request("POST", "/v1/models/kinds:predict", document)
        assert connection.getresponse().read() == b'{\n    "outputs": ["a", "\xff"]\n}'
        connection.close()
        return
    answer = predict(kinds_server, json.loads(document), "/v1/models/kinds:predict")
    assert answer == (status, {"outputs" if status == 200 else "error": expected})


def test_outputs_that_cannot_be_rows(kinds_server: Server) -> None:
    for signature, message in (
        ("scalar", "Tensor name: mean has no shape information "),
        ("halves", "Tensor name: first has inconsistent batch size: 1 expecting: 2"),
    ):
        answer = predict(
            kinds_server, {"signature_name": signature, "instances": [[1, 2], [3, 4]]}, "/v1/models/kinds:predict"
        )
        assert answer == (400, {"error": message})


def test_labels_are_looked_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int | None, str | None]] = []
    handle = server.manager.handle

    def by_label(name: str, version: int | None = None, label: str | None = None) -> Any:
        asked.append((name, version, label))
        return handle(name, version)

    monkeypatch.setattr(server.manager, "handle", by_label)
    assert predict(server, {"inputs": [ROW]}, "/v1/models/digits/labels/first%20one:predict")[0] == 200
    assert ask(server, "GET", "/v1/models/digits/labels/stable/metadata")[0] == 200
    assert asked == [("digits", None, "first one"), ("digits", None, "stable")]


def test_rows_without_a_row(kinds_server: Server) -> None:
    document = {"signature_name": "classify_short", "instances": [{"b64": base64.b64encode(example(1, 2)).decode()}]}
    answer = predict(kinds_server, document, "/v1/models/kinds:predict")
    assert answer == (400, {"error": "Tensor name: scores has invalid batch size: 0"})


def test_the_page_is_there_and_can_be_left_out(server: Server) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'["digits"]' in response.read()
    connection.close()
    assert RestApi(server.manager, ServerOptions(page=False), Metrics()).answer("GET", "/", b"").status == 404
