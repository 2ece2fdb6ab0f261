"""The client by gRPC; needs the extra `serve`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.calls.tensor_protos import from_array, to_array
from serving.client.base import Client
from serving.client.errors import DeadlineExceeded, ServerError, TargetError, Unreachable
from serving.client.examples import Features, to_proto
from serving.client.messages import Metadata, Request, VersionState, as_array
from serving.client.targets import parse
from serving.client.tls import Tls
from serving.errors import HTTP_STATUS, Code, code_of
from serving.protos import ServingApiMissing, apis
from serving.runtime.model import DEFAULT_SIGNATURE, Array, read_signatures

_PREDICTION = "/tensorflow.serving.PredictionService"
_MODEL = "/tensorflow.serving.ModelService"
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # One policy of retries, that of this package; with gRPC's own pauses a second try would not reach the server.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Servers are reached directly, as by the client for REST.
    ("grpc.enable_http_proxy", 0),
]
# gRPC gives a connection that failed the code of a server that is busy; only its words differ.
_LOST = ("connect", "resolving", "socket closed", "goaway", "handshake", "broken pipe", "stream removed", "keepalive")


class GrpcClient(Client):
    """Asks one model of one server by gRPC, over one connection.

    Args:
        target: `host:port`, `grpc://host:port`, `grpcs://host:port` (TLS) or `unix:path`.
        model_name: The model's name on the server.
        ca_file: For grpcs, the certificates to trust, in PEM; gRPC's own list if None.
        cert_file: The client's own certificate, in PEM, for servers that ask for one.
        key_file: Its key, in PEM and not encrypted; in `cert_file` too if None.
        options: As for `Client`: version, label, timeout, retries, batch_size, in_flight.

    Raises:
        TargetError: The target is not such an address, or has no TLS although a certificate is given.
        CertificateError: The files cannot be used.
        ServingApiMissing: The extra `serve` is not installed.
    """

    def __init__(
        self,
        target: str,
        model_name: str,
        *,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        **options: Any,
    ) -> None:
        address = parse(target)
        if address.rest:
            raise TargetError(f"{target!r} is not an address for gRPC; give one like 127.0.0.1:8500")
        super().__init__(address, model_name, **options)
        try:
            import grpc
        except ModuleNotFoundError as error:
            raise ServingApiMissing(
                "gRPC needs an extra: pip install 'sequence-zoo[serve]', or give a target like http://127.0.0.1:8501"
            ) from error
        self._rpc_error = grpc.RpcError
        self._shown = target
        tls = Tls(ca_file, cert_file, key_file)
        tls.check(target, address)
        if address.secure:
            self._channel = grpc.secure_channel(address.address, tls.credentials(grpc), _CHANNEL_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address.address, _CHANNEL_OPTIONS)

    def prepare(
        self, inputs: Mapping[str, Any], signature_name: str = DEFAULT_SIGNATURE, *, version: int | None = None
    ) -> Request:
        message = apis("predict_pb2").PredictRequest()
        self._fill(message.model_spec, version)
        message.model_spec.signature_name = signature_name
        for name, value in inputs.items():
            message.inputs[name].CopyFrom(from_array(as_array(value), as_content=True))
        return Request(f"{_PREDICTION}/Predict", message.SerializeToString(), signature_name)

    def status(self, *, timeout: float | None = None) -> list[VersionState]:
        module = apis("get_model_status_pb2")
        message = module.GetModelStatusRequest()
        message.model_spec.name = self.model_name
        if self.version is not None:
            message.model_spec.version.value = self.version
        reply = self.send(Request(f"{_MODEL}/GetModelStatus", message.SerializeToString()), timeout=timeout)
        names = module.ModelVersionStatus.State.Name
        return [
            VersionState(entry.version, names(entry.state), _error(entry.status))
            for entry in module.GetModelStatusResponse.FromString(reply).model_version_status
        ]

    def metadata(self, *, version: int | None = None, timeout: float | None = None) -> Metadata:
        module = apis("get_model_metadata_pb2")
        message = module.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(message.model_spec, version)
        reply = self.send(Request(f"{_PREDICTION}/GetModelMetadata", message.SerializeToString()), timeout=timeout)
        response = module.GetModelMetadataResponse.FromString(reply)
        signatures = module.SignatureDefMap.FromString(response.metadata["signature_def"].value)
        spec = response.model_spec
        return Metadata(spec.name, spec.version.value, read_signatures(signatures.signature_def))

    def reload_config(self, config: Any, *, timeout: float | None = None) -> None:
        """Replace the whole set of models and labels that the server serves, and wait until it is loaded.

        Args:
            config: A `ModelServerConfig` message, or its text.
            timeout: Seconds; the client's if None.

        Raises:
            ServerError: The server refused; what it served before, it still serves.
            Unreachable: No answer came.
            google.protobuf.text_format.ParseError: The text does not hold such a message.
        """
        module = apis("model_management_pb2")
        message = module.ReloadConfigRequest()
        if isinstance(config, str):
            from google.protobuf import text_format

            text_format.Parse(config, message.config)
        else:
            message.config.CopyFrom(config)
        reply = self.send(Request(f"{_MODEL}/HandleReloadConfigRequest", message.SerializeToString()), timeout=timeout)
        status = module.ReloadConfigResponse.FromString(reply).status
        if status.error_code:
            code = code_of(status.error_code)
            raise ServerError(HTTP_STATUS[code], status.error_message, code)

    def close(self) -> None:
        self._channel.close()

    def _fill(self, spec: Any, version: int | None) -> None:
        spec.name = self.model_name
        if version is None and self.label is not None:
            spec.version_label = self.label
            return
        version = self.version if version is None else version
        if version is not None:
            spec.version.value = version

    def _once(self, request: Request, seconds: float) -> bytes:
        # Bytes in and out: a request is encoded once, however often it is sent.
        method = self._channel.unary_unary(request.path)
        try:
            reply: bytes = method(request.body, timeout=seconds)
        except self._rpc_error as error:
            raise self._translated(error) from error
        return reply

    def _translated(self, error: Any) -> ServerError | Unreachable:
        code = code_of(error.code().value[0])
        message = error.details() or "without a message"
        if code is Code.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"no answer from {self._shown} in time: {message}")
        if code is Code.UNAVAILABLE and any(word in message.lower() for word in _LOST):
            return Unreachable(f"no connection to {self._shown}: {message}; is the server up?")
        return ServerError(HTTP_STATUS[code], message, code)

    def _outputs(self, reply: bytes, request: Request) -> dict[str, Array]:
        response = apis("predict_pb2").PredictResponse.FromString(reply)
        return {name: to_array(tensor) for name, tensor in response.outputs.items()}

    def _prepare_examples(self, verb: str, examples: list[Features], signature_name: str) -> Request:
        if verb == "classify":
            message, method = apis("classification_pb2").ClassificationRequest(), "Classify"
        else:
            message, method = apis("regression_pb2").RegressionRequest(), "Regress"
        self._fill(message.model_spec, None)
        message.model_spec.signature_name = signature_name
        message.input.example_list.examples.extend(to_proto(features) for features in examples)
        return Request(f"{_PREDICTION}/{method}", message.SerializeToString(), signature_name)

    def _classes(self, reply: bytes) -> list[list[tuple[str, float]]]:
        result = apis("classification_pb2").ClassificationResponse.FromString(reply).result
        return [[(entry.label, entry.score) for entry in row.classes] for row in result.classifications]

    def _values(self, reply: bytes) -> list[float]:
        result = apis("regression_pb2").RegressionResponse.FromString(reply).result
        return [entry.value for entry in result.regressions]


def _error(status: Any) -> str:
    return f"{code_of(status.error_code).name}: {status.error_message}" if status.error_code else ""
