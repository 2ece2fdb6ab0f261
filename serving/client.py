"""A client of TensorFlow Serving's REST API, for this project's models; needs no TensorFlow."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

from serving.sequences import check_sequences, pad

_FIRST_PAUSE = 0.1
_UNAVAILABLE = 503


class ServerError(RuntimeError):
    """The server refused.

    Attributes:
        status: The HTTP status.
        message: The server's message.
    """

    exit_code = 1

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the server answered {status}: {message}")
        self.status = status
        self.message = message


class Unreachable(RuntimeError):
    """No answer came from the server."""

    exit_code = 1


class TargetError(ValueError):
    """The target is no address of a server."""

    exit_code = 2


@dataclass(frozen=True)
class Prediction:
    """The answer for one sequence.

    Attributes:
        label: The name of the likeliest class; empty where the model had no finite answer.
        class_id: Its number; -1 likewise.
        probabilities: The probability of every class.
    """

    label: str
    class_id: int
    probabilities: tuple[float, ...]


class RestClient:
    """Asks one model of one server, over a connection that is kept open.

    It may be used from several threads, which then take turns; for requests in parallel make one client per thread.

    Args:
        target: `http://host:port`, maybe with a path before `/v1`; https too.
        model_name: The model's name on the server.
        version: The version to ask; None for the one that is served.
        timeout: Seconds to wait for a connection or an answer.
        retries: How often a request is sent again after a lost connection or a 503.

    Raises:
        TargetError: The target is no such address.
    """

    def __init__(
        self, target: str, model_name: str, *, version: int | None = None, timeout: float = 10.0, retries: int = 2
    ) -> None:
        address = urlsplit(target)
        try:
            port = address.port
        except ValueError:
            port = -1
        if address.scheme not in ("http", "https") or not address.hostname or port == -1:
            raise TargetError(f"{target!r} is no address; give one like http://127.0.0.1:8501")
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(address.hostname, port, timeout=timeout)
        self._target = target
        model = f"{address.path.rstrip('/')}/v1/models/{quote(model_name, safe='')}"
        self._path = model if version is None else f"{model}/versions/{version}"
        self._retries = retries
        self._lock = threading.Lock()

    def predict(self, sequences: Sequence[Any], *, allow_non_finite: bool = False) -> list[Prediction]:
        """Classify sequences in one request; they may differ in length.

        Args:
            sequences: One array (steps, channels) for each.
            allow_non_finite: Whether NaN and infinities may be sent; the model answers them with class -1.

        Returns:
            One prediction for each sequence, in order.

        Raises:
            InputError: A sequence is not what a model takes; nothing was sent.
            ServerError: The server refused.
            Unreachable: No answer came.
        """
        checked = check_sequences(sequences, allow_non_finite=allow_non_finite)
        features, lengths = pad(checked)
        inputs: dict[str, Any] = {"features": features.tolist()}
        signature = "serving_default"
        if (lengths != lengths[0]).any():
            inputs["lengths"] = lengths.tolist()
            signature = "serving_padded"
        body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
        outputs = self._request("POST", f"{self._path}:predict", body).get("outputs")
        return _predictions(outputs, len(checked))

    def status(self) -> list[dict[str, Any]]:
        """The state of every version that the server knows, the newest first.

        Raises:
            ServerError: The server does not know the model.
            Unreachable: No answer came.
        """
        statuses: list[dict[str, Any]] = self._request("GET", self._path).get("model_version_status", [])
        return statuses

    def metadata(self) -> dict[str, Any]:
        """The model's name, version and signatures.

        Raises:
            ServerError: The server does not know the model.
            Unreachable: No answer came.
        """
        return self._request("GET", f"{self._path}/metadata")

    def wait_until_ready(self, timeout: float) -> None:
        """Return as soon as a version is available.

        Raises:
            Unreachable: None was within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                statuses = self.status()
                if any(status.get("state") == "AVAILABLE" for status in statuses):
                    return
                reason = f"its versions are {[status.get('state') for status in statuses]}"
            except (ServerError, Unreachable) as error:
                reason = str(error)
            if time.monotonic() > deadline:
                raise Unreachable(f"the model was not ready within {timeout:g} s: {reason}")
            time.sleep(_FIRST_PAUSE)

    def _request(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        with self._lock:
            for attempt in range(self._retries + 1):
                is_last = attempt == self._retries
                try:
                    status, text = self._send(method, path, body)
                except (ConnectionError, http.client.CannotSendRequest) as error:
                    if is_last:
                        raise Unreachable(f"no connection to {self._target}: {error}; is the server up?") from error
                except (OSError, http.client.HTTPException) as error:
                    raise Unreachable(f"no answer from {self._target}: {error or type(error).__name__}") from error
                else:
                    if status != _UNAVAILABLE or is_last:
                        return _document(status, text)
                time.sleep(_FIRST_PAUSE * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request opens it anew
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> "RestClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _document(status: int, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ServerError(status, f"an answer that is no JSON object ({text[:60]!r}); is this a TensorFlow Serving?")
    if status != http.client.OK:
        raise ServerError(status, str(document.get("error", document)))
    return document


def _predictions(outputs: Any, count: int) -> list[Prediction]:
    try:
        columns = list(zip(outputs["label"], outputs["class_id"], outputs["probabilities"], strict=True))
        predictions = [
            Prediction(str(label), int(class_id), tuple(map(float, probabilities)))
            for label, class_id, probabilities in columns
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(
            http.client.OK,
            f"outputs without a row of label, class_id and probabilities per sequence ({error!r}); "
            "serve a model that `zoo export` wrote",
        ) from error
    known = all(-1 <= prediction.class_id < len(prediction.probabilities) for prediction in predictions)
    if len(predictions) != count or not known:
        raise ServerError(
            http.client.OK,
            f"{len(predictions)} answers for {count} sequences, or a class without a probability; export it again",
        )
    return predictions
