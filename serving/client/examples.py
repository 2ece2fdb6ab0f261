"""What `classify` and `regress` take: `tf.Example` messages, or their JSON over REST."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.client.sequences import InputError, check_sequences
from serving.protos import proto_module

Features = dict[str, list[Any]]  # each a list of float, of int, or of bytes


def features_of(example: Any) -> Features:
    """The features of one example.

    Args:
        example: A mapping from names to a value or several (numbers, texts, bytes); or a sequence (steps, channels),
            which goes as `features`, step after step; or a text, which goes as `text`.

    Raises:
        InputError: A feature is empty, or is neither numbers nor text.

    Example:
    >>> features_of({"age": 3, "name": "x"})
    {'age': [3], 'name': [b'x']}
    >>> features_of([[1, 2], [3, 4]])
    {'features': [1.0, 2.0, 3.0, 4.0]}
    """
    if isinstance(example, str):
        return {"text": [example.encode()]}
    if not isinstance(example, Mapping):
        return {"features": check_sequences([example])[0].ravel().tolist()}
    return {name: _values(name, value) for name, value in example.items()}


def _values(name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes):
        value = [value]
    flat = np.asarray(value, dtype=object).ravel().tolist()
    if flat and all(isinstance(item, str | bytes) for item in flat):
        return [item.encode() if isinstance(item, str) else item for item in flat]
    array = np.asarray(value)
    if array.size == 0 or array.dtype.kind not in "iuf":
        raise InputError(f"feature {name!r} is {value!r}; give numbers or texts, at least one")
    kind = np.int64 if array.dtype.kind in "iu" else np.float32
    values: list[Any] = array.ravel().astype(kind).tolist()
    return values


def to_json(features: Features) -> dict[str, list[Any]]:
    """The features as JSON for REST: decimals always with a point, bytes as base64."""
    return {
        name: [{"b64": base64.b64encode(item).decode()} if isinstance(item, bytes) else item for item in values]
        for name, values in features.items()
    }


def to_proto(features: Features) -> Any:
    """The features as a `tf.Example`."""
    example = proto_module("tensorflow.core.example.example_pb2").Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        kinds = {float: feature.float_list, int: feature.int64_list, bytes: feature.bytes_list}
        kinds[type(values[0])].value.extend(values)
    return example


def from_proto(example: Any) -> Features:
    """The features of a `tf.Example`, without those that are empty."""
    found = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind is not None and getattr(feature, kind).value:
            found[name] = list(getattr(feature, kind).value)
    return found
