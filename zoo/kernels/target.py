"""Who traces a graph, and where it will run: whatever leaves this process holds stock operations of its target.

Neither Keras nor the backends tell a layer what a trace is for. This module finds out, once for the whole project:

| who traces | recognised by | place |
| --- | --- | --- |
| nobody: an eager call | `tf.executing_eagerly()`; on JAX no tracer; on torch none of its flags below | HERE |
| an exporter or a tool that says so | `tracing_for(...)` | what it says |
| a converter: TFLite, LiteRT, tf2onnx, OpenVINO, and Keras's exports to them | its module on the stack | ELSEWHERE |
| `tf.saved_model.save`, `model.export`, `keras.export.ExportArchive` | its module on the stack | SAVED_MODEL |
| `get_concrete_function`, `tf.data` | that method of a `tf.function` on the stack | ELSEWHERE |
| Keras's trainer: `fit`, `evaluate`, `predict`, `train_on_batch`, ... | its module on the stack | HERE |
| Keras, which asks for the shape of an output | its symbolic scope | HERE |
| a training loop of one's own in a `tf.function` | `training=True`, or a gradient tape that records | HERE |
| any other graph of TensorFlow | the rest | UNKNOWN |
| `jax.export`, `jax2tf`, `jax2onnx` | its module on the stack | ELSEWHERE |
| `torch.export`, `torch.onnx.export`, `torch.jit.trace` | torch's own flags for them | ELSEWHERE |

The first line that applies decides, from the top. In doubt a trace gets stock operations: a `tf.function` keeps what it
traced, and hands it on to whoever asks later, so one that only infers may be saved after it was called. Training
functions keep the engine all the same, since training is where the time goes. If such a trace is saved later,
`zoo.kernels.native.ops` refuses it.

XLA is a question of its own: a graph is for XLA if whoever declares its target says so, or if there is a
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
    """What a trace is for.

    Attributes:
        place: Where the graph will run.
        compiled: Whether TensorFlow hands it to XLA.
    """

    place: Place
    compiled: bool = False


# Names of modules, whole or up to a dot or an underscore.
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
ASKING = ("get_concrete_function", "_get_concrete_function_garbage_collected")
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
    """Declare what everything that is traced inside the context is for; nothing is guessed there.

    Args:
        place: Where the graph will run.
        compiled: Whether TensorFlow hands it to XLA.

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
    """What the graph that is being traced is for; `HERE` where nothing is traced.

    Args:
        tensors: What the layer that asks computes from: on JAX one of them is a tracer where anything is traced.
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
    names, asked, compiled = set(), False, False
    for frame in _stack():
        name = frame.f_globals.get("__name__", "")
        names.add(name)
        if name == TF_FUNCTION:
            asked = asked or frame.f_code.co_name in ASKING
            compiled = compiled or bool(getattr(frame.f_locals.get("self"), "_jit_compile", False))
    return Target(_place_on_tensorflow(names, asked, training), compiled)


def _place_on_tensorflow(names: set[str], asked: bool, training: bool) -> Place:
    if _any_under(CONVERTERS, names):
        return Place.ELSEWHERE
    if _any_under(SAVERS, names):
        return Place.SAVED_MODEL
    if asked:
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
    # Flags only: torch.export reads this code in place of running it, and cannot read one that looks at the stack.
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

    if tf.executing_eagerly():  # TensorFlow vectorises graphs only
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
