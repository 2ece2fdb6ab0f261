"""Prometheus metrics: their text, and what requests leave in them."""

import json
import threading

import pytest

from serving.errors import ServingError
from serving.handlers import Handlers
from serving.metrics import Metrics
from serving.protos import apis
from serving.rest.api import RestApi
from serving.server import Server

LATENCY = ":tensorflow:serving:request_latency"


def test_text() -> None:
    metrics = Metrics()
    metrics.count("b_total", 2, model='say "hi"\n\\')
    metrics.gauge("a", 1.5)
    metrics.gauge("a", float("nan"))
    for value in (10, 10.5, 1e12):
        metrics.observe(LATENCY, value, model_name="m", API="Predict")
    lines = metrics.text().splitlines()
    labels = 'model_name="m",API="Predict"'
    assert lines[:3] == [
        "# TYPE :tensorflow:serving:request_latency histogram",
        f'{LATENCY}_bucket{{{labels},le="10"}} 1',
        f'{LATENCY}_bucket{{{labels},le="18"}} 2',
    ]
    assert lines[33:37] == [
        f'{LATENCY}_bucket{{{labels},le="1.47476e+09"}} 2',
        f'{LATENCY}_bucket{{{labels},le="+Inf"}} 3',
        f"{LATENCY}_sum{{{labels}}} 1000000000020.5",
        f"{LATENCY}_count{{{labels}}} 3",
    ]
    assert lines[37:] == ["# TYPE a gauge", "a NaN", "# TYPE b_total counter", 'b_total{model="say \\"hi\\"\\n\\\\"} 2']


def test_nothing_is_lost_between_threads() -> None:
    metrics = Metrics()

    def work() -> None:
        for value in range(500):
            metrics.count("requests")
            metrics.observe("latency", value)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "\nlatency_count 4000\n" in metrics.text()
    assert "\nrequests 4000\n" in metrics.text()


def test_requests_are_counted(kinds_server: Server) -> None:
    metrics = Metrics()
    api = RestApi(kinds_server.manager, kinds_server.options, metrics)
    handlers = Handlers(kinds_server.manager, metrics)
    examples = {"signature_name": "classify", "examples": [{"x": [1.0, 2.0]}] * 3}
    api.answer("POST", "/v1/models/kinds:classify", json.dumps(examples).encode())
    for name in ("kinds", "invented", "invented too"):
        api.answer("POST", f"/v1/models/{name}:predict", b"{}")
    with pytest.raises(ServingError):
        handlers.predict(apis("predict_pb2").PredictRequest())
    request = apis("predict_pb2").PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "kinds", "echo_float"
    request.inputs["x"].dtype = 1
    handlers.predict(request)
    lines = metrics.text().splitlines()
    prefix = ":tensorflow:serving:"
    for line in (
        'request_count{model_name="kinds",status="OK"} 2',
        'request_count{model_name="kinds",status="INVALID_ARGUMENT"} 1',
        # Names that nobody serves are not remembered.
        'request_count{model_name="",status="NOT_FOUND"} 2',
        'request_count{model_name="",status="INVALID_ARGUMENT"} 1',
        'request_example_count_total{model="kinds"} 3',
        'request_example_counts_bucket{model="kinds",le="2"} 0',
        'request_example_counts_bucket{model="kinds",le="4"} 1',
        'request_latency_count{model_name="kinds",API="classify",entrypoint="REST"} 1',
        'request_latency_count{model_name="kinds",API="Predict",entrypoint="GRPC"} 1',
        'runtime_latency_count{model_name="kinds",API="Classify",runtime="TF1"} 1',
        'runtime_latency_count{model_name="kinds",API="Predict",runtime="TF1"} 1',
    ):
        assert prefix + line in lines
    assert "invented" not in metrics.text()


def test_metrics_are_served_where_they_are_wanted(server: Server) -> None:
    metrics = Metrics()
    metrics.count("seen")
    answer = RestApi(server.manager, server.options, metrics, "/m").answer("GET", "/m", b"")
    assert (answer.status, answer.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert answer.body == b"# TYPE seen counter\nseen 1\n"
    assert RestApi(server.manager, server.options, metrics).answer("GET", "/m", b"").status == 404
