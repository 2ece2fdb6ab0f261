"""Streaming sessions against the real servers, and `zoo predict --stream`."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy_serving import NumpyManager, classifier

from serving.cli import client as client_commands
from serving.client import Client, ServerError, StreamingSession, Unreachable, VersionGone, connect, retries
from serving.client.sequences import InputError
from serving.errors import Code, ServingError

SEQUENCE = np.random.default_rng(1).normal(size=(11, 3)).astype("float32")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, numpy_served: SimpleNamespace) -> Iterator[Client]:
    with connect(getattr(numpy_served, request.param), "stream") as client:
        yield client


@pytest.fixture
def manager(numpy_served: SimpleNamespace) -> NumpyManager:
    manager: NumpyManager = numpy_served.manager
    manager.models["stream"] = {1: classifier()}
    return manager


def test_chunk_by_chunk_is_the_whole_sequence(manager: NumpyManager, client: Client) -> None:
    session = StreamingSession(client)
    assert {name: (array.shape, array.any()) for name, array in session.state.items()} == {
        "pool_sum": ((1, 3), False), "pool_count": ((1,), False),
    }  # fmt: skip
    for size in (1, 4, 6):
        seen = int(session.state["pool_count"][0])
        answer = session.step(SEQUENCE[seen : seen + size])
    (whole,) = client.predict([SEQUENCE])
    assert answer.class_id == whole.class_id
    assert answer.probabilities == pytest.approx(whole.probabilities, abs=1e-6)
    assert session.state["pool_count"].tolist() == [11.0]
    session.reset()
    assert not session.state["pool_sum"].any()


def test_a_lost_chunk_is_sent_again_with_the_old_state(manager: NumpyManager, client: Client) -> None:
    session = StreamingSession(client)
    session.step(SEQUENCE[:5])
    manager.fail[:] = [ServingError(Code.UNAVAILABLE, "busy")]
    session.step(SEQUENCE[5:])
    assert session.state["pool_sum"][0] == pytest.approx(SEQUENCE.sum(0), abs=1e-5)
    before = session.state
    manager.fail[:] = [ServingError(Code.INTERNAL, "broken")]
    with pytest.raises(ServerError, match="broken"):
        session.step(SEQUENCE[:1])
    with pytest.raises(InputError, match="sequence 0 has shape"):
        session.step(SEQUENCE[:0])
    assert all((session.state[name] == array).all() for name, array in before.items())


def test_the_session_stays_with_its_version(manager: NumpyManager, client: Client) -> None:
    session, restarting = StreamingSession(client), StreamingSession(client, on_swap="restart")
    positive = [[1.0, 0.0, 0.0]]
    session.step(positive)
    restarting.step(positive)
    manager.models["stream"][2] = classifier(-1.0)
    assert session.step(positive).label == "b"
    assert session.version == 1
    del manager.models["stream"][1]
    with pytest.raises(VersionGone, match=r"version 1 of stream, with which this session began, is no longer served"):
        session.step(positive)
    assert restarting.step(positive).label == "a"
    assert (restarting.version, restarting.restarts) == (2, 1)
    assert restarting.state["pool_count"].tolist() == [1.0]
    session.reset()
    assert session.step(positive).label == "a"
    del manager.models["stream"][2]
    with pytest.raises(ServerError):
        restarting.step(positive)


def test_state_in_a_file(manager: NumpyManager, client: Client, tmp_path: Path) -> None:
    session = StreamingSession(client)
    session.step(SEQUENCE[:5])
    session.save(tmp_path / "state")
    other = StreamingSession(client)
    other.load(tmp_path / "state")
    assert other.step(SEQUENCE[5:]) == session.step(SEQUENCE[5:])
    with pytest.raises(InputError, match=r"version 1 takes \{'pool_count': \(1,\), 'pool_sum': \(1, 3\)"):
        other.restore({"pool_sum": np.zeros((2, 3))}, 1)
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    with pytest.raises(InputError, match="was not saved by a streaming session"):
        other.load(tmp_path / "other.npz")
    manager.models["stream"] = {2: classifier()}
    with pytest.raises(VersionGone, match="version 1, which computed this state, is not served"):
        other.load(tmp_path / "state")


def test_streams_that_go_in_step(manager: NumpyManager, client: Client) -> None:
    session = StreamingSession(client, batch=2)
    answers = session.step_all([[[1, 0, 0]], [[-1, 0, 0]]])
    assert [answer.label for answer in answers] == ["b", "a"]
    assert session.state["pool_sum"].shape == (2, 3)
    with pytest.raises(InputError, match="got 1 chunks for 2 streams"):
        session.step_all([[[1, 0, 0]]])
    with pytest.raises(InputError, match=r"chunks have \[1, 2\] steps"):
        session.step_all([[[1, 0, 0]], [[1, 0, 0]] * 2])
    with pytest.raises(InputError, match="use step_all"):
        session.step([[1, 0, 0]])


def test_a_chunk_with_other_channels_is_told_from_what_the_model_takes(manager: NumpyManager, client: Client) -> None:
    session = StreamingSession(client)
    with pytest.raises(InputError, match="stream: step 0 of sequence 0 has 5 values; the model takes 3"):
        session.step(np.zeros((2, 5)))
    assert session.step(SEQUENCE[:1])


def test_models_that_cannot(numpy_served: SimpleNamespace) -> None:
    # The server refused nothing: what it has is what does not do.
    cannot = r"^version 1 of numbers has no signature stream_step .*\(it has: "
    with connect(numpy_served.grpc, "numbers") as client, pytest.raises(ServerError, match=cannot):
        StreamingSession(client)
    with connect("127.0.0.1:9", "numbers", retries=0) as client, pytest.raises(Unreachable):
        StreamingSession(client)


def predict(target: str, *arguments: str, **extra: Any) -> Any:
    result = CliRunner().invoke(client_commands.predict, ["--target", target, *arguments], **extra)
    assert result.exit_code == 0, result.exception
    return result.output.splitlines()


def test_the_verb_on_a_file(manager: NumpyManager, numpy_served: SimpleNamespace, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SEQUENCE)
    lines = predict(numpy_served.rest, "--model_name=stream", "--stream=4", "--json", str(tmp_path / "x.npy"))
    answers = [json.loads(line) for line in lines]
    assert [answer["steps"] for answer in answers] == [4, 8, 11]
    assert [answer["class_id"] for answer in answers] == [int(SEQUENCE[:end].sum() > 0) for end in (4, 8, 11)]


def test_the_verb_on_lines(manager: NumpyManager, numpy_served: SimpleNamespace) -> None:
    lines = "[1, 0, 0]\n\n[[-3, 0, 0], [1, 0, 0]]\n"
    shown = predict(numpy_served.grpc, "--model_name=stream", "--stream=2", "-", input=lines)
    assert shown == ["     2  a  0.8808", "     3  a  0.7311"]
    wrong = CliRunner().invoke(
        client_commands.predict, ["--target", numpy_served.grpc, "--model_name=stream", "--stream=1", "-"], input="[1,"
    )
    assert isinstance(wrong.exception, InputError)
    assert "line 1 is not JSON" in str(wrong.exception)


def test_the_verb_on_text(numpy_served: SimpleNamespace, tmp_path: Path) -> None:
    shown = predict(numpy_served.grpc, "--model_name=text", "--stream=3", "-", input="abC\nDe")
    assert shown == ["     3  b  0.7311", "     6  a  0.7311"]
    (tmp_path / "x.txt").write_text("aB\n\nC\n")
    shown = predict(numpy_served.rest, "--model_name=text", str(tmp_path / "x.txt"))
    assert shown == [
        "row  step  label  probability",
        "  0     0  a           0.7311",
        "  0     1  b           0.7311",
        "  1     0  b           0.7311",
    ]
