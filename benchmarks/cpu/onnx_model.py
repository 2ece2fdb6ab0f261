"""An LSTM for onnxruntime."""

import numpy as np
from common.cells import Arrays
from numpy.typing import NDArray


def onnx_model(given: Arrays, units: int) -> bytes:
    """One LSTM operation that gives the last output, (1, batch, units)."""
    from onnx import TensorProto, helper, numpy_helper

    def iofc(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
        i, f, c, o = np.split(kernel, 4, axis=-1)
        return np.concatenate([i, o, f, c], axis=-1).T

    bias = np.concatenate([iofc(given.bias), np.zeros(4 * units, "float32")])
    weights = {"w": iofc(given.kernel), "r": iofc(given.recurrent_kernel), "b": bias}
    batch, steps, features = given.x.shape
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "w", "r", "b"], ["", "y"], hidden_size=units)],
        "lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (steps, batch, features))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, batch, units))],
        [numpy_helper.from_array(np.ascontiguousarray(value)[None], name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return bytes(model.SerializeToString())
