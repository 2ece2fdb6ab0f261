"""Addresses of servers, as people write them."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from serving.client.errors import TargetError

_KINDS = {"http": (True, False), "https": (True, True), "grpc": (False, False), "grpcs": (False, True)}
_PLAIN = re.compile(r"[^\s/:\[\]]+:\d+|\[[0-9a-fA-F:]+\]:\d+")


@dataclass(frozen=True)
class Target:
    """Where a server listens.

    Attributes:
        rest: Whether by REST; by gRPC otherwise.
        secure: Whether by TLS.
        host: The host's name or address; for a Unix socket `unix:` and its path.
        port: Its port; None for a Unix socket, and for the scheme's own.
        path: What stands before `/v1`, without a slash at its end; REST only.
    """

    rest: bool
    secure: bool
    host: str
    port: int | None
    path: str = ""

    @property
    def address(self) -> str:
        """As gRPC takes it."""
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(target: str) -> Target:
    """Read `http(s)://host:port[/path]`, `grpc(s)://host:port`, `host:port` (gRPC) or `unix:path` (gRPC).

    Raises:
        TargetError: It is none of them.

    Example:
    >>> parse("localhost:8500").rest, parse("https://models.example/zoo/").path
    (False, '/zoo')
    """
    if target.startswith("unix:") and len(target) > len("unix:"):
        return Target(rest=False, secure=False, host=target, port=None)
    address = urlsplit(f"grpc://{target}" if _PLAIN.fullmatch(target) else target)
    try:
        port = address.port
    except ValueError:
        port = -1
    if address.scheme not in _KINDS or not address.hostname or port == -1:
        raise TargetError(_no_address(target))
    rest, secure = _KINDS[address.scheme]
    if not rest and (port is None or address.path.strip("/")):
        raise TargetError(_no_address(target))
    return Target(rest, secure, address.hostname, port, address.path.rstrip("/"))


def _no_address(target: str) -> str:
    return (
        f"{target!r} is not the address of a server; give one like http://127.0.0.1:8501 for REST, 127.0.0.1:8500 for "
        "gRPC (https:// and grpcs:// with TLS), or unix:/path/of/socket"
    )
