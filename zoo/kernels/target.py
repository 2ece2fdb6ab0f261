"""Finds out who traces a graph and where it will run: a graph that leaves this process has stock operations only.

Neither Keras nor the backends tell a layer what a trace is for. This module decides it for the whole project:

| who traces | recognised by | place |
| --- | --- | --- |
| nobody: an eager call | `tf.executing_eagerly()`; on JAX no tracer; on torch none of its flags below | HERE |
| an exporter or a tool that declares it | `tracing_for(...)` | as declared |
| a converter: TFLite, LiteRT, tf2onnx, OpenVINO, and Keras's exports to them | its module on the stack | ELSEWHERE |
| `tf.saved_model.save`, `model.export`, `keras.export.ExportArchive` | its module on the stack | SAVED_MODEL |
| `get_concrete_function`, `tf.data` | that method of a `tf.function` on the stack | ELSEWHERE |
| Keras's trainer: `fit`, `evaluate`, `predict`, `train_on_batch`, ... | its module on the stack | HERE |
| Keras, to infer the shape of an output | its symbolic scope | HERE |
| a custom training loop in a `tf.function` | `training=True`, or a gradient tape that records | HERE |
| any other graph of TensorFlow | none of the above | UNKNOWN |
| `jax.export`, `jax2tf`, `jax2onnx` | its module on the stack | ELSEWHERE |
| `torch.export`, `torch.onnx.export`, `torch.jit.trace` | torch's own flags for them | ELSEWHERE |

The first line that applies decides, from the top. In doubt a trace gets stock operations: a `tf.function` keeps its
trace and returns it to every later caller, so an inference function may be saved after it was called. Training
functions keep the engine nevertheless, because training takes most of the time. If such a trace is saved later,
`zoo.kernels.native.ops` raises an error.

XLA is a separate question: a graph is for XLA if its target is declared so, or if there is a
`tf.function(jit_compile=True)` on the stack.
"""

import contextlib
import contextvars
import enum
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, NamedTuple

import keras

from zoo.types import Tensor


class Place(enum.Enum):
    """Where the traced graph will run."""

    HERE = "this process"
    SAVED_MODEL = "a SavedModel for a TensorFlow runtime"
    ELSEWHERE = "any other format or runtime"
    UNKNOWN = "a tf.function that may be saved later"


class Target(NamedTuple):
    """The purpose of a trace.

    Attributes:
        place: Where the graph will run.
        compiled: Whether XLA compiles it.
    """

    place: Place
    compiled: bool = False


# Prefixes of the names of modules.
CONVERTERS = (
    "tensorflow.lite",
    "ai_edge_litert",
    "litert_torch",
    "tf2onnx",
    "openvino",
    "keras.src.export.onnx",
    "keras.src.export.litert",
    "keras.src.export.openvino",
    "keras.src.export.neptune",
)
SAVERS = ("tensorflow.python.saved_model", "keras.src.export", "keras.src.backend.tensorflow.export")
JAX_EXPORTERS = ("jax._src.export", "jax.experimental.jax2tf", "jax2onnx", "keras.src.export")
TRAINER = "keras.src.backend.tensorflow.trainer"
TF_FUNCTION = "tensorflow.python.eager.polymorphic_function.polymorphic_function"
CONCRETE = ("get_concrete_function", "_get_concrete_function_garbage_collected")
PARALLEL_FOR = "tensorflow.python.ops.parallel_for"
# The module and function that vectorise a graph, and the call that a user makes for it.
VECTORISING = {
    ("tensorflow.python.eager.backprop", "jacobian"): "`tape.jacobian`",
    ("tensorflow.python.eager.backprop", "batch_jacobian"): "`tape.batch_jacobian`",
    (f"{PARALLEL_FOR}.control_flow_ops", "vectorized_map"): "`tf.vectorized_map`",
}

_declared: contextvars.ContextVar[Target | None] = contextvars.ContextVar("declared", default=None)


@contextlib.contextmanager
def tracing_for(place: Place, compiled: bool = False) -> Iterator[None]:
    """Declare the target of every trace inside the context, so that none is guessed.

    Args:
        place: Where the graph will run.
        compiled: Whether XLA compiles it.

    Example:
    >>> with tracing_for(Place.SAVED_MODEL):
    ...     _declared.get().place.value
    'a SavedModel for a TensorFlow runtime'
    """
    token = _declared.set(Target(place, compiled))
    try:
        yield
    finally:
        _declared.reset(token)


