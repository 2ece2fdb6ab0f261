"""The local server: TensorFlow Serving's folder layout and REST API, in a process that starts in a second."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from serving.errors import Code, ServingError
from serving.http_server import RestServer
from serving.rest import RestApi
from serving.runtime import Options, load
from serving.versions import ServedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerOptions:
    """What is served and how; the names are TensorFlow Serving's.

    Attributes:
        model_base_path: The folder with the versions.
        model_name: The model's name in requests.
        host: The address to listen on.
        rest_api_port: The port; 0 lets the system choose.
        rest_api_num_threads: How many requests are worked on at once.
        rest_api_timeout_in_ms: How long one run may take.
        file_system_poll_wait_seconds: Seconds between two looks into the folder; 0 looks only once.
        max_num_load_retries: How often a version that failed to load is tried again.
        load_retry_interval_micros: Microseconds between two tries.
        runtime: How a version is loaded.
    """

    model_base_path: Path
    model_name: str = "default"
    host: str = "127.0.0.1"
    rest_api_port: int = 8501
    rest_api_num_threads: int = 4 * (os.cpu_count() or 1)
    rest_api_timeout_in_ms: int = 30_000
    file_system_poll_wait_seconds: float = 1
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    runtime: Options = field(default_factory=Options)


class Server:
    """One model behind the REST API. Use it in a `with` block, or call `start` and `stop`."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.model = ServedModel(
            options.model_name,
            options.model_base_path,
            lambda path: load(path, options.runtime),
            max_num_load_retries=options.max_num_load_retries,
            load_retry_interval=options.load_retry_interval_micros / 1e6,
        )
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._http: RestServer | None = None

    def start(self) -> int:
        """Load the newest version, then open the port.

        Returns:
            The version that is served.

        Raises:
            ServingError: The port cannot be taken, or the model cannot be loaded.
        """
        options = self.options
        api = RestApi({options.model_name: self.model}, options.rest_api_timeout_in_ms)
        try:
            http = RestServer((options.host, options.rest_api_port), api, options.rest_api_num_threads)
        except (OSError, OverflowError) as error:
            raise ServingError(
                Code.UNAVAILABLE,
                f"cannot listen on {options.host}:{options.rest_api_port}: {error}; "
                "stop what listens there or choose another --rest_api_port",
            ) from error
        try:
            version = self.model.load_first()
            http.server_activate()
        except BaseException:
            http.server_close()
            raise
        self._http = http
        # The interval is how long a stop may go unnoticed.
        self._start(lambda: http.serve_forever(poll_interval=0.05), "rest")
        if options.file_system_poll_wait_seconds > 0:
            self._start(self._poll, "poll")
        return version

    def _start(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _poll(self) -> None:
        while not self._stopping.wait(self.options.file_system_poll_wait_seconds):
            try:
                self.model.poll()
            except Exception:
                # The server must go on with the version that it has, whatever a new one does to the loader.
                logger.exception("looking for a new version of model %s failed", self.model.name)

    @property
    def url(self) -> str:
        """Where the server listens, without a path."""
        if self._http is None:
            raise RuntimeError("the server does not listen: call start() first")
        host, port = self._http.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def stop(self) -> bool:
        """Answer what is in flight, then stop.

        Returns:
            Whether every connection ended within the time that one request may take.
        """
        self._stopping.set()
        http, self._http = self._http, None
        started = time.monotonic()
        finished = http is None or http.drain(self.options.rest_api_timeout_in_ms / 1000 + 1)
        for thread in self._threads:
            thread.join()
        if finished:
            self.model.close()
        logger.info("stopped after %.2f s", time.monotonic() - started)
        return finished

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
