"""The JSON of predict requests and answers: TensorFlow Serving's rules, messages and numbers."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from serving.errors import Code, ServingError
from serving.rest.json_parse import _lenient, parse_object
from serving.rest.json_request import Format, read_predict
from serving.rest.json_response import encode_error, encode_predict, require_writable
from serving.runtime.data_types import data_type
from serving.runtime.model import Signature, TensorSpec

TYPES = {data_type(number).name: data_type(number) for number in (1, 2, 3, 4, 6, 7, 9, 10, 14, 19, 22, 23)}


def spec(kind: str) -> TensorSpec:
    return TensorSpec("t:0", TYPES[kind], None)


SIGNATURES = {
    "serving_default": {"x": spec("float")},
    "two": {"a": spec("float"), "b": spec("int32")},
    "empty": {},
    **{kind: {"x": spec(kind)} for kind in TYPES},
}


def decode(body: bytes | str, signature: str = "serving_default"):
    request = read_predict(body.encode() if isinstance(body, str) else body)
    name = request.signature_name
    return request.feeds(SIGNATURES[signature if name == "serving_default" else name])[0]


@pytest.mark.parametrize(
    ("signature", "body", "name", "expected"),
    [
        ("float", '{"instances": [[1, 2.5], [3, -0.0]]}', "x", np.array([[1, 2.5], [3, -0.0]], "float32")),
        ("float", '{"inputs": [[1, 2.5]]}', "x", np.array([[1, 2.5]], "float32")),
        ("float", '{"inputs": 3}', "x", np.array(3, "float32")),
        ("float", '{"instances": [3, 4]}', "x", np.array([3, 4], "float32")),
        ("float", '{"instances": [[], []]}', "x", np.zeros((2, 0), "float32")),
        ("float", '{"inputs": []}', "x", np.zeros(0, "float32")),
        ("float", '{"inputs": [NaN, Infinity, -Infinity]}', "x", np.array([np.nan, np.inf, -np.inf], "float32")),
        ("float", '{"inputs": [0.1, 16777216.0, 1e-50]}', "x", np.array([0.1, 16777216.0, 0], "float32")),
        ("float", '{"inputs": [1]} trailing ]]', "x", np.array([1], "float32")),
        ("float", b'\xef\xbb\xbf {"inputs": [1]}', "x", np.array([1], "float32")),
        ("float", '{"inputs": [1], "note": [true, null, {"a": "b"}]}', "x", np.array([1], "float32")),
        ("float", '{"inputs": {"x": [1], "other": 5}}', "x", np.array([1], "float32")),
        ("float", '{"instances": [{"x": [1]}, {"x": [2]}]}', "x", np.array([[1], [2]], "float32")),
        ("double", '{"inputs": [0.1, 9007199254740991]}', "x", np.array([0.1, 2**53 - 1])),
        ("int32", '{"inputs": [[-2147483648, 2147483647]]}', "x", np.array([[-(2**31), 2**31 - 1]], "int32")),
        ("int64", '{"inputs": [9223372036854775807]}', "x", np.array([2**63 - 1])),
        ("uint64", '{"inputs": [18446744073709551615, 0]}', "x", np.array([2**64 - 1, 0], "uint64")),
        ("bool", '{"inputs": [true, false]}', "x", np.array([True, False])),
        ("string", '{"inputs": ["a\\u00e9", {"b64": "AP8="}]}', "x", np.array(["aé".encode(), b"\x00\xff"], object)),
        ("string", b'{"inputs": ["\xff\xfe"]}', "x", np.array([b"\xff\xfe"], object)),
        ("string", '{"inputs": {"b64": "AP8"}}', "x", np.array(b"\x00\xff", object)),
        ("string", '{"instances": [{"b64": "aGk="}, "x"]}', "x", np.array([b"hi", b"x"], object)),
        ("two", '{"instances": [{"a": [1], "b": 2}, {"b": 3, "a": [4]}]}', "a", np.array([[1], [4]], "float32")),
        ("two", '{"inputs": {"a": [[1], [4]], "b": [2, 3]}}', "b", np.array([2, 3], "int32")),
    ],
)
def test_bodies_that_are_right(signature: str, body: str, name: str, expected: np.ndarray) -> None:
    value = decode(body, signature)[name]
    assert value.dtype == expected.dtype
    assert value.shape == expected.shape
    np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("  \n", "JSON Parse error: The document is empty. at offset: 3"),
        ("<html>", "JSON Parse error: Invalid value. at offset: 0"),
        ('{"inputs": [1, 2', "JSON Parse error: Missing a comma or ] after an array element. at offset: 16"),
        ('{"inputs": [1 2]}', "JSON Parse error: Missing a comma or ] after an array element. at offset: 14"),
        ('{"é": [1] "b": 1}', "JSON Parse error: Missing a comma or } after an object member. at offset: 11"),
        ('{"inputs" [1]}', "JSON Parse error: Missing a colon after a name of object member. at offset: 10"),
        ("{inputs: [1]}", "JSON Parse error: Missing a name for object member. at offset: 1"),
        ('{"inputs', "JSON Parse error: Missing a closing quotation mark in string. at offset: 1"),
        ('{"inputs": ["\\x"]}', "JSON Parse error: Invalid escape character in string. at offset: 13"),
        ('{"inputs": [tru]}', "JSON Parse error: Invalid value. at offset: 12"),
        ('{"inputs": [1e999]}', "JSON Parse error: Number too big to be stored in double. at offset: 19"),
        ("[1]", "JSON Value: [\n    1\n] Is not object"),
        ("3", "JSON Value: 3 Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        (
            '{"signature_name": 3}',
            'JSON Value: {\n    "signature_name": 3\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        ('{"signature_name": "empty", "inputs": 1}', "Failed to get input map for signature: empty"),
        (
            '{"inputs": 1, "instances": 2}',
            'JSON Value: {\n    "inputs": 1,\n    "instances": 2\n} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist ",
        ),
        ('{"instances": 2}', "JSON Value: {\n    \"instances\": 2\n} Expecting 'instances' to be an list/array"),
        ('{"instances": []}', "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        (
            '{"instances": [[1], [1, 2]]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 1 but got: 2",
        ),
        (
            '{"instances": [[[1, 2]], [[1], [2]]]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [1,2] but got: [2,1]",
        ),
        (
            '{"instances": [[[1], [1, 2]]]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        (
            '{"instances": [[1, "2"]]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "2" Type: String is not of expected type: float',
        ),
        (
            '{"instances": [[1, [2]]]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        ('{"instances": [[1], {"x": 1}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [{"x": 1}, 1]}', "Expecting object but got list at item 1 of input list"),
        (
            '{"instances": [{"y": 1}]}',
            "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: y",
        ),
        ('{"inputs": {"y": 1}}', "Missing named input: x in 'inputs' object."),
        ('{"inputs": [[1], 2]}', "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ('{"inputs": [1, true]}', "JSON Value: true Type: True is not of expected type: float"),
        ('{"inputs": [null]}', "JSON Value: null Type: Null is not of expected type: float"),
        ('{"inputs": [16777216]}', "Cannot convert JSON value: 16777216 to float without loss of precision."),
        ('{"inputs": [1e39]}', "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ('{"inputs": [{"b64": "AA=="}]}', None),
    ],
)  # fmt: skip
def test_bodies_that_are_wrong(body: str, message: str | None) -> None:
    with pytest.raises(ServingError) as caught:
        decode(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    if message is not None:
        assert caught.value.message == message


def not_a(kind: str, value: str) -> str:
    return f"JSON Value: {value} Type: Number is not of expected type: {kind}"


ELEMENT = "Failed to process element: 0 of 'instances' list. "
SEVERAL = "multiple input tensors required as per tensorinfo_map"


@pytest.mark.parametrize(
    ("signature", "body", "code", "message"),
    [
        ("int32", '{"inputs": 1.5}', Code.INVALID_ARGUMENT, not_a("int32", "1.5")),
        ("int32", '{"inputs": [1.0]}', Code.INVALID_ARGUMENT, not_a("int32", "1.0")),
        ("int32", '{"inputs": [2147483648]}', Code.INVALID_ARGUMENT, not_a("int32", "2147483648")),
        ("uint8", '{"inputs": [-1]}', Code.INVALID_ARGUMENT, not_a("uint8", "-1")),
        ("bool", '{"inputs": [1]}', Code.INVALID_ARGUMENT, not_a("bool", "1")),
        ("string", '{"inputs": [1]}', Code.INVALID_ARGUMENT, not_a("string", "1")),
        ("string", '{"inputs": [{"b64": "*"}]}', Code.INVALID_ARGUMENT, "Unable to base64 decode"),
        ("string", '{"inputs": ["\\ud800"]}', Code.INVALID_ARGUMENT,
         "JSON Parse error: The surrogate pair in string is invalid."),
        ("half", '{"inputs": [1.5]}', Code.UNIMPLEMENTED, "Conversion of JSON Value: 1.5 to type: half"),
        ("bfloat16", '{"inputs": 1}', Code.UNIMPLEMENTED, "Conversion of JSON Value: 1 to type: bfloat16"),
        (
            "bfloat16", '{"instances": [1]}', Code.INVALID_ARGUMENT,
            ELEMENT + "Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: bfloat16",
        ),
        (
            "two", '{"instances": [1]}', Code.INVALID_ARGUMENT,
            f"instances is a plain list, but expecting list of objects as {SEVERAL}",
        ),
        (
            "two", '{"inputs": [1]}', Code.INVALID_ARGUMENT,
            f"inputs is a plain value/list, but expecting an object as {SEVERAL}",
        ),
        (
            "two", '{"instances": [{"a": 1}]}', Code.INVALID_ARGUMENT,
            ELEMENT + "JSON object: {\n    \"a\": 1\n} keys must be equal to: a,b",
        ),
    ],
)  # fmt: skip
def test_types_that_are_wrong(signature: str, body: str, code: Code, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        decode(body, signature)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_an_echo_is_short() -> None:
    with pytest.raises(ServingError) as caught:
        decode(json.dumps([0.123456789] * 100_000))
    assert len(caught.value.message) == len("JSON Value:  Is not object") + 256


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_an_error_of_the_request(opening: str) -> None:
    for depth in (40, 60, 500, 100_000):
        with pytest.raises(ServingError) as caught:
            decode('{"inputs": ' + opening * depth + "1" + {"[": "]"}.get(opening, "}") * depth + "}")
        assert caught.value.code is Code.INVALID_ARGUMENT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip


@given(JSON)
def test_both_parsers_read_plain_json_alike(value: object) -> None:
    body = json.dumps({"inputs": value}).encode()
    assert repr(parse_object(body)) == repr(_lenient(body))


def test_an_integer_of_more_than_64_bits_is_a_double_as_in_rapidjson() -> None:
    assert repr(parse_object(b'{"inputs": [18446744073709551616, 1]}')) == "{'inputs': [1.8446744073709552e+19, 1]}"


def test_thousands_of_digits_are_an_error_of_the_request() -> None:
    with pytest.raises(ServingError, match="Number too big"):
        parse_object(b'{"inputs": ' + b"9" * 5000 + b"}")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.0, "1.0"), (0.1, "0.1"), (0.5, "0.5"), (1 / 3, "0.333333343"), (16777216.0, "16777216.0"),
        (1e6, "1e+06"), (123456.0, "123456.0"), (3e-5, "3e-05"),
        (1e-45, "1.4013e-45"), (3.4028235e38, "3.40282347e+38"),
        (-0.0, "-0.0"), (float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity"),
    ],
)  # fmt: skip
def test_floats_as_tensorflow_serving_writes_them(value: float, written: str) -> None:
    body = encode_predict({"y": np.array([value], "float32")}, Format.COLUMN)
    assert body.decode() == f'{{\n    "outputs": [{written}]\n}}'


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_floats_survive(kind: str) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**63, 4000, dtype="uint64")
    values = bits.view("float64") if kind == "float64" else bits.view("float32")
    body = encode_predict({"y": values}, Format.COLUMN)
    read = np.array(json.loads(body)["outputs"], "float64").astype(kind)
    np.testing.assert_array_equal(read, values)


def test_layouts() -> None:
    outputs = {"b": np.array([1, 2]), "a": np.array([[0.5], [2]], "float32")}
    assert json.loads(encode_predict(outputs, Format.ROW)) == {
        "predictions": [{"a": [0.5], "b": 1}, {"a": [2.0], "b": 2}]
    }
    assert json.loads(encode_predict(outputs, Format.COLUMN)) == {"outputs": {"a": [[0.5], [2.0]], "b": [1, 2]}}
    one = {"a": np.array([[1, 2], [3, 4]], "float32")}
    assert encode_predict(one, Format.ROW) == b'{\n    "predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}'
    cube = np.arange(24).reshape(2, 3, 4)
    assert json.loads(encode_predict({"a": cube}, Format.ROW))["predictions"] == cube.tolist()
    for shape in ((0,), (0, 3), (2, 0), (2, 0, 3)):
        written = json.loads(encode_predict({"a": np.zeros(shape)}, Format.COLUMN))
        assert written["outputs"] == np.zeros(shape).tolist()
    assert json.loads(encode_predict({"a": np.array(7)}, Format.COLUMN)) == {"outputs": 7}


def test_strings_and_bytes() -> None:
    outputs = {"s": np.array(['é"\n'.encode(), b"\xff"], object), "s_bytes": np.array([b"\x00", b""], object)}
    body = encode_predict(outputs, Format.COLUMN)
    assert json.loads(body.decode("utf-8", "replace")) == {
        "outputs": {"s": ['é"\n', "\ufffd"], "s_bytes": [{"b64": "AA=="}, {"b64": ""}]}
    }
    assert encode_predict({"t": np.array([True, False])}, Format.COLUMN).endswith(b"[true, false]\n}")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"a": np.array(1.0)}, "Tensor name: a has no shape information "),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
    ],
)
def test_outputs_that_have_no_rows(outputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ServingError) as caught:
        encode_predict(outputs, Format.ROW)
    assert caught.value.message == message


def test_outputs_that_json_cannot_carry() -> None:
    with pytest.raises(ServingError) as caught:
        require_writable(Signature({}, {"y": spec("bfloat16")}))
    assert caught.value.message == "Failed to write JSON value for tensor type: bfloat16"


def test_the_error_body() -> None:
    assert json.loads(encode_error('a "quoted"\n\ud800 word')) == {"error": 'a "quoted"\n\ud800 word'}
