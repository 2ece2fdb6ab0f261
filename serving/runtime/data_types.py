"""TensorFlow's data types: their number in a graph, the name in messages, and the NumPy type that carries them."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class DataType:
    """One TensorFlow data type.

    Attributes:
        number: Its number in `types.proto`.
        name: As TensorFlow prints it in messages.
        numpy: The NumPy type of an array of it; None where the runtime cannot carry it.
        in_json: Whether TensorFlow Serving's REST API reads and writes it.
    """

    number: int
    name: str
    numpy: np.dtype[Any] | None
    in_json: bool


_TABLE: list[tuple[int, str, Any, bool]] = [
    (1, "float", np.float32, True),
    (2, "double", np.float64, True),
    (3, "int32", np.int32, True),
    (4, "uint8", np.uint8, True),
    (5, "int16", np.int16, True),
    (6, "int8", np.int8, True),
    (7, "string", np.object_, True),
    (8, "complex64", np.complex64, False),
    (9, "int64", np.int64, True),
    (10, "bool", np.bool_, True),
    (14, "bfloat16", None, False),
    (17, "uint16", np.uint16, False),
    (18, "complex128", np.complex128, False),
    (19, "half", np.float16, False),
    (22, "uint32", np.uint32, True),
    (23, "uint64", np.uint64, True),
]
_BY_NUMBER = {
    number: DataType(number, name, None if numpy is None else np.dtype(numpy), in_json)
    for number, name, numpy, in_json in _TABLE
}


def data_type(number: int) -> DataType:
    """The data type with this number in `types.proto`; one that cannot be carried if it is not in the table.

    Example:
    >>> data_type(1).name, data_type(14).numpy
    ('float', None)
    """
    return _BY_NUMBER.get(number) or DataType(number, f"data type {number}", None, False)


STRING = data_type(7)
