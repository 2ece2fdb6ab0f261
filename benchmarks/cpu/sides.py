"""The sides of the comparison, each behind one interface, on the same weights and the same numbers."""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from common.cells import Arrays, arrays
from common.timing import CORES, Run, timed
from numpy.typing import NDArray

from cpu.cells import ACTIVATIONS, SLOPE, Case
from cpu.onnx_model import onnx_model
from cpu.torch_child import Child
from zoo.layers import LSTM

tf.get_logger().setLevel("ERROR")  # it warns of functions that are traced in a loop, which is the point here


@dataclass(frozen=True)
class Prepared:
    """A side that is ready to run a case.

    Attributes:
        run: Runs steps and gives their seconds.
        result: What one step computes, by which sides are held against each other. Training: the loss and the norm of
            the gradient of kernel, recurrent kernel, bias, head kernel and head bias. Inference: the last output.
    """

    run: Run
    result: NDArray[np.float32] = field(repr=False)


class Side(Protocol):
    """One implementation.

    Attributes:
        name: What tables call it.
    """

    name: str

    def takes(self, case: Case) -> bool:
        """Whether it can run `case`."""

    def prepare(self, case: Case) -> Prepared:
        """Build it for `case`, compiled and run once."""

    def close(self) -> None:
        """Let go of what it holds."""


class TensorFlowSide:
    """A Keras layer inside one `tf.function`.

    Args:
        name: Of the side.
        make: From a case to an unbuilt layer and to the variables that its activation learns outside of it.
        jit_compile: Compile with XLA.
    """

    def __init__(self, name: str, make: Callable[[Case], tuple[Any, list[Any]]], jit_compile: bool = False) -> None:
        self.name, self.make, self.jit_compile = name, make, jit_compile

    def takes(self, case: Case) -> bool:
        return True

    def prepare(self, case: Case) -> Prepared:
        given = arrays(case.cell)
        layer, slopes = self.make(case)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is unbounded and the sequences have")
            layer.build(given.x.shape)
        own = layer.trainable_variables
        for variable, value in zip(own, (given.kernel, given.recurrent_kernel, given.bias), strict=False):
            variable.assign(value)
        # Given at every call: what a graph has captured it may fold.
        inputs = (tf.constant(given.x), tf.constant(given.labels))
        if case.mode == "inference":
            forward = tf.function(lambda x, labels: layer(x, training=False), jit_compile=self.jit_compile or None)
            return Prepared(timed(lambda: forward(*inputs).numpy()), forward(*inputs).numpy())
        step = self._training_step(layer, given, [v.value for v in own] + slopes)
        loss, gradients = step(*inputs)
        norms = [np.linalg.norm(gradients[place]) for place in (0, 1, 2, -2, -1)]
        return Prepared(timed(lambda: step(*inputs)[0].numpy()), np.array([loss, *norms], "float32"))

    def close(self) -> None:
        pass

    def _training_step(self, layer: Any, given: Arrays, variables: list[Any]) -> Callable[..., Any]:
        kernel, bias = tf.Variable(given.head_kernel), tf.Variable(given.head_bias)

        @tf.function(jit_compile=self.jit_compile or None)
        def step(x: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = layer(x, training=True) @ kernel + bias
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss = tf.reduce_mean(losses)
            return loss, tape.gradient(loss, [*variables, kernel, bias])

        return step


def own_layer(engine: str, case: Case) -> tuple[Any, list[Any]]:
    return LSTM(case.cell.units, activation=ACTIVATIONS[case.activation], engine=engine), []


def keras_layer(case: Case) -> tuple[Any, list[Any]]:
    """`keras.layers.LSTM`; "prelu" there is a function over a variable, one slope a unit shared by both its uses."""
    name, slopes = case.activation, []
    activation: Any = name
    if name == "leaky_relu":
        activation = functools.partial(keras.activations.leaky_relu, negative_slope=SLOPE)
    elif name == "prelu":
        slope = tf.Variable(tf.fill((case.cell.units,), SLOPE))
        slopes.append(slope)

        def activation(x: Any) -> Any:
            return tf.nn.relu(x) - slope * tf.nn.relu(-x)  # as keras.layers.PReLU writes it

    return keras.layers.LSTM(case.cell.units, activation=activation), slopes


class TorchSide:
    """`torch.nn.LSTM` in a process of its own, which runs when it is told to."""

    name = "torch"

    def __init__(self) -> None:
        self._child = Child(CORES)

    def takes(self, case: Case) -> bool:
        return case.activation == "tanh"

    def prepare(self, case: Case) -> Prepared:
        result = self._child.ask(prepare=str(case.cell), mode=case.mode)["result"]
        return Prepared(lambda repeats: self._child.ask(run=repeats)["seconds"], np.array(result, "float32"))

    def close(self) -> None:
        self._child.close()


class OnnxRuntimeSide:
    """onnxruntime's LSTM, inference only, its input already in the order that it wants: steps first."""

    name = "onnxruntime"

    def takes(self, case: Case) -> bool:
        return case.activation == "tanh" and case.mode == "inference"

    def prepare(self, case: Case) -> Prepared:
        import onnxruntime

        given = arrays(case.cell)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = CORES
        # Its threads spin during a run, as they do by default, and not on into the next side's.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")  # as TensorFlow does in its threads
        model = onnx_model(given, case.cell.units)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feeds = {"x": np.ascontiguousarray(given.x.transpose(1, 0, 2))}
        return Prepared(timed(lambda: session.run(None, feeds)), session.run(None, feeds)[0][0])

    def close(self) -> None:
        pass


TENSORFLOW_SIDES: dict[str, TensorFlowSide] = {
    side.name: side
    for side in (
        TensorFlowSide("native", functools.partial(own_layer, "native")),
        TensorFlowSide("reference", functools.partial(own_layer, "reference")),
        TensorFlowSide("keras graph", keras_layer),
        TensorFlowSide("keras xla", keras_layer, jit_compile=True),
    )
}


def sides(say: Callable[[str], object]) -> list[Side]:
    """Every side that can run here; `say` is told, a line each, which cannot."""
    found: list[Side] = list(TENSORFLOW_SIDES.values())
    for side, needs in ((TorchSide, ("torch",)), (OnnxRuntimeSide, ("onnx", "onnxruntime"))):
        missing = [package for package in needs if importlib.util.find_spec(package) is None]
        if missing:
            say(f"{side.name} is left out: {' and '.join(missing)} not installed (the extra `bench` has it)")
        else:
            found.append(side())
    return found


# Relative to the largest number of the result. Sums in another order, over up to 512 steps, differ by 1e-5.
TOLERANCE = {"training": 1e-3, "inference": 1e-4}


def check(case: Case, prepared: dict[str, Prepared]) -> None:
    """Refuse to time what is not finite, or sides that compute different things.

    Raises:
        ValueError: It names the case and the side.
    """
    expected = prepared["reference"].result
    for name, side in prepared.items():
        if not np.isfinite(side.result).all():
            raise ValueError(f"{case}: {name} gives numbers that are not finite, so its time would mean nothing")
        apart = float(np.abs(side.result - expected).max() / np.abs(expected).max())
        if apart > TOLERANCE[case.mode]:
            raise ValueError(
                f"{case}: {name} is {apart:.2g} away from the reference, more than {TOLERANCE[case.mode]:g}: the two "
                "do not compute the same thing, and their times cannot be compared"
            )
