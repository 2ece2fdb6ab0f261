"""Sockets, connections and threads around the REST API: HTTP/1.1 with keep-alive on the standard library's server."""

import logging
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from serving.rest.api import Response, RestApi
from serving.rest.http_body import BodyError, ContentError, decode_content, read_body
from serving.rest.json_response import encode_error

logger = logging.getLogger(__name__)

# How long a connection may stay silent, and how long one body may take.
SILENCE_SECONDS = 30.0
# How long a refused client may go on sending before the connection is cut: closing at once could lose the answer.
LINGER_SECONDS = 1.0


class RestServer(socketserver.ThreadingMixIn, HTTPServer):
    """A thread per connection, and at most `threads` requests at work at a time.

    The address is taken at once, so a busy port is known before a model is loaded, but connections are accepted only
    after `server_activate`.

    Args:
        address: Host and port; port 0 lets the system choose.
        api: What answers.
        threads: How many requests are worked on at once.

    Raises:
        OSError: The address cannot be taken.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: RestApi, threads: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.api = api
        self.workers = threading.BoundedSemaphore(threads)
        self._changed = threading.Condition()
        self._draining = False
        self._idle: set[socket.socket] = set()
        self._connections = 0
        super().__init__(address, Connection, bind_and_activate=False)
        try:
            self.server_bind()
        except BaseException:
            self.server_close()
            raise

    def server_bind(self) -> None:
        # HTTPServer's own looks the host's name up, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._connections += 1
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._disconnected()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._disconnected()

    def _disconnected(self) -> None:
        with self._changed:
            self._connections -= 1
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away is its own affair; anything else is a fault of this server.
        is_expected = isinstance(sys.exception(), (ConnectionError, TimeoutError))
        logger.log(
            logging.DEBUG if is_expected else logging.ERROR, "connection of %s failed", client_address, exc_info=True
        )

    @property
    def is_draining(self) -> bool:
        return self._draining

    def wait_for_request(self, connection: socket.socket) -> None:
        """Note that a connection waits for its next request, which while draining must have arrived already."""
        with self._changed:
            self._idle.add(connection)
            if self._draining:
                _shut_down(connection, socket.SHUT_RD)

    def begin_request(self, connection: socket.socket) -> None:
        """Note that a connection no longer waits."""
        with self._changed:
            self._idle.discard(connection)

    def drain(self, seconds: float) -> bool:
        """Finish the requests in flight, close the connections that wait, and stop listening.

        Returns:
            Whether all connections ended in time.
        """
        self.shutdown()
        self.server_close()
        with self._changed:
            self._draining = True
            for connection in self._idle:
                # What already arrived can still be read, so a request that is just coming in is answered.
                _shut_down(connection, socket.SHUT_RD)
            return self._changed.wait_for(lambda: self._connections == 0, timeout=seconds)


def _shut_down(connection: socket.socket, how: int) -> None:
    try:
        connection.shutdown(how)
    except OSError as error:
        logger.debug("the client has closed already: %s", error)


class Connection(BaseHTTPRequestHandler):
    """One connection: reads requests, hands them to the API, writes the answers."""

    server: RestServer
    protocol_version = "HTTP/1.1"
    server_version = "zoo-serving"
    sys_version = ""
    timeout = SILENCE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet

    def handle_one_request(self) -> None:
        self.server.wait_for_request(self.connection)
        super().handle_one_request()

    def parse_request(self) -> bool:
        self.server.begin_request(self.connection)
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        # The answers are buffered, and the client sends its body only after this one.
        is_accepted = super().handle_expect_100()
        self.wfile.flush()
        return is_accepted

    def finish(self) -> None:
        self.server.begin_request(self.connection)
        super().finish()

    def _respond(self) -> None:
        try:
            body = read_body(self.command, self.headers, self.rfile, SILENCE_SECONDS)
        except BodyError as error:
            self.close_connection = True
            self._write(Response(error.status, encode_error(str(error))))
            self._linger()
            return
        try:
            plain = decode_content(self.headers, body)
            path = self.path.partition("?")[0].partition("#")[0]
            with self.server.workers:
                response = self.server.api.answer(self.command, path, plain, self.headers.get("Origin"))
        except ContentError as error:
            response = Response(error.status, encode_error(str(error)))
        except Exception:
            # The last line of defence: a fault of the server's own must not end the connection without an answer.
            logger.exception("%s %s failed", self.command, self.path)
            response = Response(500, encode_error("the server failed on this request; its log says why"))
        self._write(response)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _respond

    def _write(self, response: Response) -> None:
        if self.server.is_draining:
            self.close_connection = True
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in (response.headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def _linger(self) -> None:
        """Let the client finish sending, for a moment: unread bytes would turn the close into a reset."""
        _shut_down(self.connection, socket.SHUT_WR)
        deadline = time.monotonic() + LINGER_SECONDS
        self.connection.settimeout(LINGER_SECONDS)
        try:
            while time.monotonic() < deadline and self.connection.recv(2**16):
                pass
        except OSError as error:
            logger.debug("the client went away: %s", error)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no HTTP request, in the form of every other error."""
        self.close_connection = True
        self.command = self.command or ""
        # Until a request line is understood, the base class takes it for HTTP/0.9 and would answer without a head.
        self.request_version = self.protocol_version
        text = message or self.responses.get(code, ("the request cannot be understood", ""))[0]
        self._write(Response(code, encode_error(f"{text}; send an HTTP/1.1 request to /v1/models")))
        self._linger()

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
