"""The gRPC API over a real port: answers, errors, tensors of every kind, limits, and the ways in."""

import dataclasses
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from waiting import PATIENCE

from examples import example, tensor
from serving.calls.tensor_protos import from_array, to_array
from serving.errors import Code, ServingError
from serving.grpc_server import GrpcServer
from serving.metrics import Metrics
from serving.protos import apis, proto_module
from serving.server import Server, ServerOptions

OPTIONS = ServerOptions(port=0, grpc_max_threads=4)


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("grpc") / "socket")


@pytest.fixture(scope="module")
def kinds_grpc(kinds_server: Server, socket_path: str) -> Iterator[GrpcServer]:
    """The SavedModel `kinds`, on a port and a socket, with the health service."""
    options = dataclasses.replace(OPTIONS, grpc_socket_path=socket_path, enable_grpc_healthcheck_service=True)
    server = GrpcServer(kinds_server.manager, options, Metrics())
    server.start()
    yield server
    assert server.stop(PATIENCE)


@pytest.fixture(scope="module")
def channel(kinds_grpc: GrpcServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{kinds_grpc.port}", [("grpc.max_receive_message_length", -1)]) as opened:
        yield opened


def predictor(channel: grpc.Channel) -> Any:
    return proto_module("tensorflow_serving.apis.prediction_service_pb2_grpc").PredictionServiceStub(channel)


def asked(signature: str, **inputs: Any) -> Any:
    """A request; an input is an array, or a finished message."""
    request = apis("predict_pb2").PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "kinds", signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(from_array(value) if isinstance(value, np.ndarray) else value)
    return request


VERSIONS = "versions of kinds here: 1"


def refused(call: Any, request: Any, timeout: float = PATIENCE) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=timeout)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("float", np.array([[1.5, np.nan], [np.inf, -0.0]], "float32")),
        ("double", np.array(1e300)),
        ("int32", np.zeros((0, 3), "int32")),
        ("int64", np.array([2**62, -1], "int64")),
        ("uint8", np.array([255], "uint8")),
        ("int8", np.array([-128, 127], "int8")),
        ("int16", np.array([-(2**15)], "int16")),
        ("uint32", np.array([2**32 - 1], "uint32")),
        ("uint64", np.array([2**64 - 1], "uint64")),
        ("bool", np.array([[True, False]])),
        ("half", np.array([0.5, -2.0, np.nan], "float16")),
        ("string", np.array([[b"", b"\x00\xff"], [b"short", b"long" * 99]], object)),
    ],
)
def test_every_type_comes_back_as_it_went(channel: grpc.Channel, kind: str, values: Any, as_content: bool) -> None:
    response = predictor(channel).Predict(asked(f"echo_{kind}", x=from_array(values, as_content=as_content)))
    assert response.outputs["y"].tensor_content == b""
    answer = to_array(response.outputs["y"])
    assert (answer.shape, answer.dtype) == (values.shape, values.dtype)
    np.testing.assert_array_equal(answer, values)


def test_the_answer_says_which_model_gave_it(channel: grpc.Channel) -> None:
    request = asked("two", a=np.ones((1, 2), "float32"), b=np.array([2], "int32"))
    request.model_spec.version.value = 1
    request.output_filter.append("b")
    response = predictor(channel).Predict(request)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name, set(response.outputs)) == ("kinds", 1, "two", {"b"})


def test_the_default_signature_and_answers_as_content(server: Server) -> None:
    options = dataclasses.replace(OPTIONS, enable_serialization_as_tensor_content=True)
    digits = GrpcServer(server.manager, options, Metrics())
    digits.start()
    request = apis("predict_pb2").PredictRequest()
    request.model_spec.name = "digits"
    request.inputs["features"].CopyFrom(from_array(np.ones((2, 1, 3), "float32")))
    with grpc.insecure_channel(f"127.0.0.1:{digits.port}") as channel:
        response = predictor(channel).Predict(request)
    digits.stop(1)
    assert response.model_spec.signature_name == "serving_default"
    assert response.outputs["logits"].tensor_content == np.array([[0.25, 0.125]] * 2, "<f4").tobytes()
    assert list(response.outputs["label"].string_val) == [b"class_a"] * 2


