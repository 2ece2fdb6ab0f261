"""Messages between client and server, the same for both APIs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.runtime.model import Array, Signature


@dataclass(frozen=True)
class VersionState:
    """One version that a server knows.

    Attributes:
        version: Its number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        error: Why it failed; empty where it did not.
    """

    version: int
    state: str
    error: str = ""


@dataclass(frozen=True)
class Metadata:
    """What a server says about the version that answers.

    Attributes:
        model_name: The model's name on the server.
        version: The version's number.
        signatures: Its entry points by name.
    """

    model_name: str
    version: int
    signatures: Mapping[str, Signature]


@dataclass(frozen=True)
class Request:
    """An encoded request: `Client.send` sends it as often as wanted.

    Attributes:
        path: The route, or the full name of the gRPC method.
        body: The bytes to send; None for a GET.
        signature_name: What it asks.
    """

    path: str
    body: bytes | None
    signature_name: str = ""


def as_array(value: Any) -> Array:
    """An array as a model's input: decimals as float32, strings as bytes; other NumPy arrays as they are.

    Example:
    >>> as_array(["a", "b"])
    array([b'a', b'b'], dtype=object)
    >>> as_array([[0.5]]).dtype, as_array(np.float64([0.5])).dtype
    (dtype('float32'), dtype('float64'))
    """
    array = np.asarray(value)
    if array.dtype.kind in "US":
        array = np.asarray(value, dtype=object)
    if array.dtype.kind == "O":
        encoded = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
        array = np.array([*encoded, None], dtype=object)[:-1].reshape(array.shape)
    elif array.dtype == np.float64 and not isinstance(value, np.ndarray):
        array = array.astype(np.float32)
    return array
