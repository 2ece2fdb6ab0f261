"""Load on a server, and what is said about it."""

import json
import re
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy_serving import FLOAT, INT32, STRING, NumpyModel, classifier, spec

from serving.cli import bench as bench_command
from serving.cli.printing import report_lines
from serving.client import Request, ServerError, Unreachable, bench
from serving.errors import invalid
from serving.runtime.model import Signature

REQUESTS = [Request("a", b""), Request("b", b"")]


class SlowClient:
    """Takes `seconds` for every answer, one after the other, as a server with one thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.lock = threading.Lock()
        self.paths: list[str] = []

    def send(self, request: Request, *, timeout: float | None = None) -> bytes:
        with self.lock:
            time.sleep(self.seconds)
            self.paths.append(request.path)
        if len(self.paths) % 3 == 0:
            raise ServerError(503, "busy") if len(self.paths) % 2 else Unreachable("gone")
        return b""


def test_a_server_that_is_too_slow_cannot_hide_it() -> None:
    client: Any = SlowClient(0.005)
    # 600 a second at a server that can do 200: the queue grows by two seconds in three.
    load = bench.Load(rate=600, clients=4, seconds=0.3, warmup=0.05)
    found = bench.run(client, REQUESTS, load)
    assert set(client.paths) == {"a", "b"}
    # Counted from when they left, no request took more than 4 x 5 ms.
    assert found.percentile(100) > 0.2
    assert found.late > 0.5
    assert found.late_for_threads > 0.9
    assert set(found.errors) == {"503", "no connection"}
    assert found.answered + sum(found.errors.values()) > 100
    (*_, told) = report_lines(found, load, 1, bench.PERCENTILES)
    assert "all 4 threads were waiting: the server does not keep up" in told


def test_a_closed_loop_and_stopping() -> None:
    client: Any = SlowClient(0.001)
    progress = bench.Progress()
    threading.Timer(0.1, progress.stop.set).start()
    found = bench.run(client, REQUESTS, bench.Load(clients=2, seconds=60, warmup=0), progress)
    assert progress.sent == len(client.paths) == found.answered + sum(found.errors.values())
    assert found.elapsed < 5


def samples(*rows: tuple[float, float, float, str, bool]) -> list[bench.Sample]:
    return [bench.Sample(*row) for row in rows]


def test_the_summary() -> None:
    found = bench.summary(
        samples(
            (0.5, 0.5, 9.0, "", False),  # warm-up
            (1.0, 1.0, 1.25, "", False),
            (2.0, 2.25, 2.5, "", False),
            (3.0, 3.0, 4.0, "503", True),
        ),
        warmup=1.0,
    )
    assert found.latencies.tolist() == [0.25, 0.5]
    assert (found.elapsed, dict(found.errors), found.late, found.latest) == (3.0, {"503": 1}, 1 / 3, 0.25)
    lines = report_lines(found, bench.Load(rate=10, clients=2, seconds=3, warmup=1), 4, (50.0,))
    assert lines == [
        "open loop, 10 requests/s at random moments; 4 sequences a request; 3 s after 1 s of warm-up",
        "answered  2 requests, 0.7 a second (2.7 sequences a second)",
        "failed    1 503",
        "ms     p50     max",
        "    375.00  500.00",
        "late      33% of the requests left more than 1 ms late, the worst 250.0 ms; this program was late, not the "
        "server: lower --rate, or run it on a machine that is free",
    ]
    assert np.isnan(bench.summary([], 0.0).percentile(50))


def test_arrivals_are_poisson() -> None:
    gaps = np.diff(bench.arrivals(1000, 20, seed=1))
    assert gaps.mean() == pytest.approx(1e-3, rel=0.05)
    assert gaps.std() == pytest.approx(1e-3, rel=0.05)  # exponential: as wide as its mean


def test_random_inputs() -> None:
    inputs = {
        "features": spec(FLOAT, None, None, 3),
        "lengths": spec(INT32, None),
        "lstm_hidden": spec(FLOAT, None, 5),
        "text": spec(STRING, None),
    }
    arrays = bench.random_inputs(Signature(inputs, {}), 2, 7, np.random.default_rng(0))
    assert {name: array.shape for name, array in arrays.items()} == {
        "features": (2, 7, 3), "lengths": (2,), "lstm_hidden": (2, 5), "text": (2,),
    }  # fmt: skip
    assert arrays["features"].dtype == np.float32
    assert arrays["features"].std() > 0.5
    assert arrays["lengths"].tolist() == [7, 7]
    assert not arrays["lstm_hidden"].any()
    assert [len(text) for text in arrays["text"]] == [7, 7]


def test_requests_in_a_run_of_the_server() -> None:
    prefix = ":tensorflow:serving:batching_session"
    before = f'{prefix}:wrapped_run_count 2\n{prefix}:queuing_latency_count{{thread_pool_name="x"}} 4\n'
    after = f'{prefix}:wrapped_run_count 4\n{prefix}:queuing_latency_count{{thread_pool_name="x"}} 10\n'
    assert bench.requests_a_batch(before, after) == 3.0
    assert bench.requests_a_batch("", "") is None
    assert bench.metrics_of("http://127.0.0.1:9/metrics") == ""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench_command.bench_serve, arguments, standalone_mode=False)


@pytest.mark.parametrize("api", ["rest", "grpc"])
def test_the_verb(api: str, numpy_served: SimpleNamespace) -> None:
    load = ["--duration=0.2", "--warmup=0.05", "--batch=2", "--steps=5"]
    connection = ["--target", getattr(numpy_served, api), "--model_name=digits"]
    result = run(*connection, *load, "--rate=100", "--json")
    assert result.return_value == 0, result.exception
    found = json.loads(result.output)
    assert (found["loop"], found["batch"], found["errors"]) == ("open", 2, {})
    assert found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= found["latency_ms"]["max"]
    assert found["answered"] > 0
    result = run(*connection, *load, "--clients=2", "--histogram")
    assert result.return_value == 0, result.exception
    assert "closed loop, 2 clients" in result.output
    assert "#" in result.output


def test_nothing_answered_is_a_failure(numpy_served: SimpleNamespace) -> None:
    def refuse(features: object) -> dict[str, object]:
        raise invalid("no")

    signature, _ = classifier().functions["serving_default"]
    numpy_served.manager.models["broken"] = {1: NumpyModel({"serving_default": (signature, refuse)})}
    connection = ["--target", numpy_served.grpc, "--model_name=broken"]
    result = run(*connection, "--duration=0.05", "--warmup=0")
    assert result.return_value == 1
    assert re.search(r"failed    \d+ INVALID_ARGUMENT", result.output)
    assert "the model has no signature x" in str(run(*connection, "--signature_name=x").exception)
