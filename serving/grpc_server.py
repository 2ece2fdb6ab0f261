"""gRPC around the handlers: PredictionService, ModelService and, where switched on, the health service."""

import logging
import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.addresses import cannot_listen
from serving.config_protos import config_message, read_text_proto
from serving.errors import Code, ServingError, invalid
from serving.handlers import Handlers, Manager
from serving.metrics import Metrics
from serving.options import ServerOptions
from serving.protos import apis

logger = logging.getLogger(__name__)

# TensorFlow Serving takes 2 GiB; --grpc_channel_arguments can set another limit here.
MAX_MESSAGE_BYTES = 64 * 2**20
# A call holds a thread from its first byte on, so that calls whose messages never come must not use up the threads of
# the others: there are this many more, which are made only when they are needed, and what comes on top is refused.
_WAITING_CALLS = 256
_LONGEST_MESSAGE = 1024
_LONGEST_TIMEOUT_MS = 2**31 - 1

_HEALTH_SERVICES = ("", "ModelService", "PredictionService")


@dataclass(frozen=True)
class _Method:
    """One call: the class of its request, and what answers it."""

    request: Any
    answer: Callable[[Any, int], Any]


class GrpcServer:
    """The gRPC API over the models of a manager.

    Args:
        manager: Which models there are.
        options: Where to listen and how.
        metrics: Where requests are counted.

    Raises:
        ServingApiMissing: The extra `serve` is not installed.
    """

    def __init__(self, manager: Manager, options: ServerOptions, metrics: Metrics) -> None:
        self._options = options
        handlers = Handlers(
            manager,
            metrics,
            as_tensor_content=options.enable_serialization_as_tensor_content,
            check_method_names=options.enable_signature_method_name_check,
        )
        self._services = _services(handlers)
        self._workers = threading.BoundedSemaphore(options.grpc_max_threads)
        self._server: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._port: int | None = None
        self._health: Any = None

    def start(self) -> None:
        """Open the port and the socket, and answer.

        Raises:
            ServingError: An address cannot be taken, or an argument or the TLS configuration is wrong.
        """
        options = self._options
        threads = options.grpc_max_threads + _WAITING_CALLS
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        self._server = grpc.server(self._pool, options=self._arguments(), maximum_concurrent_rpcs=threads)
        for service, methods in self._services.items():
            handlers = {name: self._handler(method) for name, method in methods.items()}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        if options.enable_grpc_healthcheck_service:
            self._add_health()
        credentials = self._credentials()
        if options.port is not None:
            host = f"[{options.host}]" if ":" in options.host else options.host
            self._port = self._listen(f"{host}:{options.port}", credentials, "--port")
        if options.grpc_socket_path:
            self._listen(f"unix:{options.grpc_socket_path}", credentials, "--grpc_socket_path")
        self._server.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._port is None:
            raise RuntimeError("the server listens on no port: call start() first, with a port in the options")
        return self._port

    def stop(self, grace: float) -> bool:
        """Take no more calls, finish those in flight.

        Args:
            grace: Seconds after which calls that are still in flight are cut off.

        Returns:
            Whether all of them ended in time.
        """
        if self._server is None or self._pool is None:
            return True
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        stopped = self._server.stop(grace)
        finished = bool(stopped.wait(grace))
        stopped.wait()
        self._pool.shutdown(wait=finished)
        self._server = None
        return finished

    def _arguments(self) -> list[tuple[str, int | str]]:
        arguments: dict[str, int | str] = {
            # Otherwise a second server could take the same port, and each would get some of the calls.
            "grpc.so_reuseport": 0,
            "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
            "grpc.max_send_message_length": -1,
            # Calls of clients that vanished without a word are found by this.
            "grpc.keepalive_time_ms": 60_000,
            "grpc.keepalive_timeout_ms": 20_000,
        }
        for argument in filter(None, self._options.grpc_channel_arguments.split(",")):
            key, separator, value = argument.partition("=")
            if not separator:
                raise invalid(f"--grpc_channel_arguments takes key=value between commas, got {argument!r}")
            arguments[key] = int(value) if value.lstrip("-").isdecimal() else value
        return list(arguments.items())

    def _credentials(self) -> Any:
        if self._options.ssl_config_file is None:
            return None
        config = read_text_proto(self._options.ssl_config_file, config_message("SSLConfig"))
        if config.client_verify and not config.custom_ca:
            raise invalid(
                f"{self._options.ssl_config_file} has client_verify without custom_ca; give custom_ca, the "
                "certificates in PEM that sign those of the clients"
            )
        return grpc.ssl_server_credentials(
            [(config.server_key.encode(), config.server_cert.encode())],
            root_certificates=config.custom_ca.encode() or None,
            require_client_auth=config.client_verify,
        )

    def _listen(self, address: str, credentials: Any, flag: str) -> int:
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except RuntimeError as error:
            host = self._options.host if flag == "--port" else None
            refusal = cannot_listen(host, address, "gRPC refuses it", flag)
            if credentials is not None:
                refusal = ServingError(
                    refusal.code, f"{refusal.message}, and look at the key and certificates in --ssl_config_file"
                )
            raise refusal from error

    def _add_health(self) -> None:
        # Most servers have no health service, and it needs a package of its own.
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc

        self._health = health.HealthServicer(experimental_non_blocking=True)
        for service in _HEALTH_SERVICES:
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def _handler(self, method: _Method) -> Any:
        """The method on bytes: a message is read by the thread that answers it, not by the one that polls for all."""
        codes = {status.value[0]: status for status in grpc.StatusCode}

        def answer(data: bytes, context: Any) -> bytes:
            try:
                return self._answer(method, data, context)
            except ServingError as error:
                code, message = codes[error.code], error.message
            except Exception:
                # The last line of defence: the client learns that it failed, the log why.
                logger.exception("%s failed", method.request.DESCRIPTOR.name)
                code, message = codes[Code.INTERNAL], "the server failed on this request; its log says why"
            context.abort(code, message[:_LONGEST_MESSAGE])
            raise AssertionError("abort always raises")

        return grpc.unary_unary_rpc_method_handler(answer)

    def _answer(self, method: _Method, data: bytes, context: Any) -> bytes:
        with self._workers:
            timeout = _timeout_in_ms(context.time_remaining())
            try:
                request = method.request.FromString(data)
            except DecodeError as error:
                raise ServingError(
                    Code.INTERNAL, f"the message is not a {method.request.DESCRIPTOR.full_name}: {error}"
                ) from error
            answer: bytes = method.answer(request, timeout).SerializeToString()
            return answer


