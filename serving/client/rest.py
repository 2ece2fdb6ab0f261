"""The client by REST: NumPy and the standard library."""

import base64
import http.client
import json
import queue
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

from serving.client.base import Client
from serving.client.errors import DeadlineExceeded, ServerError, TargetError, Unreachable
from serving.client.examples import Features, to_json
from serving.client.messages import Metadata, Request, VersionState, as_array
from serving.client.targets import parse
from serving.client.tls import Tls
from serving.runtime.data_types import DataType, data_type
from serving.runtime.model import DEFAULT_SIGNATURE, Array, Signature, TensorSpec

_CHUNK = 1 << 16
_TYPES: dict[str, DataType] = {f"DT_{known.name.upper()}": known for known in map(data_type, range(1, 24))}


class RestClient(Client):
    """Asks one model of one server by REST, over connections that are kept open.

    Args:
        target: `http://host:port`, maybe with a path before `/v1`; https too.
        model_name: The model's name on the server.
        ca_file: For https, the certificates to trust, in PEM; the system's if None.
        cert_file: The client's own certificate, in PEM, for servers that ask for one.
        key_file: Its key, in PEM and not encrypted; in `cert_file` too if None.
        options: As for `Client`: version, label, timeout, retries, batch_size, in_flight.

    Raises:
        TargetError: The target is not such an address, or has no TLS although a certificate is given.
        CertificateError: The files cannot be used.
    """

    def __init__(
        self,
        target: str,
        model_name: str,
        *,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        **options: Any,
    ) -> None:
        address = parse(target)
        if not address.rest:
            raise TargetError(f"{target!r} is not an address for REST; give one like http://127.0.0.1:8501")
        super().__init__(address, model_name, **options)
        tls = Tls(ca_file, cert_file, key_file)
        tls.check(target, address)
        self._context = tls.context() if address.secure else None
        self._shown = target
        self._model = f"{address.path}/v1/models/{quote(model_name, safe='')}"
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def prepare(
        self, inputs: Mapping[str, Any], signature_name: str = DEFAULT_SIGNATURE, *, version: int | None = None
    ) -> Request:
        columns = b",".join(orjson.dumps(name) + b":" + _to_json(as_array(value)) for name, value in inputs.items())
        body = b'{"signature_name":%b,"inputs":{%b}}' % (orjson.dumps(signature_name), columns)
        return Request(f"{self._path(version)}:predict", body, signature_name)

    def status(self, *, timeout: float | None = None) -> list[VersionState]:
        # TensorFlow Serving overlooks a label on this route.
        path = self._model if self.version is None else f"{self._model}/versions/{self.version}"
        document = _document(self.send(Request(path, None), timeout=timeout))
        try:
            return [_state(entry) for entry in document.get("model_version_status", [])]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unexpected("no list of versions", document) from error

    def metadata(self, *, version: int | None = None, timeout: float | None = None) -> Metadata:
        return _metadata(_document(self.send(Request(f"{self._path(version)}/metadata", None), timeout=timeout)))

    def close(self) -> None:
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def _path(self, version: int | None) -> str:
        if version is None and self.label is not None:
            return f"{self._model}/labels/{quote(self.label, safe='')}"
        version = self.version if version is None else version
        return self._model if version is None else f"{self._model}/versions/{version}"

    def _once(self, request: Request, seconds: float) -> bytes:
        # Connections are not bound to threads: whoever asks takes an idle one or opens another.
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._connection()
        try:
            status, text = _exchange(connection, request, seconds)
        except TimeoutError as error:
            connection.close()
            raise DeadlineExceeded(f"no answer from {self._shown} in time: {error or 'timed out'}") from error
        except (ConnectionError, http.client.CannotSendRequest) as error:
            connection.close()
            self.close()  # what was idle beside it has probably been lost with it
            raise Unreachable(f"no connection to {self._shown}: {error}; is the server up?") from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable(f"no answer from {self._shown}: {error or type(error).__name__}") from error
        self._idle.put(connection)
        if status != http.client.OK:
            raise ServerError(status, str(_document(text, status).get("error", text[:200])))
        return text

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._target.host, self._target.port)
        return http.client.HTTPSConnection(self._target.host, self._target.port, context=self._context)

    def _outputs(self, reply: bytes, request: Request) -> dict[str, Array]:
        document = _document(reply)
        outputs = document.get("outputs")
        if outputs is None:
            raise _unexpected("no outputs", document)
        if not isinstance(outputs, dict):
            outputs = {self._only_output(request): outputs}
        try:
            return {name: _from_json(value) for name, value in outputs.items()}
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise _unexpected("outputs that are not tensors", document) from error

    def _only_output(self, request: Request) -> str:
        """The name of a single output, which comes without it."""
        metadata = _document(self.send(Request(f"{request.path.removesuffix(':predict')}/metadata", None)))
        (name,) = _metadata(metadata).signatures[request.signature_name].outputs
        return name

    def _prepare_examples(self, verb: str, examples: list[Features], signature_name: str) -> Request:
        body = {"signature_name": signature_name, "examples": [to_json(features) for features in examples]}
        return Request(f"{self._path(None)}:{verb}", json.dumps(body).encode(), signature_name)

    def _classes(self, reply: bytes) -> list[list[tuple[str, float]]]:
        document = _document(reply)
        try:
            return [[(str(label), _rounded(score)) for label, score in row] for row in document["results"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _unexpected("no list of labels and scores", document) from error

    def _values(self, reply: bytes) -> list[float]:
        document = _document(reply)
        try:
            return [_rounded(value) for value in document["results"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _unexpected("no list of numbers", document) from error


def _exchange(connection: http.client.HTTPConnection, request: Request, seconds: float) -> tuple[int, bytes]:
    end = time.monotonic() + seconds
    connection.timeout = seconds
    if connection.sock is not None:
        connection.sock.settimeout(seconds)
    headers = {} if request.body is None else {"Content-Type": "application/json"}
    connection.request("GET" if request.body is None else "POST", request.path, request.body, headers)
    sock = connection.sock  # the connection may let go of it before the answer is read
    sock.settimeout(_left(end))
    response = connection.getresponse()
    with response:
        parts = []
        # Read in parts, since the socket's timeout is for a single read and not for the whole answer.
        while not response.isclosed():
            sock.settimeout(_left(end))
            part = response.read1(_CHUNK)
            if not part:
                break
            parts.append(part)
        if response.length:  # read1 does not raise where the server closes too early
            raise http.client.IncompleteRead(b"", response.length)
    return response.status, b"".join(parts)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _document(text: bytes, status: int = http.client.OK) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ServerError(status, f"the answer is not a JSON object ({text[:60]!r}); is this a TensorFlow Serving?")
    return document


def _unexpected(what: str, document: dict[str, Any]) -> ServerError:
    return ServerError(http.client.OK, f"the answer has {what} ({str(document)[:100]}); is this a TensorFlow Serving?")


def _to_json(array: Array) -> bytes:
    """A number with as few digits as restore it in its own type."""
    if array.dtype.kind == "O":
        encoded = np.frompyfunc(lambda item: {"b64": base64.b64encode(item).decode()}, 1, 1)(array)
        return orjson.dumps(encoded.tolist())
    if array.ndim == 0 or not np.isfinite(array).all():  # orjson refuses the one and writes null for the other
        return json.dumps(array.tolist()).encode()
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return orjson.dumps(native, option=orjson.OPT_SERIALIZE_NUMPY)


def _from_json(value: Any) -> Array:
    leaf = value
    while isinstance(leaf, list) and leaf:
        leaf = leaf[0]
    if isinstance(leaf, str | dict):
        encoded = [_to_bytes(item) for item in np.asarray(value, dtype=object).ravel().tolist()]
        return np.array([*encoded, None], dtype=object)[:-1].reshape(_shape(value))
    array = np.asarray(value)
    if array.dtype.kind not in "fib":
        raise ValueError(f"{array.dtype} is not a type that a tensor can have")
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _shape(value: Any) -> tuple[int, ...]:
    return np.asarray(value, dtype=object).shape


def _to_bytes(item: Any) -> bytes:
    return base64.b64decode(item["b64"]) if isinstance(item, dict) else item.encode()


def _rounded(number: Any) -> float:
    return float(np.float32(number))


def _state(entry: dict[str, Any]) -> VersionState:
    status = entry.get("status", {})
    failed = status.get("error_code", "OK") != "OK"
    error = f"{status['error_code']}: {status.get('error_message', '')}" if failed else ""
    return VersionState(int(entry["version"]), str(entry["state"]), error)


def _metadata(document: dict[str, Any]) -> Metadata:
    try:
        spec = document["model_spec"]
        signatures = document["metadata"]["signature_def"]["signature_def"]
        return Metadata(
            spec["name"], int(spec["version"]), {name: _signature(value) for name, value in signatures.items()}
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unexpected("no metadata of a model", document) from error


def _signature(document: dict[str, Any]) -> Signature:
    inputs, outputs = (
        {name: _spec(value) for name, value in sorted(document.get(side, {}).items())} for side in ("inputs", "outputs")
    )
    return Signature(inputs, outputs)


def _spec(document: dict[str, Any]) -> TensorSpec:
    shape = document.get("tensor_shape", {})
    sizes = [int(dim["size"]) for dim in shape.get("dim", [])]
    dimensions = None if shape.get("unknown_rank") else tuple(None if size < 0 else size for size in sizes)
    kind = document["dtype"]
    return TensorSpec(document["name"], _TYPES.get(kind) or DataType(0, kind, None, False), dimensions)
