"""The LSTM recurrence and the engines that can run it.

One recurrence, several engines behind one dict: a layer names an engine or says "auto". The reference is the judge
of every other.

>>> resolve("reference")
'reference'
>>> resolve("refrence")
Traceback (most recent call last):
ValueError: unknown engine 'refrence'; did you mean 'reference'? Valid: auto, cuda, ...
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import keras

from zoo import devices
from zoo.kernels import cuda, cudnn, loop, native
from zoo.kernels.contract import LayerSpec, Run
from zoo.kernels.derivatives import complete
from zoo.suggest import unknown


@dataclass(frozen=True)
class Engine:
    """One way to run the recurrence.

    Attributes:
        summary: What it is, in one line.
        refuses: Called with a layer's spec: why it cannot run such a layer here, or `None`.
        runs: "module:function" of what runs a call, a `zoo.kernels.contract.Run`, imported when it is first needed;
            `None` for the reference, which is the loop of Keras's own RNN layer over our cell.
        computes_in: From the type in which a layer computes, such as "float16", to the one that the call is given.
        first_order_on: The backends on which it has a first gradient in reverse mode only, so that the rest has to come
            from elsewhere.
    """

    summary: str
    refuses: Callable[[LayerSpec], str | None]
    runs: str | None = None
    computes_in: Callable[[str], str] = str
    first_order_on: tuple[str, ...] = ()

    def run(self) -> Run:
        """The function that runs a call, with every derivative that the backend knows."""
        module, _, function = str(self.runs).partition(":")
        run: Run = getattr(importlib.import_module(module), function)
        return complete(run) if keras.backend.backend() in self.first_order_on else run


ENGINES: dict[str, Engine] = {
    "reference": Engine(
        "Keras operations on any backend, one step at a time; the judge of every other engine", lambda _: None
    ),
    "native": Engine(
        "C++ on the CPU, TensorFlow backend, any activation that is elementwise",
        native.refuses,
        "zoo.kernels.native.ops:lstm",
        lambda dtype: "float64" if dtype == "float64" else "float32",
    ),
    "cuda": Engine(
        "CUDA on an NVIDIA GPU, JAX and torch backends, up to 128 units, any activation that is elementwise",
        cuda.refuses,
        "zoo.kernels.cuda.lstm:lstm",
        first_order_on=("jax", "torch"),
    ),
    "cudnn": Engine(
        "cuDNN on a GPU, any backend, sigmoid gates and tanh states",
        cudnn.refuses,
        "zoo.kernels.cudnn:lstm",
        cudnn.computes_in,
        first_order_on=("tensorflow", "jax", "torch"),
    ),
    "loop": Engine(
        "a loop with a gradient written by hand, any backend, any activation",
        loop.refuses,
        "zoo.kernels.loop:lstm",
        first_order_on=("jax", "torch"),
    ),
}
# What "auto" takes, the first that can; else the reference. On a CPU the loop is the faster one on torch alone
# (benchmarks/loop_engine.py). Keras's backends for inference only, NumPy and OpenVINO, have the reference.
ON_CPU = {"tensorflow": ("native",), "torch": ("loop",)}
ON_GPU = ("cudnn", "loop")


def known(engine: str) -> str:
    """`engine`, which is "auto" or a name in `ENGINES`.

    Raises:
        ValueError: It is neither; the message has the nearest name.
    """
    if engine != "auto" and engine not in ENGINES:
        raise ValueError(unknown("engine", engine, ["auto", *ENGINES]))
    return engine


def resolve(engine: str, spec: LayerSpec | None = None) -> str:
    """The engine that runs when `engine` is asked for.

    "auto" is the first of `ON_GPU` or `ON_CPU` that can run the layer, else the reference. On TensorFlow without a GPU
    that is the native engine: the benchmark (docs/benchmarks.md) has no size at which the reference is the faster, in
    training or at inference.

    Args:
        engine: "auto", or a name in `ENGINES`, which is obeyed or refused.
        spec: The layer that is to run; `None` where it is not known.

    Raises:
        ValueError: There is no such engine, or it cannot run such a layer here.
    """
    spec = spec or LayerSpec()
    if engine == "auto":
        preferred = ON_GPU if devices.has_gpu() else ON_CPU.get(keras.backend.backend(), ())
        candidates = preferred if spec.activations else ()
        return next((name for name in candidates if not ENGINES[name].refuses(spec)), "reference")
    known(engine)
    reason = ENGINES[engine].refuses(spec)
    if reason:
        raise ValueError(f"engine={engine!r} cannot run this layer here: {reason}; 'auto' takes an engine that can")
    return engine