def _timeout_in_ms(seconds: float | None) -> int:
    """The milliseconds that a call's deadline leaves for the run; 0 for no limit."""
    if seconds is None or math.isinf(seconds):
        return 0
    if seconds <= 0:
        raise ServingError(Code.DEADLINE_EXCEEDED, "the deadline has passed before the request was worked on")
    return max(1, min(_LONGEST_TIMEOUT_MS, int(1000 * seconds)))


def _services(handlers: Handlers) -> Mapping[str, Mapping[str, _Method]]:
    return {
        "tensorflow.serving.PredictionService": {
            "Predict": _Method(apis("predict_pb2").PredictRequest, handlers.predict),
            "Classify": _Method(apis("classification_pb2").ClassificationRequest, handlers.classify),
            "Regress": _Method(apis("regression_pb2").RegressionRequest, handlers.regress),
            "MultiInference": _Method(apis("inference_pb2").MultiInferenceRequest, handlers.multi_inference),
            "GetModelMetadata": _Method(apis("get_model_metadata_pb2").GetModelMetadataRequest, handlers.metadata),
        },
        "tensorflow.serving.ModelService": {
            "GetModelStatus": _Method(apis("get_model_status_pb2").GetModelStatusRequest, handlers.status),
            "HandleReloadConfigRequest": _Method(apis("model_management_pb2").ReloadConfigRequest, handlers.reload),
        },
    }
