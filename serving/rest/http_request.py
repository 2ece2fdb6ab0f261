"""The rules of HTTP that its parser leaves to an origin server: versions, methods, Host, targets, framing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import h11

from serving.rest import http_body

# Methods that are known, whether or not the API has an answer for them; any other is a 501.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
# A name or an address, and maybe a port; RFC 3986 allows an empty one.
_HOST = re.compile(r"(?:\[[0-9a-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d*)?", re.ASCII | re.IGNORECASE)
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)


class Refused(Exception):
    """The request cannot be taken; the connection is out of step and must be closed after the answer.

    Attributes:
        status: The HTTP status to answer with.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """The head of a request that is in order.

    Attributes:
        method: Such as `GET`.
        path: What it asks for, without a query; `*` for the server as a whole.
        fields: Header fields by their names in small letters; several of one name are joined by commas.
        connection: What the response must say of the connection: `close` after it, `keep-alive` to a client of
            HTTP/1.0 that asked for it, or empty.
    """

    method: str
    path: str
    fields: Mapping[str, str]
    connection: str


def accepted(head: h11.Request) -> Request:
    """The request with this head, which the parser has found well-formed.

    Raises:
        Refused: It breaks a rule of RFC 9110 or 9112, or asks for what this server does not do.
    """
    version, method = head.http_version.decode(), head.method.decode()
    if not version.startswith("1."):
        raise Refused(505, f"HTTP/{version} is not served here; send HTTP/1.1")
    if method not in _METHODS:
        raise Refused(501, f"the method {method[:40]} is not supported; send GET or POST")
    fields: dict[str, str] = {}
    for name, value in head.headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        if key == "host" and key in fields:
            raise Refused(400, "got two Host fields; send one")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    _require_host(version, fields)
    _require_framing(version, method, fields)
    return Request(method, _path(method, head.target.decode("ascii")), fields, _connection(version, fields))


def _connection(version: str, fields: Mapping[str, str]) -> str:
    """RFC 9112 9.3: whether the connection persists."""
    if "connection" not in fields:
        return "close" if version == "1.0" else ""
    options = {option.strip().lower() for option in fields["connection"].split(",")}
    if "close" in options or (version == "1.0" and "keep-alive" not in options):
        return "close"
    return "keep-alive" if version == "1.0" else ""


def _require_host(version: str, fields: Mapping[str, str]) -> None:
    host = fields.get("host")
    if host is None and version != "1.0":
        raise Refused(400, "a request needs the field Host, with the name or address of this server")
    if host is not None and not _HOST.fullmatch(host):
        raise Refused(400, f"the field Host is {host[:40]!r}; send a name or an address, and maybe :port")


def _require_framing(version: str, method: str, fields: Mapping[str, str]) -> None:
    length = fields.get("content-length")
    if "transfer-encoding" in fields:
        # What a proxy in front may read differently could smuggle a second request.
        if length is not None:
            raise Refused(400, "got both Content-Length and Transfer-Encoding; send one of them")
        if version == "1.0":
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding; send Content-Length")
    elif length is None and method == "POST":
        raise Refused(411, "a POST needs its length; send Content-Length or Transfer-Encoding: chunked")
    elif length is not None and int(length) > http_body.MAX_BODY_BYTES:
        raise too_large(f"{length} bytes")
    if version != "1.0" and fields.get("expect", "100-continue").lower() != "100-continue":
        raise Refused(417, f"the expectation {fields['expect'][:40]!r} cannot be met; leave the field Expect out")


def too_large(what: str) -> Refused:
    """The refusal of a body that is larger than `MAX_BODY_BYTES`."""
    return Refused(
        413, f"the body is {what}, at most {http_body.MAX_BODY_BYTES} are taken; send fewer sequences at once"
    )


def _path(method: str, target: str) -> str:
    if target == "*" and method == "OPTIONS":
        return target
    if absolute := _ABSOLUTE.fullmatch(target):
        host, target = absolute.groups()
        if not host or not _HOST.fullmatch(host):
            raise Refused(400, f"the target names the host {host[:40]!r}; send a name or an address, and maybe :port")
        target = target if target.startswith("/") else f"/{target}"
    if not target.startswith("/"):
        raise Refused(400, f"the target is {target[:40]!r}; send a path such as /v1/models")
    return target.partition("?")[0].partition("#")[0]