def two(*inputs: str, wanted: tuple[str, ...] = (), **spec: Any) -> Any:
    request = asked("two", **{name: np.ones((1, 2), "float32") for name in inputs})
    request.output_filter.extend(wanted)
    for name, value in spec.items():
        if name == "version":
            request.model_spec.version.value = value
        else:
            setattr(request.model_spec, name, value)
    return request


@pytest.mark.parametrize(
    ("request_message", "code", "message"),
    [
        (two(signature_name="none"), "FAILED_PRECONDITION", 'Serving signature key "none" not found.'),
        (two("a"), "INVALID_ARGUMENT", "input size does not match signature: 1!=2 len({a}) != len({a,b}). "
                                       "Sent extra: {}. Missing but required: {b}."),
        (two("a", "c"), "INVALID_ARGUMENT", "input tensor alias not found in signature: c. "
                                            "Inputs expected to be in the set {a,b}."),
        (two("a", "b", wanted=("x",)), "INVALID_ARGUMENT", "output tensor alias not found in signature: x "
                                                           "Outputs expected to be in the set {b,sum}."),
        (two("a", "b", wanted=("b", "b")), "INVALID_ARGUMENT", "duplicate output tensor alias: b"),
        (two(name="none"), "NOT_FOUND", "Servable not found for request: Latest(none); models here: kinds"),
        (two(version=7), "NOT_FOUND", f"Servable not found for request: Specific(kinds, 7); {VERSIONS}"),
        (two(version=-1), "NOT_FOUND", f"Servable not found for request: Specific(kinds, -1); {VERSIONS}"),
        (two(version_label="best"), "INVALID_ARGUMENT", "Unrecognized servable version label: best; "
                                                        "labels of kinds: none"),
        (two(name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (apis("predict_pb2").PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ],
)  # fmt: skip
def test_errors(channel: grpc.Channel, request_message: Any, code: str, message: str) -> None:
    assert refused(predictor(channel).Predict, request_message) == (code, message)


def test_errors_of_tensors_and_of_the_graph(channel: grpc.Channel) -> None:
    predict = predictor(channel).Predict
    assert refused(predict, asked("echo_float", x=tensor((-1,)))) == (
        "INVALID_ARGUMENT", "tensor parsing error: x (the shape [-1] has a negative dimension)",
    )  # fmt: skip
    assert refused(predict, asked("echo_bfloat16", x=tensor((1,), 14)))[0] == "UNIMPLEMENTED"
    code, message = refused(predict, asked("echo_float", x=np.zeros(1)))
    assert (code, "must be of type float" in message) == ("INVALID_ARGUMENT", True)
    unlike = asked("two", a=np.ones((2, 2), "float32"), b=np.ones(3, "int32"))
    code, message = refused(predict, unlike)
    assert (code, "Incompatible shapes: [3,1] vs. [2,2]" in message) == ("INVALID_ARGUMENT", True)
    assert len(refused(predict, asked("x" * 5000))[1]) == 1024


def test_classify_regress_and_both(channel: grpc.Channel) -> None:
    request = apis("classification_pb2").ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "kinds", "classify"
    request.input.example_list_with_context.context.MergeFromString(example(0.5, 1))
    request.input.example_list_with_context.examples.add()
    response = predictor(channel).Classify(request)
    (row,) = response.result.classifications
    assert [(answer.label, answer.score) for answer in row.classes] == [("first", 0.5), ("second", 1)]
    assert (response.model_spec.name, response.model_spec.version.value) == ("kinds", 1)
    regression = apis("regression_pb2").RegressionRequest(input=request.input, model_spec=request.model_spec)
    regression.model_spec.signature_name = "regress"
    response = predictor(channel).Regress(regression)
    assert [answer.value for answer in response.result.regressions] == [1.5]
    both = apis("inference_pb2").MultiInferenceRequest(input=request.input)
    both.tasks.add(model_spec=regression.model_spec, method_name="tensorflow/serving/regress")
    assert predictor(channel).MultiInference(both).results[0].regression_result == response.result


def test_metadata(channel: grpc.Channel) -> None:
    request = apis("get_model_metadata_pb2").GetModelMetadataRequest()
    call = predictor(channel).GetModelMetadata
    assert refused(call, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "kinds"
    missing = "GetModelMetadataRequest must specify at least one metadata_field"
    assert refused(call, request) == ("INVALID_ARGUMENT", missing)
    request.metadata_field.append("signature_def")
    response = call(request)
    signatures = apis("get_model_metadata_pb2").SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["two"].inputs["b"].dtype == 3
    assert (response.model_spec.name, response.model_spec.version.value) == ("kinds", 1)
    request.metadata_field.append("graph")
    assert refused(call, request) == ("INVALID_ARGUMENT", "Metadata field graph is not supported")


def test_status_and_reload(channel: grpc.Channel) -> None:
    stub = proto_module("tensorflow_serving.apis.model_service_pb2_grpc").ModelServiceStub(channel)
    request = apis("get_model_status_pb2").GetModelStatusRequest()
    assert refused(stub.GetModelStatus, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "kinds"
    (status,) = stub.GetModelStatus(request).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, 30, 0)
    request.model_spec.version.value = 8
    assert refused(stub.GetModelStatus, request) == (
        "NOT_FOUND",
        f"Could not find version 8 of model kinds; {VERSIONS}",
    )
    request.model_spec.name = "none"
    request.model_spec.version_label = "any"
    unknown = "Could not find any versions of model none; models here: kinds"
    assert refused(stub.GetModelStatus, request) == ("NOT_FOUND", unknown)
    code, message = refused(stub.HandleReloadConfigRequest, apis("model_management_pb2").ReloadConfigRequest())
    assert (code, "Only ModelConfigList is currently supported" in message) == ("INVALID_ARGUMENT", True)


class FakeManager:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.configs: list[Any] = []

    def reload(self, config: Any) -> None:
        self.configs.append(config)


def test_a_configuration_reaches_the_manager() -> None:
    manager = FakeManager()
    server = GrpcServer(manager, OPTIONS, Metrics())  # type: ignore[arg-type]
    server.start()
    request = apis("model_management_pb2").ReloadConfigRequest()
    request.config.model_config_list.config.add(name="m", base_path="/models/m")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = proto_module("tensorflow_serving.apis.model_service_pb2_grpc").ModelServiceStub(channel)
        assert stub.HandleReloadConfigRequest(request).status.error_code == 0
        code, message = refused(predictor(channel).Predict, two())
    server.stop(1)
    assert manager.configs == [request.config]
    # The manager lacks what that needs: a fault of the server's own.
    assert (code, message) == ("INTERNAL", "the server failed on this request; its log says why")


def test_a_deadline_ends_the_run(channel: grpc.Channel) -> None:
    request = asked("slow", n=np.array([2**31 - 1], "int32"))
    assert refused(predictor(channel).Predict, request, timeout=0.3)[0] == "DEADLINE_EXCEEDED"
    # The run itself has ended too, or this would wait for it: there are four threads.
    for _ in range(4):
        assert refused(predictor(channel).Predict, request, timeout=0.05)[0] == "DEADLINE_EXCEEDED"
    predictor(channel).Predict(asked("echo_float", x=np.zeros(1, "float32")), timeout=PATIENCE)


def test_messages_that_are_none(channel: grpc.Channel) -> None:
    for data in (b"\xff", b"\x0a\x05abc", b"\x08\x01" * 10 + b"\x0b"):
        code, message = refused(channel.unary_unary("/tensorflow.serving.PredictionService/Predict"), data)
        assert (code, "tensorflow.serving.PredictRequest" in message) == ("INTERNAL", True)
    assert refused(channel.unary_unary("/tensorflow.serving.PredictionService/None"), b"")[0] == "UNIMPLEMENTED"


def test_sizes(kinds_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dataclasses.replace(OPTIONS, grpc_channel_arguments="grpc.max_receive_message_length=1000,grpc.x=y")
    small = GrpcServer(kinds_server.manager, options, Metrics())
    small.start()
    with grpc.insecure_channel(f"127.0.0.1:{small.port}") as channel:
        predict = predictor(channel).Predict
        code, message = refused(predict, asked("echo_float", x=np.zeros(300, "float32")))
        assert (code, "max" in message) == ("RESOURCE_EXHAUSTED", True)
        # A message that is small only on the way.
        zeros = asked("echo_float", x=from_array(np.zeros(10**6, "float32"), as_content=True))
        with pytest.raises(grpc.RpcError) as caught:
            predict(zeros, compression=grpc.Compression.Gzip, timeout=PATIENCE)
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"
        predict(asked("echo_float", x=np.zeros(100, "float32")))
    small.stop(1)
    with pytest.raises(ServingError, match=r"takes key=value between commas, got 'grpc\.x'"):
        GrpcServer(
            kinds_server.manager, dataclasses.replace(OPTIONS, grpc_channel_arguments="grpc.x"), Metrics()
        ).start()


def test_calls_whose_messages_never_come_leave_room_for_others(kinds_grpc: GrpcServer) -> None:
    stop = threading.Event()

    def never() -> Iterator[bytes]:
        stop.wait()
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{kinds_grpc.port}") as channel:
        call = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        waiting = [call.future(never()) for _ in range(3 * OPTIONS.grpc_max_threads)]
        request = asked("echo_float", x=np.zeros(1, "float32"))
        predictor(channel).Predict(request, timeout=PATIENCE, wait_for_ready=True)
        for one in waiting:
            one.cancel()
        stop.set()


def test_health(channel: grpc.Channel) -> None:
    messages: Any = pytest.importorskip("grpc_health.v1.health_pb2")
    stubs: Any = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    stub = stubs.HealthStub(channel)
    for service in ("", "ModelService", "PredictionService"):
        assert stub.Check(messages.HealthCheckRequest(service=service)).status == 1
    assert refused(stub.Check, messages.HealthCheckRequest(service="other"))[0] == "NOT_FOUND"


def test_a_unix_socket(kinds_grpc: GrpcServer, socket_path: str) -> None:
    with grpc.insecure_channel(f"unix:{socket_path}") as channel:
        assert predictor(channel).Predict(asked("echo_bool", x=np.array(True))).outputs["y"].bool_val == [True]


def test_a_port_that_is_taken(kinds_server: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = dataclasses.replace(OPTIONS, port=taken.getsockname()[1])
        with pytest.raises(ServingError, match="choose another --port") as caught:
            GrpcServer(kinds_server.manager, options, Metrics()).start()
    assert caught.value.code is Code.UNAVAILABLE


class WatchedManager:
    """Says when it is asked for a model."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.asked = threading.Event()

    def handle(self, *which: Any) -> Any:
        self.asked.set()
        return self.manager.handle(*which)

    def names(self) -> list[str]:
        return ["kinds"]


def test_stopping_answers_what_is_in_flight(kinds_server: Server) -> None:
    manager = WatchedManager(kinds_server.manager)
    server = GrpcServer(manager, OPTIONS, Metrics())  # type: ignore[arg-type]
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        future = predictor(channel).Predict.future(asked("slow", n=np.array([20_000], "int32")))
        assert manager.asked.wait(PATIENCE)
        assert server.stop(PATIENCE)
        assert future.result(1).outputs["n"].int_val == [20_000]
    assert server.stop(PATIENCE)


def test_tls(kinds_server: Server, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    config = tmp_path / "ssl"
    config.write_text(f"server_key: {key.read_text()!r} server_cert: {certificate.read_text()!r}")
    server = GrpcServer(kinds_server.manager, dataclasses.replace(OPTIONS, ssl_config_file=config), Metrics())
    server.start()
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    names = [("grpc.ssl_target_name_override", "localhost")]
    with grpc.secure_channel(f"127.0.0.1:{server.port}", trusted, names) as channel:
        predictor(channel).Predict(asked("echo_bool", x=np.array(True)), timeout=PATIENCE)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        assert refused(predictor(channel).Predict, asked("echo_bool", x=np.array(True)))[0] == "UNAVAILABLE"
    server.stop(1)
    config.write_text('server_key: "no" server_cert: "none"')
    with pytest.raises(ServingError, match="certificates in --ssl_config_file"):
        GrpcServer(kinds_server.manager, dataclasses.replace(OPTIONS, ssl_config_file=config), Metrics()).start()
