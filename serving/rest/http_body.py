"""The content of an HTTP request: its largest size, and what its Content-Encoding names."""

import gzip
import io
import zlib
from collections.abc import Callable, Mapping

MAX_BODY_BYTES = 64 * 2**20
# More codings than these on one body are a way to make a server work, not to send it something.
_MOST_CODINGS = 3


class ContentError(Exception):
    """The body was read, but it is not what its fields say; the connection is in step.

    Attributes:
        status: The HTTP status to answer with.
        fields: Header fields of that answer.
    """

    def __init__(self, status: int, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.fields = fields or {}


def decode_content(codings: str, body: bytes) -> bytes:
    """Undo the codings of a body.

    Args:
        codings: The value of Content-Encoding: names in the order in which they were applied; empty for none.
        body: The content as it came.

    Raises:
        ContentError: A coding is unknown, the body is not of that coding, or larger than `MAX_BODY_BYTES` without it.

    Example:
    >>> decode_content("gzip", gzip.compress(b"{}"))
    b'{}'
    """
    if not codings:
        return body
    names = [name for coding in codings.split(",") if (name := coding.strip().lower()) not in ("", "identity")]
    if len(names) > _MOST_CODINGS or not set(names) <= set(_DECODERS):
        raise ContentError(
            415,
            f"Content-Encoding {codings[:40]!r} is not supported; send gzip, deflate or the content as it is",
            {"Accept-Encoding": "gzip, deflate"},
        )
    for name in reversed(names):
        body = _decoded(name, body)
    return body


def _decoded(name: str, body: bytes) -> bytes:
    try:
        plain = _DECODERS[name](body)
    except (OSError, EOFError, zlib.error) as error:
        raise ContentError(400, f"the body is not the {name} that Content-Encoding announces: {error}") from error
    if len(plain) > MAX_BODY_BYTES:
        raise ContentError(
            413,
            f"the body is larger when decompressed, at most {MAX_BODY_BYTES} bytes are taken; send fewer sequences at "
            "once",
        )
    return plain


def _gunzipped(body: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
        return stream.read(MAX_BODY_BYTES + 1)


def _inflated(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    plain = inflater.decompress(body, MAX_BODY_BYTES + 1)
    if not inflater.eof and len(plain) <= MAX_BODY_BYTES:
        raise EOFError("it ends too early")
    return plain


# RFC 9110 8.4.1: x-gzip is gzip, and deflate is the zlib format.
_DECODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": _gunzipped, "x-gzip": _gunzipped, "deflate": _inflated}
