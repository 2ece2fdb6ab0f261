"""The server over a real socket: bodies, limits, keep-alive, clients that misbehave, stopping."""

import gzip
import http.client
import json
import socket
import threading
import time
import tracemalloc
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rest_calls import ROW, ask, predict, raw
from waiting import PATIENCE, until

from serving.errors import ServingError
from serving.rest import http_body, http_server
from serving.rest.api import Response
from serving.server import Server, ServerOptions


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
    bomb = gzip.compress(bytes(50 * 10**6), 1)
    tracemalloc.start()
    with pytest.raises(http_body.ContentError):
        http_body.decode_content("gzip", bomb)
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
        (b"FETCH /v1/models/digits HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", 431),
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


@pytest.mark.parametrize(
    "begun",
    [
        HEAD + b"Content-Length: 1000\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n",
        HEAD + b"field: ",
        b"GET /v1/models/",
    ],
    ids=["body", "chunk", "field", "request line"],
)
def test_a_slow_client_is_cut_off_and_others_go_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http_server, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(http_server, "LINGER_SECONDS", PATIENCE)
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as slow:
        slow.sendall(begun)
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


@pytest.mark.parametrize("ports", [{"rest_api_port": 0}, {"rest_api_port": None, "port": 0}], ids=["REST", "gRPC"])
@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("no.such.host.invalid", "names no host that can be found: give an address of this machine"),
        ("192.0.2.1", "is not an address of this machine: give"),
    ],
)
def test_a_host_that_is_none(saved_models: Path, tmp_path: Path, ports: dict[str, int | None], host: str, words: str):
    (tmp_path / "1").symlink_to(saved_models / "one")
    with pytest.raises(ServingError, match=words):
        Server(ServerOptions(model_base_path=tmp_path, host=host, **ports)).start()


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
