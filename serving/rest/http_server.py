"""Sockets and threads around the REST API: a thread for each connection."""

import logging
import socket
import socketserver
import sys
import threading
import time
from typing import Any

from serving.rest.api import Response, RestApi
from serving.rest.http_body import ContentError, decode_content
from serving.rest.http_connection import HttpConnection
from serving.rest.http_request import Refused, Request
from serving.rest.json_response import encode_error

logger = logging.getLogger(__name__)

# How long a connection may stay silent, and how long one head and one body may take.
SILENCE_SECONDS = 30.0
# How long a refused client may go on sending before the connection is cut: closing at once could lose the answer.
LINGER_SECONDS = 1.0

_ALLOWED = "GET, HEAD, POST, OPTIONS"


class RestServer(socketserver.ThreadingTCPServer):
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
    allow_reuse_address = True
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


class Connection(socketserver.BaseRequestHandler):
    """One connection: reads requests, hands them to the API, writes the answers."""

    server: RestServer

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = HttpConnection(self.request, SILENCE_SECONDS)
        while self._begins(connection) and self._exchange(connection):
            pass

    def _begins(self, connection: HttpConnection) -> bool:
        """Wait for a request; whether one comes."""
        self.server.wait_for_request(self.request)
        try:
            return connection.wait()
        except TimeoutError:
            return False
        finally:
            self.server.begin_request(self.request)

    def _exchange(self, connection: HttpConnection) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            request, body = connection.read()
        except Refused as error:
            _write(connection, Response(error.status, encode_error(str(error))), "close")
            self._linger()
            return False
        response = self._answer(request, body)
        after = "close" if self.server.is_draining else request.connection
        _write(connection, response, after, to_head=request.method == "HEAD")
        return after != "close"

    def _answer(self, request: Request, body: bytes) -> Response:
        if request.path == "*":
            return Response(200, b"", headers={"Allow": _ALLOWED})
        # RFC 9110 9.3.2: HEAD is answered as GET, and only the content is left out.
        method = "GET" if request.method == "HEAD" else request.method
        try:
            plain = decode_content(request.fields.get("content-encoding", ""), body)
            with self.server.workers:
                return self.server.api.answer(method, request.path, plain, request.fields.get("origin"))
        except ContentError as error:
            return Response(error.status, encode_error(str(error)), headers=error.fields)
        except Exception:
            # The last line of defence: a fault of the server's own must not end the connection without an answer.
            logger.exception("%s %s failed", request.method, request.path)
            return Response(500, encode_error("the server failed on this request; its log says why"))

    def _linger(self) -> None:
        """Let the client finish sending, for a moment: unread bytes would turn the close into a reset."""
        _shut_down(self.request, socket.SHUT_WR)
        deadline = time.monotonic() + LINGER_SECONDS
        self.request.settimeout(LINGER_SECONDS)
        try:
            while time.monotonic() < deadline and self.request.recv(2**16):
                pass
        except OSError as error:
            logger.debug("the client went away: %s", error)


def _write(connection: HttpConnection, response: Response, after: str, *, to_head: bool = False) -> None:
    fields = [("Content-Type", response.content_type), *(response.headers or {}).items()]
    connection.write(response.status, fields, response.body, after, to_head=to_head)
