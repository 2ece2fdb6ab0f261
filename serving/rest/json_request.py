"""Reads the body of a predict request as feeds (TensorFlow Serving's util/json_tensor.cc)."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.errors import ServingError, invalid
from serving.rest.json_parse import echo, format_error, parse_object
from serving.rest.json_tensor import is_base64, to_array
from serving.runtime.model import DEFAULT_SIGNATURE, Array, TensorSpec

Inputs = Mapping[str, TensorSpec]


class Format(enum.Enum):
    """The layout of a request's tensors, which is that of the answer too; its value is the key there."""

    ROW = "predictions"
    COLUMN = "outputs"


@dataclass(frozen=True)
class PredictRequest:
    """A predict request: parsed, and ready to be read as the tensors of the signature that it names.

    Attributes:
        signature_name: Which signature it asks.
        document: The JSON object.
        only_numbers: Whether no true, false or null stands in it.
    """

    signature_name: str
    document: Mapping[str, Any]
    only_numbers: bool

    def feeds(self, inputs: Inputs) -> tuple[dict[str, Array], Format]:
        """An array for every input, and how the request lays out its tensors.

        Args:
            inputs: The inputs of the signature.

        Raises:
            ServingError: With TensorFlow Serving's code and message.
        """
        try:
            return self._feeds(inputs)
        except RecursionError as error:
            raise invalid("JSON Value is nested too deeply; send tensors as plain nested lists") from error

    def _feeds(self, inputs: Inputs) -> tuple[dict[str, Array], Format]:
        document = self.document
        if not inputs:
            raise invalid(f"Failed to get input map for signature: {document.get('signature_name') or 'DEFAULT'}")
        if "instances" in document:
            if "inputs" in document:
                raise format_error(
                    document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
                )
            rows = document["instances"]
            if not isinstance(rows, list):
                raise format_error(document, "Expecting 'instances' to be an list/array")
            if not rows:
                raise format_error(document, "No values in 'instances' array")
            return _rows(rows, inputs, only_numbers=self.only_numbers), Format.ROW
        if "inputs" in document:
            return _columns(document["inputs"], inputs, only_numbers=self.only_numbers), Format.COLUMN
        raise invalid("Missing 'inputs' or 'instances' key")


def read_predict(body: bytes) -> PredictRequest:
    """Read the body of a predict request: JSON with `instances` (rows) or `inputs` (columns), maybe `signature_name`.

    Raises:
        ServingError: With TensorFlow Serving's code and message.
    """
    document = parse_object(body)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    # NumPy would take these words for numbers. Searching the bytes costs less than looking at every element.
    only_numbers = not any(word in body for word in (b"true", b"false", b"null"))
    return PredictRequest(name or DEFAULT_SIGNATURE, document, only_numbers)


def _columns(value: Any, inputs: Inputs, *, only_numbers: bool) -> dict[str, Array]:
    if not isinstance(value, dict) or is_base64(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = dict.fromkeys(inputs, value)
    for name in inputs:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: to_array(value[name], spec.dtype, only_numbers=only_numbers) for name, spec in inputs.items()}


def _rows(rows: list[Any], inputs: Inputs, *, only_numbers: bool) -> dict[str, Array]:
    if len(inputs) > 1 and not isinstance(rows[0], dict):
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    # The first row decides; TensorFlow Serving refuses a mixture rather than guess.
    named = _is_named(rows[0])
    (first, *_) = inputs
    collected: dict[str, list[Array]] = {}
    for index, row in enumerate(rows):
        if named and not _is_named(row):
            raise invalid(f"Expecting object but got list at item {index} of input list")
        if not named and _is_named(row):
            raise invalid(f"Expecting value/list but got object at item {index} of input list")
        for name, value in row.items() if named else [(first, row)]:
            try:
                _collect(collected, name, value, inputs, only_numbers=only_numbers)
            except ServingError as error:
                key = f" key: {name}" if named else ""
                raise invalid(
                    f"Failed to process element: {index}{key} of 'instances' list. Error: {error.described}"
                ) from error
        if named and set(row) != set(inputs):
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {echo(row)} keys must be equal "
                f"to: {','.join(sorted(inputs))}"
            )
    return {name: np.stack(arrays) for name, arrays in collected.items()}


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _collect(collected: dict[str, list[Array]], name: str, value: Any, inputs: Inputs, *, only_numbers: bool) -> None:
    if name not in inputs:
        raise invalid(f"JSON object: does not have named input: {name}")
    array = to_array(value, inputs[name].dtype, only_numbers=only_numbers)
    arrays = collected.setdefault(name, [])
    if arrays and arrays[0].size != array.size:
        raise invalid(f"Expecting tensor size: {arrays[0].size} but got: {array.size}")
    if arrays and arrays[0].shape != array.shape:
        raise invalid(f"Expecting shape {_shape(arrays[0])} but got: {_shape(array)}")
    arrays.append(array)


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"
