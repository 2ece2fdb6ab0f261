"""Writes tensors as the body of an answer, with TensorFlow Serving's numbers (util/json_tensor.cc).

A float is written with six digits if those give it back, else with as many as give it back for certain; NaN and
infinities stand unquoted; a whole number keeps a `.0`.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from serving.errors import invalid
from serving.rest.json_request import Format
from serving.runtime.data_types import DataType
from serving.runtime.model import Array, Signature

_ALL_DIGITS = {"float32": 9, "float64": 17}


def require_writable(signature: Signature) -> None:
    """Refuse a signature whose outputs JSON cannot carry, before it runs.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    for spec in signature.outputs.values():
        if not spec.dtype.in_json:
            raise invalid(_unwritable(spec.dtype))


def _unwritable(dtype: DataType) -> str:
    return f"Failed to write JSON value for tensor type: {dtype.name}"


def encode_predict(outputs: Mapping[str, Array], layout: Format) -> bytes:
    r"""Write the outputs in the layout of the request.

    Raises:
        ServingError: INVALID_ARGUMENT if there is no output, or rows are asked for and the outputs have none.

    Example:
    >>> encode_predict({"y": np.array([[0.5, 1.0]], "float32")}, Format.COLUMN)
    b'{\n    "outputs": [[0.5, 1.0]]\n}'
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    names = sorted(outputs)  # a map of protobuf has no order; so the same request gets the same bytes
    if layout is Format.ROW:
        _require_rows(outputs)
    written = {name: _nested(_elements(name, outputs[name]), outputs[name].shape) for name in names}
    if layout is Format.ROW:
        rows = list(zip(*(written[name] for name in names), strict=True))
        if len(names) == 1:
            text = f"[{', '.join(_join(value) for (value,) in rows)}\n    ]"
        else:
            text = "[" + ",".join(f"\n        {_object(names, row, indent=8)}" for row in rows) + "\n    ]"
    elif len(names) == 1:
        text = _join(written[names[0]])
    else:
        text = _object(names, [written[name] for name in names], indent=4)
    return f'{{\n    "{layout.value}": {text}\n}}'.encode("utf-8", "surrogateescape")


def encode_classification(labels: Array, scores: Array) -> bytes:
    r"""Write the answer to classify: for every example, pairs of label and score.

    Args:
        labels: Bytes (batch, classes).
        scores: float32 (batch, classes).

    Example:
    >>> encode_classification(np.array([[b"a"]], object), np.array([[0.5]], "float32"))
    b'{\n    "results": [\n        [["a", 0.5]]\n    ]\n}'
    """
    pairs = [f"[{name}, {score}]" for name, score in zip(_elements("", labels), _decimals(scores.ravel()), strict=True)]
    rows = ",".join(f"\n        {_join(row)}" for row in _nested(pairs, labels.shape))
    return f'{{\n    "results": [{rows}\n    ]\n}}'.encode("utf-8", "surrogateescape")


def encode_regression(values: Array) -> bytes:
    r"""Write the answer to regress.

    Args:
        values: float32 (batch,).

    Example:
    >>> encode_regression(np.array([0.5, 1.0], "float32"))
    b'{\n    "results": [0.5, 1.0]\n}'
    """
    return f'{{\n    "results": {_join(_decimals(values))}\n}}'.encode()


def encode_error(message: str) -> bytes:
    """Write the body of an error."""
    return json.dumps({"error": message}, indent=4).encode()


def _require_rows(outputs: Mapping[str, Array]) -> None:
    rows = 0
    for name, array in sorted(outputs.items()):
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if array.shape[0] < 1:
            raise invalid(f"Tensor name: {name} has invalid batch size: {array.shape[0]}")
        if rows and array.shape[0] != rows:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {rows}")
        rows = array.shape[0]


def _elements(name: str, array: Array) -> list[str]:
    """Every element as JSON, in row-major order."""
    flat = array.ravel()
    if flat.dtype.kind == "f":
        return _decimals(flat)
    if flat.dtype.kind == "b":
        return ["true" if value else "false" for value in flat]
    if flat.dtype.kind in "iu":
        return [str(value) for value in flat.tolist()]
    # TensorFlow Serving goes by the name: strings with this ending need not be UTF-8.
    if name.endswith("_bytes"):
        return [json.dumps({"b64": base64.b64encode(value).decode()}) for value in flat]
    return [json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False) for value in flat]


def _decimals(flat: Array) -> list[str]:
    values = flat.tolist()
    # Six digits first, as TensorFlow Serving does; NumPy tells of all at once which of them lose something.
    written = [f"{value:g}" for value in values]
    with np.errstate(over="ignore"):
        exact = np.array(written, np.float64).astype(flat.dtype) == flat
    digits = _ALL_DIGITS[flat.dtype.name]
    return [
        _decimal(text if is_exact else f"{value:.{digits}g}")
        for text, value, is_exact in zip(written, values, exact.tolist(), strict=True)
    ]


def _decimal(text: str) -> str:
    special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text)
    if special:
        return special
    return text if "." in text or "e" in text else f"{text}.0"


def _nested(elements: list[str], shape: tuple[int, ...]) -> Any:
    """The elements in lists within lists; a bare element for a scalar."""
    if not shape:
        return elements[0]
    nested: list[Any] = elements
    for axis in range(len(shape) - 1, 0, -1):
        size = shape[axis]
        count = int(np.prod(shape[:axis]))
        nested = [nested[index * size : (index + 1) * size] for index in range(count)]
    return nested


def _join(value: Any) -> str:
    return value if isinstance(value, str) else f"[{', '.join(map(_join, value))}]"


def _object(names: Iterable[str], values: Iterable[Any], *, indent: int) -> str:
    inner, outer = " " * (indent + 4), " " * indent
    members = ",\n".join(
        f"{inner}{json.dumps(name)}: {_join(value)}" for name, value in zip(names, values, strict=True)
    )
    return f"{{\n{members}\n{outer}}}"
