"""The LSTM recurrence and the engines that can run it.

One recurrence, several engines behind one dict: a layer names an engine or says "auto". The reference is the judge
of every other.

>>> resolve("reference")
'reference'
>>> resolve("refrence")
Traceback (most recent call last):
ValueError: unknown engine 'refrence'; did you mean 'reference'? Valid: auto, reference, native
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from zoo.kernels import native
from zoo.suggest import unknown


@dataclass(frozen=True)
class Engine:
    """One way to run the recurrence.

    Attributes:
        summary: What it is, in one line.
        refuses: Called with the activation of each gate by name: why it cannot run such a layer, or `None`.
    """

    summary: str
    refuses: Callable[[Mapping[str, Any]], str | None]


ENGINES: dict[str, Engine] = {
    "reference": Engine(
        "Keras operations on any backend, one step at a time; the judge of every other engine", lambda _: None
    ),
    "native": Engine("C++ on the CPU, TensorFlow backend, any activation that is elementwise", native.refuses),
}


def resolve(engine: str, gate_activations: Mapping[str, Any] | None = None) -> str:
    """The engine that runs when `engine` is asked for.

    "auto" is the native engine where it can run and there is no GPU, else the reference: on a CPU the benchmark
    (docs/benchmarks.md) has no size at which the reference is the faster of the two, in training or at inference.

    Args:
        engine: "auto", or a name in `ENGINES`, which is obeyed or refused.
        gate_activations: The activation of each gate by name; `None` where they are not known.

    Raises:
        ValueError: There is no such engine, or it cannot run a layer with these activations here.
    """
    gates = gate_activations or {}
    if engine == "auto":
        return "native" if gates and not native.refuses(gates) and not _has_gpu() else "reference"
    if engine not in ENGINES:
        raise ValueError(unknown("engine", engine, ["auto", *ENGINES]))
    reason = ENGINES[engine].refuses(gates)
    if reason:
        raise ValueError(f"engine={engine!r} cannot run this layer here: {reason}; 'auto' takes an engine that can")
    return engine


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def traced_for() -> frozenset[str]:
    """What the graph that is being traced is for, if not for this process and TensorFlow alone: a SavedModel, XLA.

    Keras and TensorFlow give a layer no sign of either, so this looks at who is calling.

    Returns:
        Of "saved_model" and "xla" what applies. With either, stock operations are wanted; empty when run eagerly.
    """
    if keras.backend.backend() != "tensorflow":
        return frozenset()
    import tensorflow as tf

    found = set()
    frame = None if tf.executing_eagerly() else sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("zoo.export", "keras.src.export", "tensorflow.python.saved_model")):
            found.add("saved_model")
        if name.endswith("polymorphic_function") and getattr(frame.f_locals.get("self"), "_jit_compile", False):
            found.add("xla")
        frame = frame.f_back
    return frozenset(found)
