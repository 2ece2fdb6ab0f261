"""Messages for the serving tests."""

from typing import Any

from serving.protos import proto_module, tensor_proto


def example(*x: float) -> bytes:
    """A serialized `tf.Example` with the floats `x`."""
    message = proto_module("tensorflow.core.example.example_pb2").Example()
    message.features.feature["x"].float_list.value.extend(x)
    data: bytes = message.SerializeToString()
    return data


def tensor(shape: tuple[int, ...], dtype: int = 1, **fields: Any) -> Any:
    """A `TensorProto` of which shape and values need not fit."""
    message = tensor_proto()(dtype=dtype, **fields)
    for size in shape:
        message.tensor_shape.dim.add().size = size
    return message
