"""What can go wrong between a client and a server."""

from http import HTTPStatus

from serving.errors import Code


class ServerError(RuntimeError):
    """The server refused, or its answer cannot be used.

    Attributes:
        status: The HTTP status; for an answer by gRPC, the one that its code becomes over REST.
        message: The server's message.
        name: The code's name over gRPC, such as `"NOT_FOUND"`; the status as text over REST.
    """

    exit_code = 1

    def __init__(self, status: int, message: str, code: Code | None = None) -> None:
        self.status = status
        self.message = message
        self.name = str(status) if code is None else code.name
        # An unusable answer is not a refusal: its message says by itself what is wrong.
        super().__init__(message if status == HTTPStatus.OK else f"the server answered {self.name}: {message}")


class Unreachable(RuntimeError):
    """No answer came from the server."""

    exit_code = 1


class DeadlineExceeded(Unreachable):
    """No answer came in time."""


class TargetError(ValueError):
    """The target is not the address of a server."""

    exit_code = 2


class CertificateError(ValueError):
    """The files of a client's TLS cannot be used."""

    exit_code = 2


class VersionGone(RuntimeError):
    """The version of a streaming session is no longer served; its state means nothing to another version."""

    exit_code = 1
