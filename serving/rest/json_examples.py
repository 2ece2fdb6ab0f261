"""Reads the body of a classify or regress request as `tf.Example` messages (util/json_tensor.cc there)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.errors import invalid
from serving.protos import proto_module
from serving.rest.json_parse import echo, format_error, parse_object
from serving.rest.json_tensor import decode_base64, is_base64, is_lossless, string_bytes, type_name
from serving.runtime.data_types import data_type

_FLOAT = data_type(1)
_KINDS = {"float_list": "float", "int64_list": "int64", "bytes_list": "bytes"}


@dataclass(frozen=True)
class ExamplesRequest:
    """A decoded classify or regress request.

    Attributes:
        signature_name: As it was sent, maybe empty.
        examples: Serialized `tf.Example` messages, each behind the context that all of them share.
    """

    signature_name: str
    examples: list[bytes]


def decode_examples(body: bytes) -> ExamplesRequest:
    """Decode the body of a classify or regress request.

    Args:
        body: JSON with `examples`, a list of objects from a feature's name to a value or a list of them, and maybe
            `context`, such an object too, and `signature_name`. Decimals become floats, integers and booleans int64,
            strings and base64 bytes.

    Raises:
        ServingError: With TensorFlow Serving's code and message.
    """
    document = parse_object(body)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    context = _example(document["context"]).SerializeToString() if "context" in document else b""
    if "examples" not in document:
        raise format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(document, "'examples' value is an empty array")
    return ExamplesRequest(name, [context + _example(example).SerializeToString() for example in examples])


def _example(value: Any) -> Any:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    example = proto_module("tensorflow.core.example.example_pb2").Example()
    for name, content in value.items():
        # A name must be text in a message, whatever bytes were sent for it.
        feature = example.features.feature[string_bytes(name).decode("utf-8", "replace")]
        if isinstance(content, list):
            _add_all(feature, name, content)
        else:
            _add(feature, name, content)
    return example


def _add_all(feature: Any, name: str, values: list[Any]) -> None:
    if set(map(type, values)) == {float}:
        numbers = np.array(values)
        if not (np.abs(numbers[np.isfinite(numbers)]) > np.finfo(np.float32).max).any():
            feature.float_list.value.extend(values)
            return
    for value in values:
        _add(feature, name, value)


def _add(feature: Any, name: str, value: Any) -> None:
    if isinstance(value, str) or is_base64(value):
        _list(feature, name, "bytes_list").append(
            string_bytes(value) if isinstance(value, str) else decode_base64(value["b64"])
        )
    elif isinstance(value, bool):
        _list(feature, name, "int64_list").append(int(value))
    # What no 64 bits hold is a double to the parser.
    elif isinstance(value, int) and -(2**63) <= value < 2**64:
        values = _list(feature, name, "int64_list")
        if value >= 2**63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        values.append(value)
    elif isinstance(value, int | float):
        values = _list(feature, name, "float_list")
        if not is_lossless(value, _FLOAT):
            raise invalid(f"Cannot convert JSON value: {echo(value)} to float without loss of precision.")
        values.append(float(value))
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def _list(feature: Any, name: str, kind: str) -> Any:
    """The feature's values of a kind, if it has none of another."""
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[present]}")
    return getattr(feature, kind).value
