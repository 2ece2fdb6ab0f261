"""Turns a JSON value into a dense array by TensorFlow Serving's type rules, with its messages (util/json_tensor.cc)."""

import base64
import binascii
import re
from typing import Any

import numpy as np

from serving.errors import Code, ServingError, invalid
from serving.rest.json_parse import echo
from serving.runtime.data_types import STRING, DataType
from serving.runtime.model import Array

_BASE64_SPACE = re.compile(r"\s")

# NumPy 1 has 32 dimensions, of which a batch of rows takes one.
MAX_RANK = 31

# The range that RapidJSON's IsInt, IsInt64, IsUint and IsUint64 accept, by the name of the type.
_INTEGER_RANGES = {
    "int32": (-(2**31), 2**31),
    "int16": (-(2**15), 2**15),
    "int8": (-(2**7), 2**7),
    "uint8": (0, 2**8),
    "int64": (-(2**63), 2**63),
    "uint32": (0, 2**32),
    "uint64": (0, 2**64),
}
# The largest integer up to which every one is a float, or a double.
_LARGEST_INTEGER = {"float": 2**24 - 1, "double": 2**53 - 1}


def to_array(value: object, dtype: DataType, *, only_numbers: bool) -> Array:
    """Turn a JSON scalar or nested list into an array.

    Args:
        value: The parsed JSON.
        dtype: The type of the tensor.
        only_numbers: Whether the whole document is known to hold no true, false or null, which NumPy would take for
            numbers. Without it every element is looked at, which is slow.

    Raises:
        ServingError: INVALID_ARGUMENT if the lists are ragged or an element is of another type; UNIMPLEMENTED if
            REST cannot carry the type.

    Example:
    >>> from serving.runtime.data_types import data_type
    >>> to_array([[1, 2.5]], data_type(1), only_numbers=True)
    array([[1. , 2.5]], dtype=float32)
    """
    # NumPy reads lists of numbers far faster than the loop below, which has TensorFlow Serving's messages.
    if only_numbers and dtype.in_json and dtype is not STRING:
        array = _fast(value, dtype)
        if array is not None:
            return array
    shape = dense_shape(value)
    if len(shape) > MAX_RANK:
        raise invalid(f"JSON Value is nested in {len(shape)} lists; a tensor has at most {MAX_RANK} dimensions here")
    flat: list[Any] = []
    _fill(value, 0, shape, dtype, flat)
    if 0 in shape:
        return np.empty(shape, dtype.numpy)
    array = np.empty(len(flat), dtype.numpy)
    array[:] = flat
    return array.reshape(shape)


def _fast(value: object, dtype: DataType) -> Array | None:
    """The array, if NumPy's reading of `value` is certain to be the right one; else None, and `_fill` decides."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        return None
    if array.size == 0 or array.ndim > MAX_RANK:
        return None
    if dtype.name in _LARGEST_INTEGER:
        limit = _LARGEST_INTEGER[dtype.name]
        certain = array.dtype.kind in "iuf" and not (np.abs(array[np.isfinite(array)]) > limit).any()
    else:
        low, high = _INTEGER_RANGES.get(dtype.name, (0, 0))
        certain = array.dtype.kind == "i" and low <= int(array.min()) and int(array.max()) < high
    return array.astype(dtype.numpy) if certain else None


def dense_shape(value: object) -> tuple[int, ...]:
    """The shape that the first elements of nested lists suggest."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def is_base64(value: object) -> bool:
    """Whether a JSON value is `{"b64": "..."}` and nothing else."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _fill(value: object, level: int, shape: tuple[int, ...], dtype: DataType, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {echo(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_element(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(item, level + 1, shape, dtype, flat)


def _element(value: object, dtype: DataType) -> object:
    if not dtype.in_json:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {echo(value)} to type: {dtype.name}")
    if dtype is STRING:
        return _string(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if dtype.name == "bool":
        fits = isinstance(value, bool)
    elif dtype.name in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[dtype.name]
        fits = is_number and isinstance(value, int) and low <= value < high
    else:
        fits = is_number
    if not fits:
        raise _type_error(value, dtype)
    if dtype.name in _LARGEST_INTEGER and not is_lossless(value, dtype):
        raise invalid(f"Cannot convert JSON value: {echo(value)} to {dtype.name} without loss of precision.")
    return value


def is_lossless(value: Any, dtype: DataType) -> bool:
    """Whether a JSON number fits float or double; an infinity does."""
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return abs(value) <= _LARGEST_INTEGER[dtype.name]
    try:
        value = float(value)
    except OverflowError:
        return False
    return not np.isfinite(value) or abs(value) <= float(np.finfo(dtype.numpy).max)


def _string(value: object) -> bytes:
    if isinstance(value, dict):
        if not is_base64(value):
            raise invalid(f"JSON Value: {echo(value)} not formatted correctly for base64 data")
        return decode_base64(value["b64"])
    if not isinstance(value, str):
        raise _type_error(value, STRING)
    return string_bytes(value)


def string_bytes(text: str) -> bytes:
    """The bytes of a JSON string, those that are not UTF-8 as they were sent."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from error


def decode_base64(text: str) -> bytes:
    """Decode base64; white space and missing padding are allowed, as absl::Base64Unescape allows them.

    Example:
    >>> decode_base64("aGk")
    b'hi'
    """
    compact = _BASE64_SPACE.sub("", text).rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def type_name(value: object) -> str:
    """The type of a JSON value in TensorFlow Serving's words.

    Example:
    >>> type_name(None), type_name(True), type_name(1.5)
    ('Null', 'True', 'Number')
    """
    if isinstance(value, bool):
        return str(value)
    kinds = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return kinds[type(value)]


def _type_error(value: object, dtype: DataType) -> ServingError:
    return invalid(f"JSON Value: {echo(value)} Type: {type_name(value)} is not of expected type: {dtype.name}")
