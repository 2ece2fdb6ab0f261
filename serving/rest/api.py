"""TensorFlow Serving's REST API: turns method, path and body into a response, without sockets."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote

from google.protobuf import json_format

from serving.calls import examples as example_calls
from serving.calls.messages import check_any_method
from serving.errors import HTTP_STATUS, Code, ServingError, invalid
from serving.handlers import Handlers, Manager
from serving.metrics import CONTENT_TYPE, Metrics
from serving.models.versions import VersionStatus
from serving.options import ServerOptions
from serving.rest.json_examples import decode_examples
from serving.rest.json_request import read_predict
from serving.rest.json_response import (
    encode_classification,
    encode_error,
    encode_predict,
    encode_regression,
    require_writable,
)
from serving.rest.page import page
from serving.runtime.model import Model, Signature

_Answer = TypeVar("_Answer")

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_INFERENCE = re.compile(rf"{_MODEL}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", re.IGNORECASE | re.ASCII
)
_API = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)

_JSON = "application/json"
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


@dataclass(frozen=True)
class Response:
    """A response: HTTP status, body, media type, and further header fields."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class _Target:
    """The model that a path names."""

    name: str
    version: int | None
    label: str | None


class RestApi:
    """The API over the models of a manager.

    Args:
        manager: Which models there are. A name in a request is only looked up there.
        options: The time limit of a run, and what else the port serves.
        metrics: Where requests are counted.
        metrics_path: The path of the metrics; None for none.
    """

    def __init__(
        self, manager: Manager, options: ServerOptions, metrics: Metrics, metrics_path: str | None = None
    ) -> None:
        self._handlers = Handlers(manager, metrics, check_method_names=options.enable_signature_method_name_check)
        self._options = options
        self._metrics = metrics
        self._metrics_path = metrics_path

    def answer(self, method: str, path: str, body: bytes, origin: str | None = None) -> Response:
        """Answer one request; an error of the request or the model becomes an answer too."""
        # Before the API's own paths: the monitoring configuration may put the metrics anywhere.
        if self._metrics_path is not None and path == self._metrics_path:
            return Response(200, self._metrics.text().encode(), CONTENT_TYPE)
        if self._options.page and (method, path) == ("GET", "/"):
            return Response(200, page(self._handlers.manager.names()), "text/html; charset=utf-8")
        # TensorFlow Serving says "Malformed request" of what begins with /v1/, and knows nothing of the rest.
        if not _API.fullmatch(path):
            return Response(404, encode_error(f"Not found: {path}; the API starts at /v1/models"))
        headers = _CORS if self._options.rest_api_enable_cors_support else None
        try:
            return Response(200, self._dispatch(method, path, body, origin), headers=headers)
        except ServingError as error:
            return Response(HTTP_STATUS[error.code], encode_error(error.message), headers=headers)

    def _dispatch(self, method: str, path: str, body: bytes, origin: str | None) -> bytes:
        if method == "OPTIONS":
            if origin is None or not origin.startswith(("http://", "https://")):
                raise ServingError(Code.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")
            return b""
        if method == "POST" and (match := _INFERENCE.fullmatch(path)):
            *where, verb = match.groups()
            return self._infer(_target(*where), verb.lower(), body)
        if method == "GET" and (match := _STATUS.fullmatch(path)):
            *where, metadata = match.groups()
            if where[0] is None:
                raise invalid("Missing model name in request.")
            target = _target(*where)
            return self._metadata(target) if metadata else self._status(target)
        raise invalid(f"Malformed request: {method} {path}")

    def _infer(self, target: _Target, verb: str, body: bytes) -> bytes:
        calls = {"predict": self._predict, "classify": self._classify, "regress": self._regress}
        with self._handlers.recorded(target.name, verb, "REST"):
            return calls[verb](target, body)

    def _predict(self, target: _Target, body: bytes) -> bytes:
        request = read_predict(body)  # before the model is looked for, as in TensorFlow Serving
        name = request.signature_name
        with self._handlers.model(target.name, target.version, target.label, "Predict") as (_, model):
            signature = _signature(model, name)
            feeds, layout = request.feeds(signature.inputs)
            if self._options.enable_signature_method_name_check:
                check_any_method(model.signature_def_map[name].method_name)
            require_writable(signature)
            outputs = model.run(name, feeds, timeout_in_ms=self._options.rest_api_timeout_in_ms)
        return encode_predict(outputs, layout)

    def _classify(self, target: _Target, body: bytes) -> bytes:
        return encode_classification(*self._on_examples(target, body, "Classify", example_calls.classify).filled())

    def _regress(self, target: _Target, body: bytes) -> bytes:
        return encode_regression(self._on_examples(target, body, "Regress", example_calls.regress))

    def _on_examples(self, target: _Target, body: bytes, api: str, call: Callable[..., _Answer]) -> _Answer:
        request = decode_examples(body)
        with self._handlers.model(target.name, target.version, target.label, api) as (_, model):
            answer = call(
                model,
                request.signature_name,
                request.examples,
                self._options.rest_api_timeout_in_ms,
                check_method_name=self._options.enable_signature_method_name_check,
            )
        self._handlers.count_examples(target.name, len(request.examples))
        return answer

    def _status(self, target: _Target) -> bytes:
        statuses = self._handlers.statuses(target.name, target.version)
        return json.dumps({"model_version_status": [_status_json(status) for status in statuses]}, indent=1).encode()

    def _metadata(self, target: _Target) -> bytes:
        with self._handlers.model(target.name, target.version, target.label, "GetModelMetadata") as (served, model):
            signatures = {key: _signature_json(model.signature_def_map[key]) for key in sorted(model.signature_def_map)}
        document = {
            "model_spec": {"name": target.name, "signature_name": "", "version": str(served)},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }
        return json.dumps(document, indent=1).encode()


def _target(name: str, version: str | None, label: str | None) -> _Target:
    return _Target(unquote(name), _version(version), None if label is None else unquote(label))


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    # The length is looked at first: Python refuses to convert thousands of digits.
    if len(text.lstrip("0")) > 19 or int(text) >= 2**63:
        raise invalid(f"Failed to convert version: {text} to numeric.")
    return int(text)


def _signature(model: Model, name: str) -> Signature:
    if name not in model.signatures:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    return model.signatures[name]


def _status_json(status: VersionStatus) -> dict[str, Any]:
    error = status.error
    return {
        "version": str(status.version),
        "state": status.state.value,
        "status": {
            "error_code": error.code.name if error else "OK",
            "error_message": error.message if error else "",
        },
    }


def _signature_json(definition: Any) -> Any:
    shown = type(definition)()
    shown.CopyFrom(definition)
    shown.ClearField("defaults")
    document = json_format.MessageToDict(
        shown, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    # The order of a protobuf map is a matter of chance.
    return {**document, **{key: dict(sorted(document[key].items())) for key in ("inputs", "outputs")}}
