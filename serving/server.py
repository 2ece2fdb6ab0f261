"""The local server: TensorFlow Serving's folder layout and its two APIs, in a process that starts in a second."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from serving.addresses import cannot_listen
from serving.config_protos import config_message, read_text_proto
from serving.errors import Code, ServingError, invalid
from serving.metrics import Metrics
from serving.models.loading import ModelLoader
from serving.models.manager import ModelManager
from serving.models.model_config import ModelConfig, model_configs, read_model_server_config
from serving.models.versions import Retries
from serving.options import ServerOptions
from serving.protos import ServingApiMissing
from serving.rest.api import RestApi
from serving.rest.http_server import RestServer

if TYPE_CHECKING:
    from serving.grpc_server import GrpcServer

__all__ = ["Server", "ServerOptions"]

logger = logging.getLogger(__name__)

_METRICS_PATH = "/monitoring/prometheus/metrics"


class Server:
    """Models behind REST and gRPC. Use it in a `with` block, or call `start` and `stop`.

    Args:
        options: Which models are served, and how.

    Raises:
        ServingError: A file that the options name cannot be used, or the options contradict each other.
    """

    def __init__(self, options: ServerOptions) -> None:
        if options.model_base_path is None and options.model_config_file is None:
            raise invalid(
                "Both server_options.model_base_path and server_options.model_config_file are empty! "
                "Give --model_base_path, the folder with a model's versions, or --model_config_file"
            )
        self.options = options
        self.metrics = Metrics()
        self._metrics_path = _metrics_path(options.monitoring_config_file)
        self._loader = ModelLoader(options, self.metrics)
        self.manager = ModelManager(
            self._loader,
            retries=Retries(options.max_num_load_retries, options.load_retry_interval_micros / 1e6),
            poll_seconds=options.file_system_poll_wait_seconds,
            num_load_threads=options.num_load_threads,
            num_unload_threads=options.num_unload_threads,
            allow_labels_for_unavailable=options.allow_version_labels_for_unavailable_models,
        )
        self._config: Any = None  # the `ModelServerConfig` in force, of --model_config_file
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._http: RestServer | None = None
        self._grpc: GrpcServer | None = None

    def start(self) -> None:
        """Load the models, then open the ports.

        Raises:
            ServingError: A port cannot be taken, or a model cannot be loaded.
        """
        # The port is taken before the models are loaded, which can take minutes, and answers after: a probe of the
        # port is a probe of readiness, as in TensorFlow Serving.
        http = self._bind_http()
        try:
            self.manager.replace(self._configs())
            self._grpc = self._start_grpc()
            if http is not None:
                http.server_activate()
        except BaseException:
            if http is not None:
                http.server_close()
            self._close()
            raise
        self._http = http
        if http is not None:
            # The interval is how long a stop may go unnoticed.
            self._start(lambda: http.serve_forever(poll_interval=0.05), "rest")
        self.manager.start_polling()
        if self.options.model_config_file is not None and self.options.model_config_file_poll_wait_seconds > 0:
            self._start(self._poll_config, "config")

    def _bind_http(self) -> RestServer | None:
        options = self.options
        if options.rest_api_port is None:
            return None
        api = RestApi(self.manager, options, self.metrics, self._metrics_path)
        try:
            return RestServer((options.host, options.rest_api_port), api, options.rest_api_num_threads)
        except (OSError, OverflowError) as error:
            raise cannot_listen(
                options.host, f"{options.host}:{options.rest_api_port}", error, "--rest_api_port"
            ) from error

    def _start_grpc(self) -> "GrpcServer | None":
        if self.options.port is None and not self.options.grpc_socket_path:
            return None
        try:
            from serving.grpc_server import GrpcServer

            server = GrpcServer(self.manager, self.options, self.metrics)
        except ImportError as error:
            logger.warning("gRPC is off; pip install 'sequence-zoo[serve]' switches it on")
            logger.debug("gRPC is off: %s", error)
            return None
        server.start()
        return server

    def _configs(self) -> list[ModelConfig]:
        options = self.options
        if options.model_config_file is not None:
            self._config = _read_config(options.model_config_file)
            return model_configs(self._config)
        if options.model_base_path is None:
            return []
        return [ModelConfig(options.model_name, options.model_base_path.absolute())]

    def _poll_config(self) -> None:
        path = self.options.model_config_file
        while path is not None and not self._stopping.wait(self.options.model_config_file_poll_wait_seconds):
            try:
                config = _read_config(path)
                # A file that was only touched changes nothing; a refused one is read again at the next poll.
                if config != self._config:
                    self.manager.reload(config)
                    self._config = config
            except ServingError as error:
                logger.error("the models in %s cannot be served: %s", path, error.described)
            except Exception:
                logger.exception("reading %s failed", path)

    def _start(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    @property
    def url(self) -> str:
        """The URL of the REST API, without a path."""
        if self._http is None:
            raise RuntimeError("REST is not served: call start() first, with a rest_api_port")
        host, port = self._http.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    @property
    def grpc_target(self) -> str | None:
        """The address of the gRPC API, as its clients take it; None where it is off or only on a UNIX socket."""
        if self._grpc is None or self.options.port is None:
            return None
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"{host}:{self._grpc.port}"

    def stop(self) -> bool:
        """Answer what is in flight, then stop.

        Returns:
            Whether every request ended within the time that one may take; if not, its model is not freed.
        """
        self._stopping.set()
        http, self._http = self._http, None
        grpc, self._grpc = self._grpc, None
        started = time.monotonic()
        seconds = self.options.rest_api_timeout_in_ms / 1000 + 1
        finished = http is None or http.drain(seconds)
        if grpc is not None:
            finished &= grpc.stop(max(started + seconds - time.monotonic(), 0.0))
        for thread in self._threads:
            thread.join()
        if finished:
            self._close()
        logger.info("stopped after %.2f s", time.monotonic() - started)
        return finished

    def _close(self) -> None:
        self.manager.close()
        self._loader.close()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _read_config(path: Path) -> Any:
    try:
        return read_model_server_config(path)
    except ServingApiMissing as error:
        raise ServingError(Code.UNIMPLEMENTED, f"--model_config_file cannot be read: {error}") from error


def _metrics_path(path: Path | None) -> str | None:
    """The path for metrics that a `MonitoringConfig` file names; None where they are off."""
    if path is None:
        return None
    prometheus = read_text_proto(path, config_message("MonitoringConfig")).prometheus_config
    return (prometheus.path or _METRICS_PATH) if prometheus.enable else None
