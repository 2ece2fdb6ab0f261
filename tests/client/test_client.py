"""The client by REST against the real server, and against servers that misbehave."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_http import BUSY, LOADING, READY, scripted
from waiting import PATIENCE

from serving.client import RestClient, ServerError, TargetError, Unreachable, VersionState, base, retries
from serving.client.sequences import InputError, check_sequences, read_sequences
from serving.server import Server


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(base, "FIRST_PAUSE", 0.001)


SEQUENCES = [np.ones((4, 3)), np.ones((1, 3), "int64"), [[1, 2, 3], [0.5, 0, -1]]]


def test_predict(server: Server) -> None:
    with RestClient(server.url, "digits") as client:
        predictions = client.predict(SEQUENCES)
        alone = [client.predict([sequence])[0] for sequence in SEQUENCES]
    assert predictions == alone
    assert [type(value) for value in (predictions[0].label, predictions[0].class_id)] == [str, int]
    # A softmax in float32.
    assert sum(predictions[2].probabilities) == pytest.approx(1.0, abs=1e-6)
    # Logits 0 and 0.5, by hand.
    assert predictions[2].probabilities[1] == pytest.approx(1 / (1 + np.exp(-0.5)), abs=1e-6)
    assert (predictions[2].label, predictions[2].class_id) == ("class_b", 1)


def test_status_metadata_and_version(server: Server) -> None:
    with RestClient(server.url + "/", "digits", version=1) as client:
        client.wait_until_ready(PATIENCE)
        assert client.status() == [VersionState(1, "AVAILABLE")]
        assert client.metadata().version == 1
        assert client.predict([np.zeros((1, 3))])[0].class_id == 0
    with RestClient(server.url, "digits", version=9) as client, pytest.raises(ServerError) as caught:
        client.predict([np.zeros((1, 3))])
    message = "Servable not found for request: Specific(digits, 9); versions of digits here: 1"
    assert (caught.value.status, caught.value.message) == (404, message)


def test_non_finite_only_where_allowed(server: Server) -> None:
    sequence = np.array([[0, np.nan, 1]])
    with RestClient(server.url, "digits") as client:
        with pytest.raises(InputError, match="sequence 0 has nan at step 0, channel 1"):
            client.predict([sequence])
        (prediction,) = client.predict([sequence], allow_non_finite=True)
    assert (prediction.label, prediction.class_id) == ("", -1)
    assert np.isnan(prediction.probabilities).all()


RANDOM = np.random.default_rng(0).integers(0, 2**63, 20_000, dtype="uint64")
FLOATS = RANDOM.view("float32")[np.isfinite(RANDOM.view("float32"))]


@pytest.mark.parametrize(
    "array",
    [
        FLOATS,
        np.linspace(-2, 2, 7) / 3,
        np.arange(6, dtype="int64").reshape(2, 3).T + 2**60,
        np.array([1.5, -2.0], ">f4"),
        np.array([65504, 1e-7], "float16"),
        np.array([[True], [False]]),
        np.array([200], "uint8"),
        np.array(0.1, "float32"),
        np.array([[np.nan, np.inf, -np.inf]], "float32"),
        np.array([[b"\xff", b""]], object),
    ],
)
def test_what_is_sent_is_what_was_given(array: np.ndarray) -> None:
    with RestClient("http://127.0.0.1:1", "digits") as client:
        document = json.loads(client.prepare({'a "name"': array}, "one").body)
    sent = document["inputs"]['a "name"']
    assert document["signature_name"] == "one"
    if array.dtype == object:
        assert sent == [[{"b64": "/w=="}, {"b64": ""}]]
    else:
        np.testing.assert_array_equal(np.array(sent).astype(array.dtype), array)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], "got no sequence"),
        ([np.zeros(3)], r"sequence 0 has shape \(3,\)"),
        ([np.zeros((1, 3)), np.zeros((0, 3))], r"sequence 1 has shape \(0, 3\)"),
        ([np.zeros((1, 3)), np.zeros((1, 2))], "sequence 1 has 2 channels and sequence 0 has 3"),
        ([np.zeros((1, 3)), [["a", "b", "c"]]], "sequence 1 holds <U1"),
        ([[[1, 2], [3]]], "sequence 0 is ragged"),
        ([np.array([[True]])], "sequence 0 holds bool"),
        ([np.array([[1j]])], "sequence 0 holds complex128"),
        ([np.array([[1e39]])], "sequence 0 has 1e[+]39 at step 0, channel 0; give finite numbers that fit"),
        ([np.array([[None]])], "sequence 0 holds object"),
    ],
)
def test_input_is_checked_before_anything_is_sent(sequences: list[object], message: str) -> None:
    with scripted() as (url, requests), RestClient(url, "m") as client, pytest.raises(InputError, match=message):
        client.predict(sequences)
    assert requests == []


def test_sequences_that_the_model_does_not_take_are_told_from_those_it_does(server: Server) -> None:
    with RestClient(server.url, "digits") as client:
        with pytest.raises(InputError, match="digits: step 0 of sequence 0 has 5 values; the model takes 3"):
            client.predict([np.zeros((2, 5))])
        with pytest.raises(InputError, match="these are texts; the model takes sequences of numbers"):
            client.predict(["a text"])
        assert client.predict([np.zeros((1, 3))])


@pytest.mark.parametrize(
    ("answers", "calls"),
    [([BUSY, None, READY], 3), ([READY], 1), ([None, READY], 2)],
)
def test_lost_connections_and_503_are_tried_again(answers: list[object], calls: int) -> None:
    with scripted(*answers) as (url, requests), RestClient(url, "a b/c") as client:
        assert client.status() == [VersionState(1, "AVAILABLE")]
    assert requests == ["/v1/models/a%20b%2Fc"] * calls


@pytest.mark.parametrize(
    ("answers", "error", "message", "calls"),
    [
        ([BUSY] * 3, ServerError, "the server answered 503: busy", 3),
        ([None] * 3, Unreachable, "is the server up", 3),
        ([(500, b'{"error": "no"}')], ServerError, "the server answered 500: no", 1),
        ([(404, b"<html>")], ServerError, "not a JSON object", 1),
        ([(200, b"[]")], ServerError, "not a JSON object", 1),
    ],
)
def test_what_is_reported(answers: list[object], error: type[Exception], message: str, calls: int) -> None:
    with scripted(*answers) as (url, requests), RestClient(url, "m") as client, pytest.raises(error, match=message):
        client.status()
    assert len(requests) == calls


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        {"label": ["a"], "class_id": [0]},
        {"label": ["a"], "class_id": [0, 1], "probabilities": [[1.0]]},
        {"label": ["a"] * 2, "class_id": [0] * 2, "probabilities": [[1.0]] * 2},
        {"label": ["a"], "class_id": [5], "probabilities": [[1.0]]},
        {"label": [1], "class_id": [0], "probabilities": [[1.0]]},
        {"label": ["a"], "class_id": [0], "probabilities": [[None]]},
        {"predictions": [1.0]},
        {"predictions": [[1.0], [2.0]]},
    ],
)
def test_outputs_of_another_model(outputs: object) -> None:
    answer = (200, json.dumps({"outputs": outputs}).encode())
    with scripted(answer) as (url, _), RestClient(url, "m") as client, pytest.raises(ServerError):
        client.predict([np.zeros((1, 1))])


def test_waiting() -> None:
    with scripted((404, b'{"error": "not yet"}'), LOADING, READY) as (url, requests), RestClient(url, "m") as client:
        client.wait_until_ready(PATIENCE)
    assert len(requests) == 3
    with RestClient("http://127.0.0.1:9", "m") as client, pytest.raises(Unreachable, match=r"not ready within 0\.05 s"):
        client.wait_until_ready(0.05)


def test_an_answer_that_does_not_come_is_not_asked_for_again() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        client = RestClient(f"http://127.0.0.1:{port}", "m", timeout=0.1)
        with client, pytest.raises(Unreachable, match="timed out"):
            client.status()


@pytest.mark.parametrize(
    "target", ["", "localhost:8501", "grpc://x:1", "unix:/x", "ftp://x", "http://", "http://x:port", "http://x:99999"]
)
def test_targets(target: str) -> None:
    with pytest.raises(TargetError, match="give one like"):
        RestClient(target, "m")


def test_the_client_needs_no_tensorflow() -> None:
    program = "import sys, serving.client; print([m for m in sys.modules if m in ('tensorflow', 'keras', 'mlflow')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "arrays", "said"),
    [
        (
            "a.npz",
            {"x": np.zeros((4, 5, 3)), "y": np.zeros(4)},
            "x, y, which is data for training, as zoo train",
        ),
        ("a.npz", {"train_x": np.zeros((4, 5, 3)), "test_x": np.zeros((4, 5, 3))}, "which is data for training"),
        ("a.csv", None, r"\.csv files are for zoo train --data; give a \.npy"),
        ("a_TRAIN.ts", None, r"\.ts files are for zoo train --data"),
    ],
)
def test_data_for_training_is_told_from_sequences(tmp_path: Path, name: str, arrays: Any, said: str) -> None:
    path = tmp_path / name
    path.write_text("") if arrays is None else np.savez(path, **arrays)
    with pytest.raises(InputError, match=said):
        read_sequences(str(path))


def test_arrays_that_may_be_sequences_are_read_as_such(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 3)), y=np.zeros((4, 3)))
    assert [part.shape for part in read_sequences(str(tmp_path / "a.npz"))] == [(5, 3), (4, 3)]
    with pytest.raises(InputError, match=r"sequence 0 has shape \(4, 5, 3\).*go under the name features"):
        check_sequences([np.zeros((4, 5, 3))])
