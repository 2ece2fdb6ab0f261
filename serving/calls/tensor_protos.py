"""`TensorProto` messages to arrays and back, by the rules of TensorFlow's `Tensor::FromProto`, within limits of memory.

Nothing that a client sends may reach TensorFlow's C API unchecked: a negative dimension, or a product of dimensions
that overflows, ends the process there.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serving.errors import Code, ServingError, invalid
from serving.protos import tensor_proto
from serving.runtime.data_types import STRING, DataType, data_type
from serving.runtime.model import Array

MAX_TENSOR_BYTES = 64 * 2**20
# A few bytes can ask for any shape: what is not sent is filled in, and a graph makes room and loops for the rows and
# steps that a dimension of zero leaves without values. So where values are missing, this bounds the product of the
# dimensions that are not zero.
MAX_FILLED_BYTES = 2**20
# TensorFlow's TensorShape has at most 254; NumPy 1 has 32.
MAX_RANK = 32
_STRING_BYTES = 24

# By the name of the type: the field with the values, and the NumPy type of the numbers in it.
_FIELDS: dict[str, tuple[str, Any]] = {
    "float": ("float_val", np.float32),
    "double": ("double_val", np.float64),
    "int32": ("int_val", np.int32),
    "uint8": ("int_val", np.int32),
    "int16": ("int_val", np.int32),
    "int8": ("int_val", np.int32),
    "string": ("string_val", np.object_),
    "complex64": ("scomplex_val", np.float32),
    "int64": ("int64_val", np.int64),
    "bool": ("bool_val", np.bool_),
    "uint16": ("int_val", np.int32),
    "complex128": ("dcomplex_val", np.float64),
    "half": ("half_val", np.int32),
    "uint32": ("uint32_val", np.uint32),
    "uint64": ("uint64_val", np.uint64),
}
# Fields whose packed form on the wire is the array's own memory, with their tag: read so, they need no Python number.
_PACKED_TAGS = {"float": b"\x2a", "double": b"\x32", "bool": b"\x5a"}
_NUMBERS = {known.numpy: known.number for known in map(data_type, range(1, 24)) if known.numpy is not None}


def to_array(proto: Any) -> Array:
    """Read a `TensorProto`; the array may be read-only. Strings come as an object array of bytes.

    Values that are missing repeat the last one, or are zero where there is none, and values too many are ignored.

    Raises:
        ServingError: INVALID_ARGUMENT for an impossible shape, a tensor of more than `MAX_TENSOR_BYTES`, or of more
            than `MAX_FILLED_BYTES` if values are missing, or raw bytes of another length than the shape;
            UNIMPLEMENTED for a data type that cannot be carried here.
    """
    dtype = data_type(proto.dtype)
    if dtype.numpy is None:
        raise ServingError(Code.UNIMPLEMENTED, f"a tensor of type {dtype.name} cannot be read here; send float32")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    count = _require_possible(shape, dtype)
    if count and proto.tensor_content:
        return _from_content(proto.tensor_content, count, dtype).reshape(shape)
    return _from_values(proto, shape, count, dtype).reshape(shape)


def _require_possible(shape: Sequence[int], dtype: DataType) -> int:
    """Refuse a shape that no tensor here can have; how many elements it has."""
    if len(shape) > MAX_RANK:
        raise invalid(f"a tensor has at most {MAX_RANK} dimensions here, got {len(shape)}")
    if min(shape, default=0) < 0:
        raise invalid(f"the shape {list(shape)} has a negative dimension")
    _require_size(shape, dtype, MAX_TENSOR_BYTES, "are taken")
    return math.prod(shape)


def _require_size(shape: Sequence[int], dtype: DataType, most: int, what: str) -> None:
    size = math.prod(dimension or 1 for dimension in shape)
    size *= _STRING_BYTES if dtype is STRING else np.dtype(dtype.numpy).itemsize
    if size > most:
        raise invalid(f"the shape {list(shape)} makes {size} bytes of {dtype.name}, at most {most} {what}")


def _from_content(content: bytes, count: int, dtype: DataType) -> Array:
    if dtype is STRING:
        return _objects(_split(content, count))
    kind = np.dtype(dtype.numpy)
    if len(content) != count * kind.itemsize:
        raise invalid(
            f"tensor_content has {len(content)} bytes, {count} values of {dtype.name} are {count * kind.itemsize}"
        )
    if kind == np.bool_:
        # Any byte but 0 and 1 would be a value that no bool has.
        return np.frombuffer(content, np.uint8).astype(np.bool_)
    # The wire's byte order is little-endian, whatever this machine's.
    return np.frombuffer(content, kind.newbyteorder("<")).astype(kind, copy=False)


def _from_values(proto: Any, shape: Sequence[int], count: int, dtype: DataType) -> Array:
    field, kind = _FIELDS[dtype.name]
    values = getattr(proto, field)
    flat: Array
    if dtype is STRING:
        flat = _objects(list(values[:count]))
    elif dtype.name == "half":
        flat = np.array(values, kind).astype(np.uint16).view(np.float16)
    elif dtype.name.startswith("complex"):
        flat = np.array(values[: len(values) // 2 * 2], kind).view(np.dtype(dtype.numpy))
    else:
        # NumPy copies a repeated field as memory. Integers too large for a small type wrap around, as in TensorFlow.
        flat = np.array(values, kind).astype(dtype.numpy, copy=False)
    flat = flat[:count]
    if 0 < count == len(flat):
        return flat
    _require_size(shape, dtype, MAX_FILLED_BYTES, f"where only {len(flat)} values are sent")
    filled = np.empty(count, dtype.numpy)
    filled[: len(flat)] = flat
    filled[len(flat) :] = flat[-1] if len(flat) else (b"" if dtype is STRING else 0)
    return filled


def _objects(values: list[bytes]) -> Array:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def _split(content: bytes, count: int) -> list[bytes]:
    """Strings as TensorFlow encodes them in `tensor_content`: every length as a varint, then the bytes of all."""
    lengths, position = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 28:
                raise invalid(f"tensor_content does not hold {count} strings; send them in string_val")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise invalid(f"tensor_content does not hold {count} strings; send them in string_val")
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def from_array(array: Array, *, as_content: bool = False, into: Any = None) -> Any:
    """The `TensorProto` of an array.

    Args:
        array: Of a type in `serving.runtime.data_types`; strings as an object array of bytes.
        as_content: Whether numbers go as raw bytes in `tensor_content` instead of in the field of their type. Strings
            never do: no client library reads them there.
        into: An empty message to fill instead of a new one.

    Raises:
        ServingError: UNIMPLEMENTED; no tensor holds such an array.
    """
    if array.dtype not in _NUMBERS:
        raise ServingError(Code.UNIMPLEMENTED, f"a tensor cannot hold an array of {array.dtype}; convert it to float32")
    proto = tensor_proto()() if into is None else into
    dtype = data_type(_NUMBERS[array.dtype])
    proto.dtype = dtype.number
    proto.tensor_shape.SetInParent()  # a scalar has a shape too, without dimensions
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if as_content and dtype is not STRING:
        proto.tensor_content = _little_endian(array)
    elif dtype.name in _PACKED_TAGS and array.size:
        packed = _little_endian(array)
        proto.MergeFromString(_PACKED_TAGS[dtype.name] + _varint(len(packed)) + packed)
    else:
        field, _ = _FIELDS[dtype.name]
        getattr(proto, field).extend(_numbers(array).tolist())
    return proto


def _little_endian(array: Array) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _numbers(array: Array) -> Array:
    """The elements in row-major order, as the numbers that their field holds."""
    flat = np.ravel(array)
    views: dict[str, Callable[[], Array]] = {
        "float16": lambda: flat.view(np.uint16),
        "complex64": lambda: flat.view(np.float32),
        "complex128": lambda: flat.view(np.float64),
    }
    return views.get(array.dtype.name, lambda: flat)()


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
