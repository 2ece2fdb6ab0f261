"""The server over a real socket: routes, status codes, bodies, keep-alive, limits."""

import base64
import gzip
import http.client
import json
import socket
import threading
import time
import tracemalloc
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from waiting import PATIENCE, until

from examples import example
from serving import http_body, http_server
from serving.errors import ServingError
from serving.metrics import Metrics
from serving.rest import Response, RestApi
from serving.server import Server, ServerOptions

ROW = [[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]]


def ask(server: Server, method: str, path: str, body: bytes | str | None = None, **headers: str):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read()
        assert response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


def raw(server: Server, data: bytes, seconds: float = 20.0) -> bytes:
    """Send bytes, then read until the server closes."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


def predict(server: Server, document: object, path: str = "/v1/models/digits:predict"):
    return ask(server, "POST", path, json.dumps(document))


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
    assert ask(server, "HEAD", "/v1/models/digits") == (400, None)


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


def test_gzip(server: Server) -> None:
    body = json.dumps({"inputs": [ROW]}).encode()
    path = "/v1/models/digits:predict"
    assert ask(server, "POST", path, gzip.compress(body), Content_Encoding="gzip")[0] == 200
    status, answer = ask(server, "POST", path, body, Content_Encoding="gzip")
    assert (status, "gzip" in answer["error"]) == (400, True)
    assert ask(server, "POST", path, gzip.compress(body)[:-9], Content_Encoding="gzip")[0] == 400


def test_limits(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "MAX_BODY_BYTES", 1000)
    path = "/v1/models/digits:predict"
    status, answer = ask(server, "POST", path, b" " * 1001)
    assert (status, "at most 1000" in answer["error"]) == (413, True)
    status, answer = ask(server, "POST", path, gzip.compress(b" " * 100_000), Content_Encoding="gzip")
    assert (status, "at most 1000" in answer["error"]) == (413, True)
    chunk = b"258\r\n" + b" " * 600 + b"\r\n"
    answer = raw(server, f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunk * 2)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert ask(server, "GET", "/v1/models/digits")[0] == 200


def test_a_small_body_that_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "MAX_BODY_BYTES", 10**6)
    headers = Message()
    headers["Content-Encoding"] = "gzip"
    bomb = gzip.compress(bytes(50 * 10**6), 1)
    tracemalloc.start()
    with pytest.raises(http_body.ContentError):
        http_body.decode_content(headers, bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 10**6


def test_a_refused_client_gets_its_answer_although_it_goes_on_sending(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "LINGER_SECONDS", PATIENCE)
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(HEAD + b"Content-Length: 999999999\r\n\r\n")
        for _ in range(20):
            connection.sendall(b" " * 100_000)
            time.sleep(0.01)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body(server: Server) -> None:
    body = json.dumps({"inputs": [ROW]}).encode()
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    parts = iter([body[:7], body[7:]])
    for _ in range(2):
        connection.request("POST", "/v1/models/digits:predict", parts, encode_chunked=True)
        response = connection.getresponse()
        assert response.status == 200
        assert json.loads(response.read())["outputs"]["class_id"] == [1]
        parts = iter([body])
    connection.close()


HEAD = b"POST /v1/models/digits:predict HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (HEAD + b"\r\n{}", 411),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: ten\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1_0\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}", 413),
        (HEAD + b"Content-Length: 50\r\n\r\n{}", 400),
        (HEAD + b"Transfer-Encoding: rot13\r\n\r\n{}", 501),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}9\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v1/models/digits HTTP/9.9\r\n\r\n", 505),
        (b"FETCH /v1/models/digits HTTP/1.1\r\n\r\n", 501),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_what_is_no_proper_http(server: Server, request_bytes: bytes, status: int) -> None:
    answer = raw(server, request_bytes)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[:2] == [b"HTTP/1.1", str(status).encode()]
    assert b"connection: close" in head.lower()
    assert set(json.loads(body)) == {"error"}
    assert ask(server, "GET", "/v1/models/digits")[0] == 200


def test_keep_alive_stays_in_step_after_errors(server: Server) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    connection.connect()
    used = connection.sock
    good = json.dumps({"inputs": [ROW]})
    for path, body, status in [
        ("/v1/models/digits:predict", good, 200),
        ("/v1/models/digits:predict", "[" * 50, 400),
        ("/v1/models/none:predict", good, 404),
        ("/elsewhere", good, 404),
        ("/v1/models/digits:classify", good, 400),
        ("/v1/models/digits:predict", '{"instances": [[[1, 2]]]}', 400),
        ("/v1/models/digits:predict", good, 200),
    ]:
        connection.request("POST", path, body)
        response = connection.getresponse()
        response.read()
        assert (path, response.status) == (path, status)
        assert connection.sock is used
    connection.request("GET", "/v1/models/digits", "a body where none is needed")
    assert connection.getresponse().read().startswith(b'{\n "model_version_status"')
    connection.close()


def test_a_client_that_waits_to_be_asked_for_its_body(server: Server) -> None:
    body = json.dumps({"inputs": [ROW]}).encode()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        connection.sendall(HEAD + f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_at_most_so_many_requests_are_worked_on_at_once() -> None:
    gate = threading.Event()

    class Api:
        now = most = 0
        lock = threading.Lock()

        def answer(self, *_: object) -> Response:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            gate.wait(PATIENCE)
            with self.lock:
                self.now -= 1
            return Response(200, b"{}")

    api = Api()
    rest_server = http_server.RestServer(("127.0.0.1", 0), api, threads=3)
    rest_server.server_activate()
    serving = threading.Thread(target=rest_server.serve_forever, args=(0.02,))
    serving.start()
    answers: list[bytes] = []

    def ask_once() -> None:
        with socket.create_connection(rest_server.server_address[:2], timeout=PATIENCE) as connection:
            connection.sendall(b"GET /v1/models/m HTTP/1.1\r\nHost: x\r\n\r\n")
            answers.append(connection.recv(1000))

    threads = [threading.Thread(target=ask_once) for _ in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: api.now == 3)
    time.sleep(0.1)  # for a fourth to come in, which it must not
    gate.set()
    for thread in threads:
        thread.join()
    assert rest_server.drain(PATIENCE)
    serving.join()
    assert len(answers) == 12
    assert api.most == 3


def test_two_requests_in_one_packet(server: Server) -> None:
    one = b"GET /v1/models/digits HTTP/1.1\r\nHost: x\r\n\r\n"
    assert raw(server, one * 2).count(b"HTTP/1.1 200 ") == 2


def test_a_slow_client_is_cut_off_and_others_go_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(http_server, "LINGER_SECONDS", PATIENCE)
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        answer = b""
        slow.settimeout(0.05)
        while b"\r\n\r\n" not in answer:
            slow.sendall(b" ")  # a byte now and then: no single read times out
            assert ask(server, "GET", "/v1/models/digits")[0] == 200
            try:
                answer += slow.recv(4096)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_goes_away_harms_nobody(server: Server) -> None:
    address = urlsplit(server.url)
    for data in (b"", b"POST", HEAD + b"Content-Length: 100\r\n\r\n{", HEAD + b"Content-Length: 2\r\n\r\n{}"):
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(data)
    assert ask(server, "GET", "/v1/models/digits")[0] == 200


def test_a_run_that_takes_too_long(saved_models: Path, tmp_path: Path) -> None:
    (tmp_path / "1").symlink_to(saved_models / "kinds")
    options = ServerOptions(model_base_path=tmp_path, model_name="kinds", rest_api_port=0, rest_api_timeout_in_ms=300)
    with Server(options) as running:
        document = {"signature_name": "slow", "inputs": [2**31 - 1]}
        assert predict(running, document, "/v1/models/kinds:predict")[0] == 504


def test_a_fault_of_the_server_is_one_line_to_the_client(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str) -> list[object]:
        raise ZeroDivisionError(f"secret detail of {name}")

    monkeypatch.setattr(server.manager, "statuses", fail)
    status, answer = ask(server, "GET", "/v1/models/digits")
    assert status == 500
    assert "secret" not in answer["error"]
    assert "secret detail" in caplog.text


def test_stopping_answers_what_is_in_flight(saved_models: Path, tmp_path: Path) -> None:
    (tmp_path / "1").symlink_to(saved_models / "one")
    running = Server(ServerOptions(model_base_path=tmp_path, model_name="digits", rest_api_port=0))
    running.start()
    url = running.url
    address = urlsplit(url)
    body = json.dumps({"inputs": [ROW]}).encode()
    with (
        socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as idle,
        socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as busy,
    ):
        busy.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:5])
        http = running._http
        assert http is not None
        until(lambda: (http._connections, len(http._idle)) == (2, 1))
        stopped: list[bool] = []
        stopper = threading.Thread(target=lambda: stopped.append(running.stop()))
        stopper.start()
        assert idle.recv(10) == b""
        busy.sendall(body[5:])
        answer = busy.recv(4096)
        stopper.join(PATIENCE)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in answer
    assert stopped == [True]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=1)


def test_a_port_that_is_taken(server: Server, tmp_path: Path) -> None:
    port = urlsplit(server.url).port
    with pytest.raises(ServingError, match="choose another --rest_api_port"):
        Server(ServerOptions(model_base_path=tmp_path, rest_api_port=port)).start()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "expected folders named by integers"),
        ("saved_model.pb", "give the folder that it lies in"),
        ("1/other.txt", "name: digits version: 1. due to error: NOT_FOUND"),
    ],
)
def test_nothing_to_serve(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / content).parent.mkdir(exist_ok=True)
        (tmp_path / content).write_bytes(b"x")
    with pytest.raises(ServingError, match=words):
        Server(ServerOptions(model_base_path=tmp_path, model_name="digits", rest_api_port=0)).start()