def of_trace(tensors: Iterable[Any], training: bool = False) -> Target:
    """The target of the graph that is being traced; `HERE` where nothing is traced.

    Args:
        tensors: The inputs of the calling layer, of which on JAX one is a tracer during a trace.
        training: Whether the layer is called with `training=True`.

    Example:
    >>> of_trace([keras.ops.zeros(())]).place.name
    'HERE'
    """
    find = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}.get(keras.backend.backend())
    return Target(Place.HERE) if find is None else find(tensors, training)


def _on_tensorflow(_: Iterable[Any], training: bool) -> Target:
    import tensorflow as tf

    if tf.executing_eagerly():
        return Target(Place.HERE)
    declared = _declared.get()
    if declared is not None:
        return declared
    names, concrete, compiled = set(), False, False
    for frame in _stack():
        name = frame.f_globals.get("__name__", "")
        names.add(name)
        if name == TF_FUNCTION:
            concrete = concrete or frame.f_code.co_name in CONCRETE
            compiled = compiled or bool(getattr(frame.f_locals.get("self"), "_jit_compile", False))
    return Target(_place_on_tensorflow(names, concrete, training), compiled)


def _place_on_tensorflow(names: set[str], concrete: bool, training: bool) -> Place:
    if _any_under(CONVERTERS, names):
        return Place.ELSEWHERE
    if _any_under(SAVERS, names):
        return Place.SAVED_MODEL
    if concrete:  # whoever calls `get_concrete_function` may write the graph to a file
        return Place.ELSEWHERE
    if training or _any_under((TRAINER,), names) or _in_symbolic_scope() or _tape_records():
        return Place.HERE
    return Place.UNKNOWN


def _on_jax(tensors: Iterable[Any], _: bool) -> Target:
    import jax

    if not any(isinstance(tensor, jax.core.Tracer) for tensor in tensors):
        return Target(Place.HERE)
    declared = _declared.get()
    if declared is not None:
        return declared
    leaves = _any_under(JAX_EXPORTERS, {frame.f_globals.get("__name__", "") for frame in _stack()})
    return Target(Place.ELSEWHERE if leaves else Place.HERE)


def _on_torch(_: Iterable[Any], __: bool) -> Target:
    # Flags only: torch.export interprets this code symbolically and cannot follow a walk over the stack.
    import torch

    leaves = torch.jit.is_tracing() or torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()
    return Target(Place.ELSEWHERE if leaves else Place.HERE)


def vectorised(x: Tensor) -> bool:
    """Whether TensorFlow vectorises the graph that is traced, as `tape.jacobian` and `tf.vectorized_map` do.

    TensorFlow fails at the gradient of a loop over lists inside such a graph, and only the stack shows the request.

    Raises:
        NotImplementedError: It does, and the number of steps of `x` (b, t, d) is not known.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.executing_eagerly() or _declared.get() is not None:  # TensorFlow vectorises graphs only
        return False
    callers = [(frame.f_globals.get("__name__", ""), frame.f_code.co_name) for frame in _stack()]
    if not any(module.startswith(PARALLEL_FOR) for module, _ in callers):
        return False
    if x.shape[1] is None:
        request = next((VECTORISING[caller] for caller in callers if caller in VECTORISING), "a vectorised loop")
        raise NotImplementedError(
            f"{request} vectorises an LSTM whose number of steps is not known in the graph, and TensorFlow cannot: "
            'make the number known, or build the layer with engine="reference"'
        )
    return True


def _stack() -> Iterator[FrameType]:
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]


def _any_under(prefixes: tuple[str, ...], names: set[str]) -> bool:
    return any(name.startswith(prefixes) for name in names)


def _in_symbolic_scope() -> bool:
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope

    return bool(in_symbolic_scope())


def _tape_records() -> bool:
    """Whether a `tf.GradientTape` is open, inside the function that is traced or around its call."""
    from tensorflow.python.eager import record

    return bool(record.could_possibly_record())
