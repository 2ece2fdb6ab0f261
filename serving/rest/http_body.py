"""Read the body of an HTTP request completely, within limits of size and time."""

import gzip
import io
import time
import zlib
from email.message import Message
from typing import Protocol

MAX_BODY_BYTES = 64 * 2**20

_CHUNK = 64 * 2**10
_LONGEST_CHUNK_LINE = 1024


class BodyError(Exception):
    """The body cannot be taken; the connection is out of step and must be closed.

    Attributes:
        status: The HTTP status to answer with.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Source(Protocol):
    """What a body is read from."""

    def read1(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


class ContentError(Exception):
    """The body was read, but it is not what its headers say; the connection is in step.

    Attributes:
        status: The HTTP status to answer with.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_body(method: str, headers: Message, source: Source, seconds: float) -> bytes:
    """Read the body that the headers announce.

    Args:
        method: The request's method; only POST must announce one.
        headers: The request's headers.
        source: Where the body comes from, with a timeout of its own for a single read.
        seconds: How long the whole body may take.

    Raises:
        BodyError: No or a senseless length, more than `MAX_BODY_BYTES`, too slow, or cut off.
    """
    deadline = time.monotonic() + seconds
    encoding = headers.get("Transfer-Encoding")
    lengths = {length.strip() for length in headers.get_all("Content-Length", [])}
    try:
        if encoding is not None:
            if lengths:
                raise BodyError(400, "got both Content-Length and Transfer-Encoding; send one of them")
            if encoding.strip().lower() != "chunked":
                raise BodyError(501, f"Transfer-Encoding {encoding!r} is not supported; send chunked or Content-Length")
            return _read_chunked(source, deadline)
        if not lengths:
            if method == "POST":
                raise BodyError(411, "a POST needs its length; send Content-Length or Transfer-Encoding: chunked")
            return b""
        return _read_exactly(source, _length(lengths), deadline)
    except TimeoutError as error:
        raise BodyError(408, f"the body did not arrive within {seconds:g} s; send it faster or in parts") from error


def _length(lengths: set[str]) -> int:
    text = lengths.pop()
    if lengths or not (text.isascii() and text.isdecimal()):
        raise BodyError(400, f"Content-Length must be one whole number of bytes, got {text[:40]!r}")
    if len(text) > 18 or int(text) > MAX_BODY_BYTES:
        raise _too_large(f"{text[:40]} bytes")
    return int(text)


def _too_large(what: str) -> BodyError:
    return BodyError(413, f"the body is {what}, at most {MAX_BODY_BYTES} are taken; send fewer sequences at once")


def _read_exactly(source: Source, size: int, deadline: float) -> bytes:
    body = bytearray()
    while len(body) < size:
        if time.monotonic() > deadline:
            raise TimeoutError
        part = source.read1(min(_CHUNK, size - len(body)))
        if not part:
            raise BodyError(400, f"the body ended after {len(body)} of {size} bytes; send as many as announced")
        body += part
    return bytes(body)


def _read_chunked(source: Source, deadline: float) -> bytes:
    body = bytearray()
    while True:
        line = source.readline(_LONGEST_CHUNK_LINE)
        digits = line.split(b";")[0].strip()
        if not line.endswith(b"\n") or not digits or len(digits) > 8 or digits.strip(b"0123456789abcdefABCDEF"):
            raise BodyError(400, f"a chunk must start with its length in hexadecimal, got {line[:40]!r}")
        size = int(digits, 16)
        if size == 0:
            break
        if len(body) + size > MAX_BODY_BYTES:
            raise _too_large(f"more than {len(body)} bytes")
        body += _read_exactly(source, size, deadline)
        if source.readline(3) not in (b"\r\n", b"\n"):
            raise BodyError(400, f"a chunk of {size} bytes does not end where it should; send its exact length")
    for _ in range(100):
        if source.readline(_LONGEST_CHUNK_LINE) in (b"\r\n", b"\n"):
            return bytes(body)
    raise BodyError(400, "the trailer of the chunked body does not end; end it with an empty line")


def decode_content(headers: Message, body: bytes) -> bytes:
    """Undo the compression that the headers name.

    Raises:
        ContentError: The body is not gzip, or larger than `MAX_BODY_BYTES` without it.

    Example:
    >>> headers = Message()
    >>> headers["Content-Encoding"] = "gzip"
    >>> decode_content(headers, gzip.compress(b"{}"))
    b'{}'
    """
    if "gzip" not in headers.get("Content-Encoding", "").lower():
        return body
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
            plain = stream.read(MAX_BODY_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ContentError(400, f"the body is not the gzip that Content-Encoding announces: {error}") from error
    if len(plain) > MAX_BODY_BYTES:
        raise ContentError(413, str(_too_large("larger when decompressed")))
    return plain
