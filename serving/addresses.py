"""Addresses to listen on: what is wrong with one that cannot be taken."""

import errno
import socket

from serving.errors import Code, ServingError


def cannot_listen(host: str | None, address: str, reason: object, flag: str) -> ServingError:
    """The error for an address that cannot be taken, with what to do about it.

    Args:
        host: The host that `--host` names; None for a UNIX socket.
        address: What was to be listened on.
        reason: What the system or gRPC said.
        flag: The flag that chooses the port or the socket.

    Example:
    >>> print(cannot_listen("no.such.host.invalid", "no.such.host.invalid:80", "unknown", "--port").message)
    cannot listen on no.such.host.invalid:80: unknown; --host names no host that can be found: give an address of this \
machine, such as 127.0.0.1, or 0.0.0.0 for all
    """
    return ServingError(Code.UNAVAILABLE, f"cannot listen on {address}: {reason}; {_hint(host, flag)}")


def _hint(host: str | None, flag: str) -> str:
    address = "give an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all"
    if host is not None:
        try:
            # Port 0 is free on every address that this machine has.
            family, kind, protocol, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        except OSError:
            return f"--host names no host that can be found: {address}"
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return f"--host is not an address of this machine: {address}"
    return f"stop what listens there or choose another {flag}"
