"""Tensor messages to arrays and back, and those that may not reach TensorFlow."""

from typing import Any

import numpy as np
import pytest

from examples import tensor
from serving.calls.tensor_protos import MAX_FILLED_BYTES, from_array, to_array
from serving.errors import ServingError
from serving.protos import tensor_proto


def test_tensors_are_those_of_tensorflow() -> None:
    import tensorflow as tf

    for values in (np.array([[1.5, -2]], "float32"), np.array([True, False]), np.array([1 + 2j], "complex64"),
                   np.array([0.1], "float16"), np.array([1j], "complex128"), np.array([7, -7], "int16")):  # fmt: skip
        for as_content in (False, True):
            np.testing.assert_array_equal(tf.make_ndarray(from_array(values, as_content=as_content)), values)
        np.testing.assert_array_equal(to_array(tf.make_tensor_proto(values)), values)
    strings = tf.constant([b"a", b"", b"c" * 200])
    # TensorFlow reads back what it writes into tensor_content; so does this.
    content = tf.io.serialize_tensor(strings).numpy()
    np.testing.assert_array_equal(to_array(tensor_proto().FromString(content)), strings.numpy())
    encoded = tensor_proto()(dtype=7, tensor_content=b"\x01\x00\xc8\x01a" + b"c" * 200)
    encoded.tensor_shape.dim.add().size = 3
    np.testing.assert_array_equal(to_array(encoded), strings.numpy())


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (tensor((3,), float_val=[1, 2]), [1, 2, 2]),
        (tensor((2,), float_val=[1, 2, 3]), [1, 2]),
        (tensor((2,)), [0, 0]),
        (tensor((2,), 7), [b"", b""]),
        (tensor((2,), 7, string_val=[b"a"]), [b"a", b"a"]),
        (tensor((2,), 6, int_val=[300]), [44, 44]),
        (tensor((2,), 10, tensor_content=b"\x02\x00"), [True, False]),
        (tensor((0, 5), float_val=[1]), []),
        (tensor((1,), 8, scomplex_val=[1, 2, 3]), [1 + 2j]),
    ],
)
def test_values_that_are_missing_or_too_many(message: Any, expected: list[Any]) -> None:
    assert to_array(message).tolist() == expected


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (tensor((-1,)), "negative dimension"),
        (tensor((2**62, 4)), "bytes of float"),
        (tensor((2**62, 2**62, 2**62, 0)), "bytes of float"),
        (tensor((0, 10**9, 3)), "bytes of float"),
        (tensor((2**24,), float_val=[1]), "bytes of float"),
        (tensor((MAX_FILLED_BYTES // 4 + 1,), float_val=[1]), "where only 1 values are sent"),
        (tensor((1, MAX_FILLED_BYTES // 4 + 1, 0)), "where only 0 values are sent"),
        (tensor((1,) * 33, float_val=[1]), "at most 32 dimensions"),
        (tensor((2,), tensor_content=b"123"), "tensor_content has 3 bytes, 2 values of float are 8"),
        (tensor((2,), 7, tensor_content=b"\x01\x7fab"), "does not hold 2 strings"),
        (tensor((2,), 7, tensor_content=b"\xff\xff\xff\xff\xff\xff\x01"), "does not hold 2 strings"),
        (tensor((10**5,), 7, string_val=[b"a"]), "bytes of string"),
        (tensor((1,), 14, half_val=[1]), "type bfloat16"),
        (tensor((1,), 0), "data type 0"),
        (tensor((1,), 101), "data type 101"),
    ],
)
def test_tensors_that_are_refused(message: Any, words: str) -> None:
    with pytest.raises(ServingError, match=words):
        to_array(message)
