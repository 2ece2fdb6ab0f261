"""One client's connection: requests in, by the parser h11 and the rules in `http_request`, and responses out."""

import email.utils
import functools
import http
import re
import socket
import time
from collections.abc import Iterable

import h11

from serving.rest import http_body
from serving.rest.http_request import Refused, Request, accepted, too_large

# A request line, and all header fields together. RFC 9112 asks for 8000 bytes of a line at least.
MAX_HEAD_BYTES = 64 * 2**10
# So much of a head is read at once: the parser checks its limit between two reads.
_HEAD_CHUNK = 16 * 2**10
_BODY_CHUNK = 256 * 2**10

_ABOVE_ASCII = re.compile(rb"[\x80-\xff]")
_CODINGS = re.compile(rb"^transfer-encoding:(.*)$", re.IGNORECASE | re.MULTILINE)
_REASONS = {status.value: status.phrase for status in http.HTTPStatus}


class HttpConnection:
    """Reads requests from a socket, one after the other, and writes the response to each.

    Args:
        connection: The socket.
        seconds: How long the client may be silent between two requests, and how long a head and a body may take.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._socket = connection
        self._seconds = seconds
        self._pending = b""  # what came after the last request
        self._machine = h11.Connection(h11.SERVER)
        self._head = b""

    def wait(self) -> bool:
        """Wait until a request begins; False where the client has closed instead.

        Raises:
            TimeoutError: It was silent for too long.
            ConnectionError: It has gone away.
        """
        if not self._pending:
            self._socket.settimeout(self._seconds)
            self._pending = self._socket.recv(_HEAD_CHUNK)
        return bool(self._pending)

    def read(self) -> tuple[Request, bytes]:
        """The request that has begun, with its whole body.

        Raises:
            Refused: It is not a request that can be taken, or takes too long.
            ConnectionError: The client has gone away.
        """
        # A machine for each request: what follows the request stays with us, where its first line can be mended.
        self._machine = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        try:
            deadline = time.monotonic() + self._seconds
            self._receive_start(deadline)
            head = self._event(deadline, _HEAD_CHUNK)
            if not isinstance(head, h11.Request):
                raise Refused(400, "the client has closed before its request was whole")
            request = accepted(head)
            body = self._body(request.fields.get("content-length"), time.monotonic() + self._seconds)
        except h11.RemoteProtocolError as error:
            raise self._refused(error) from error
        except TimeoutError as error:
            message = f"the request did not arrive within {self._seconds:g} s; send it faster or in parts"
            raise Refused(408, message) from error
        return request, body

    def _receive_start(self, deadline: float) -> None:
        """Give the machine the first line, once it is there, with what came along."""
        data = self._pending.lstrip(b"\r\n")  # RFC 9112 2.2: empty lines before a request line are ignored
        while (end := data.find(b"\n")) < 0 and len(data) <= MAX_HEAD_BYTES:
            received = self._receive(deadline, _HEAD_CHUNK)
            if not received:
                raise Refused(400, "the client has closed before its request was whole")
            data = (data + received).lstrip(b"\r\n")
        if end < 0 or end > MAX_HEAD_BYTES:
            raise Refused(414, f"the request line has more than {MAX_HEAD_BYTES} bytes; send a shorter target")
        if not data[:end].isascii():
            # Strictly no target; but curl and others send names as they are typed, in UTF-8.
            data = _ABOVE_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], data[:end]) + data[end:]
        self._head = data
        self._machine.receive_data(data)

    def _event(self, deadline: float, size: int) -> object:
        while (event := self._machine.next_event()) is h11.NEED_DATA:
            if self._machine.they_are_waiting_for_100_continue:
                self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._machine.receive_data(self._receive(deadline, size))
        return event

    def _body(self, length: str | None, deadline: float) -> bytes:
        body = bytearray()
        while isinstance(event := self._event(deadline, _BODY_CHUNK), h11.Data):
            if len(body) + len(event.data) > http_body.MAX_BODY_BYTES:
                raise too_large(f"more than {len(body)} bytes")
            body += event.data
            if length is not None and len(body) < int(length):
                # The rest is so many bytes and nothing else; through the machine, each would be copied twice more.
                return self._rest(body, int(length), deadline)
        self._pending = self._machine.trailing_data[0]
        return bytes(body)

    def _rest(self, body: bytearray, length: int, deadline: float) -> bytes:
        while len(body) < length:
            received = self._receive(deadline, min(_BODY_CHUNK, length - len(body)))
            if not received:
                raise Refused(400, f"the body ended after {len(body)} of {length} bytes; send as many as announced")
            body += received
        self._pending = b""
        return bytes(body)

    def _receive(self, deadline: float, size: int) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket.recv(size)

    def _refused(self, error: h11.RemoteProtocolError) -> Refused:
        status = error.error_status_hint
        if status == 501:
            # RFC 9112 6.3: where chunked is not the last coding, no one can tell where the body ends.
            names = [name.strip().lower() for codings in _CODINGS.findall(self._head) for name in codings.split(b",")]
            status = 400 if b"chunked" in names[:-1] else 501
        return Refused(status, f"{str(error)[:200]}; send an HTTP/1.1 request to /v1/models")

    def write(
        self,
        status: int,
        fields: Iterable[tuple[str, str]],
        body: bytes,
        connection: str = "",
        *,
        to_head: bool = False,
    ) -> None:
        """Write a response.

        Args:
            status: The HTTP status.
            fields: Its header fields, but for its length and what is about the connection.
            body: The content.
            connection: What it says of the connection; empty for nothing, as where it persists.
            to_head: Whether it answers HEAD, so that the content is not sent.

        Raises:
            OSError: The client has gone away, or does not read.
        """
        lines = [
            f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\nServer: zoo-serving\r\nDate: {_date(int(time.time()))}"
        ]
        lines += [f"{name}: {value}" for name, value in fields]
        lines.append(f"Content-Length: {len(body)}")
        if connection:
            lines.append(f"Connection: {connection}")
        head = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
        self._socket.settimeout(self._seconds)
        self._socket.sendall(head if to_head else head + body)  # in one packet where it fits


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return email.utils.formatdate(second, usegmt=True)
