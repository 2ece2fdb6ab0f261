"""TensorFlow's canonical error codes, and the HTTP status each of them becomes."""

import enum


class Code(enum.IntEnum):
    """The canonical codes, with the numbers that TensorFlow's C API and gRPC use."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: dict[Code, int] = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def code_of(number: int) -> Code:
    """The code with this number; UNKNOWN if TensorFlow should ever send one that is not canonical."""
    return Code(number) if number in HTTP_STATUS else Code.UNKNOWN


class ServingError(RuntimeError):
    """A request, or the loading of a model, failed.

    Attributes:
        code: The canonical code.
        message: What went wrong, without the code.

    Example:
    >>> ServingError(Code.NOT_FOUND, "Could not find any versions of model x").described
    'NOT_FOUND: Could not find any versions of model x'
    """

    exit_code = 1

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def described(self) -> str:
        """The code's name and the message, as TensorFlow prints a status inside another message."""
        return f"{self.code.name}: {self.message}"


class RuntimeUnavailable(RuntimeError):
    """TensorFlow cannot be reached in this way in this installation."""

    exit_code = 1


def invalid(message: str) -> ServingError:
    """The error for a request that is wrong whatever the state of the server."""
    return ServingError(Code.INVALID_ARGUMENT, message)
