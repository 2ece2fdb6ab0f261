"""TensorFlow Serving's REST API, from method, path and body to status and body; it knows nothing of sockets."""

import importlib
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from serving.errors import HTTP_STATUS, Code, ServingError, invalid
from serving.json_request import decode_predict
from serving.json_response import encode_error, encode_predict, require_writable
from serving.runtime import Model, Signature, TensorSpec
from serving.versions import ServedModel, VersionStatus

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_INFERENCE = re.compile(rf"{_MODEL}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(?:/(metadata))?", re.IGNORECASE | re.ASCII
)
_API = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Response:
    """An answer: HTTP status and JSON."""

    status: int
    body: bytes


def error_response(error: ServingError) -> Response:
    """The answer that reports an error."""
    return Response(HTTP_STATUS[error.code], encode_error(error.message))


class RestApi:
    """The API over a set of models.

    Args:
        models: The models by name. A name in a request is only looked up here.
        timeout_in_ms: How long one run may take.
    """

    def __init__(self, models: Mapping[str, ServedModel], timeout_in_ms: int) -> None:
        self._models = models
        self._timeout_in_ms = timeout_in_ms

    def answer(self, method: str, path: str, body: bytes, origin: str | None = None) -> Response:
        """Answer one request; an error of the request or the model becomes an answer too."""
        if not _API.fullmatch(path):
            return Response(404, encode_error(f"Not found: {path}; the API starts at /v1/models"))
        try:
            return Response(200, self._dispatch(method, path, body, origin))
        except ServingError as error:
            return error_response(error)

    def _dispatch(self, method: str, path: str, body: bytes, origin: str | None) -> bytes:
        if method == "OPTIONS":
            if origin is None or not origin.startswith(("http://", "https://")):
                raise ServingError(Code.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")
            return b""
        if method == "POST" and (match := _INFERENCE.fullmatch(path)):
            name, version, label, verb = match.groups()
            if verb.lower() != "predict":
                raise ServingError(
                    Code.UNIMPLEMENTED, f"{verb.lower()} is not served here; send the tensors to :predict"
                )
            return self._predict(unquote(name), _version(version), label, body)
        if method == "GET" and (match := _STATUS.fullmatch(path)):
            name, version, label, metadata = match.groups()
            if name is None:
                raise invalid("Missing model name in request.")
            if metadata:
                return self._metadata(unquote(name), _version(version), label)
            return self._status(unquote(name), _version(version))
        raise invalid(f"Malformed request: {method} {path}")

    def _model(self, name: str, version: int | None, label: str | None) -> ServedModel:
        if name not in self._models:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
        if label is not None:
            raise invalid(f"Unrecognized servable version label: {unquote(label)}")
        return self._models[name]

    def _predict(self, name: str, version: int | None, label: str | None, body: bytes) -> bytes:
        with ExitStack() as held:
            models: list[Model] = []

            def inputs_of(signature_name: str) -> Mapping[str, TensorSpec]:
                # Only now, after the body is known to be JSON, and held to the end: the model may be swapped meanwhile.
                models.append(held.enter_context(self._model(name, version, label).handle(version))[1])
                return _signature(models[0], signature_name).inputs

            request = decode_predict(body, inputs_of)
            (model,) = models
            require_writable(_signature(model, request.signature_name))
            outputs = model.run(request.signature_name, request.feeds, timeout_in_ms=self._timeout_in_ms)
        return encode_predict(outputs, request.format)

    def _status(self, name: str, version: int | None) -> bytes:
        statuses = self._models[name].statuses() if name in self._models else []
        if not statuses:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        if version is not None:
            statuses = [status for status in statuses if status.version == version]
            if not statuses:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        return json.dumps({"model_version_status": [_status_json(status) for status in statuses]}, indent=1).encode()

    def _metadata(self, name: str, version: int | None, label: str | None) -> bytes:
        with self._model(name, version, label).handle(version) as (served, model):
            signatures = {key: _signature_json(model.signature_def_map[key]) for key in sorted(model.signature_def_map)}
        document = {
            "model_spec": {"name": name, "signature_name": "", "version": str(served)},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }
        return json.dumps(document, indent=1).encode()


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
    # By name: protobuf comes without types.
    json_format: Any = importlib.import_module("google.protobuf.json_format")
    document = json_format.MessageToDict(
        shown, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    # The order of a protobuf map is a matter of chance.
    return {**document, **{key: dict(sorted(document[key].items())) for key in ("inputs", "outputs")}}
