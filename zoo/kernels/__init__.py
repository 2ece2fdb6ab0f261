"""The LSTM recurrence and the engines that can run it.

One recurrence, several engines behind one dict: a layer names an engine or says "auto". The reference is the judge
of every other.

>>> resolve("reference")
'reference'
>>> resolve("refrence")
Traceback (most recent call last):
ValueError: unknown engine 'refrence'; did you mean 'reference'? Valid: auto, cuda, ...
"""

import keras

from zoo import devices
from zoo.kernels import cuda, cudnn, graph, loop, native
from zoo.kernels.contract import (
    Engine as Engine,
    EngineUnavailable as EngineUnavailable,
    LayerSpec,
    Operands,
    Options,
    Outputs,
)
from zoo.kernels.derivatives import complete
from zoo.kernels.target import Place, Target
from zoo.suggest import unknown

# The order is the order in which "auto" asks. On a CPU the loop is the faster one on torch alone
# (benchmarks/loop_engine.py). Keras's backends for inference only, NumPy and OpenVINO, have the reference.
ENGINES: dict[str, Engine] = {
    "native": Engine(
        "C++ on the CPU, TensorFlow backend, any activation that is elementwise",
        native.run,
        native.refuses,
        native.not_built,
        native.detail,
        backends=("tensorflow",),
        auto_on_cpu=("tensorflow",),
        not_for_xla_on=("tensorflow",),
        computes_in=lambda dtype: "float64" if dtype == "float64" else "float32",
    ),
    "cuda": Engine(
        "CUDA on an NVIDIA GPU, JAX and torch backends, up to 128 units, any activation that is elementwise",
        cuda.run,
        cuda.refuses,
        cuda.missing,
        backends=("jax", "torch"),
        needs_gpu=True,
        first_order_on=("jax", "torch"),
    ),
    "cudnn": Engine(
        "cuDNN on a GPU, any backend, sigmoid gates and tanh states",
        cudnn.lstm,
        cudnn.refuses,
        cudnn.missing,
        backends=("tensorflow", "jax", "torch"),
        needs_gpu=True,
        auto_on_gpu=("tensorflow", "jax", "torch"),
        not_for_xla_on=("tensorflow",),
        computes_in=cudnn.computes_in,
        first_order_on=("tensorflow", "jax", "torch"),
    ),
    "loop": Engine(
        "a loop with a gradient written by hand, any backend, any activation",
        loop.lstm,
        loop.refuses,
        backends=("tensorflow", "jax", "torch"),
        auto_on_cpu=("torch",),
        auto_on_gpu=("tensorflow", "jax", "torch"),
        first_order_on=("jax", "torch"),
    ),
    "graph": Engine(
        "what a SavedModel holds for inference: stock operations of TensorFlow, several steps an iteration",
        graph.lstm,
        backends=("tensorflow",),
        places=(Place.HERE, Place.SAVED_MODEL),
    ),
    "reference": Engine(
        "Keras operations on any backend, one step at a time; the judge of every other engine",
        run=None,
        places=tuple(Place),
    ),
}
REFERENCE = "reference"


def known(engine: str) -> str:
    """`engine`, which is "auto" or a name in `ENGINES`.

    Raises:
        ValueError: It is neither; the message has the nearest name.
    """
    if engine != "auto" and engine not in ENGINES:
        raise ValueError(unknown("engine", engine, ["auto", *ENGINES]))
    return engine


def requested(engine: str, use_cudnn: bool | str) -> str:
    """The engine that a layer's arguments ask for: Keras's `use_cudnn=True` is another way to name cuDNN.

    Raises:
        ValueError: `use_cudnn` is not valid, or says another engine than `engine` does.
    """
    if use_cudnn not in ("auto", True, False):
        raise ValueError(f"`use_cudnn` must be 'auto', True or False, received {use_cudnn!r}.")
    if use_cudnn is not True:
        return engine
    if engine not in ("auto", "cudnn"):
        raise ValueError(f"use_cudnn=True asks for engine='cudnn', and engine={engine!r} was given; pass one of them.")
    return "cudnn"


def resolve(engine: str, spec: LayerSpec | None = None) -> str:
    """The engine that runs when `engine` is asked for.

    "auto" is the first row of `ENGINES` that it takes on this device and that can run the layer, else the reference. On
    TensorFlow without a GPU that is the native engine: the benchmark (docs/benchmarks.md) has no size at which the
    reference is the faster, in training or at inference.

    Args:
        engine: "auto", or a name in `ENGINES`, which is obeyed or refused.
        spec: The layer that is to run; `None` where it is not known.

    Raises:
        ValueError: The engine is unknown.
        EngineUnavailable: It cannot run such a layer here.
    """
    spec = spec or LayerSpec()
    if engine == "auto":
        on_gpu, backend = devices.has_gpu(), keras.backend.backend()
        for name, row in ENGINES.items() if spec.activations else ():
            if backend in (row.auto_on_gpu if on_gpu else row.auto_on_cpu) and not row.refusal(spec):
                return name
        return REFERENCE
    reason = ENGINES[known(engine)].refusal(spec)
    if reason:
        raise EngineUnavailable(
            f"engine={engine!r} cannot run this layer here: {reason}; 'auto' takes an engine that can"
        )
    return engine


def resolve_in(target: Target, engine: str, spec: LayerSpec, training: bool) -> str:
    """The engine whose operations a graph for this target may hold, when `engine` is asked for.

    Raises:
        EngineUnavailable: `engine` is named, the graph stays in this process, and it cannot run such a layer here.
    """
    place = target.place
    if place in (Place.SAVED_MODEL, Place.ELSEWHERE) or (place is Place.UNKNOWN and engine == "auto"):
        rows = {} if training else ENGINES  # what is drawn in training, Keras's own loop draws as Keras does
        return next((name for name, row in rows.items() if place in row.places and not row.refusal(spec)), REFERENCE)
    chosen = resolve(engine, spec)
    return REFERENCE if target.compiled and not ENGINES[chosen].for_xla else chosen


def run(engine: Engine, operands: Operands, options: Options) -> Outputs:
    """Run a call by an engine that has a `run` of its own, with every derivative that the backend knows."""
    assert engine.run is not None  # noqa: S101
    completed = complete(engine.run) if keras.backend.backend() in engine.first_order_on else engine.run
    return completed(operands, options)
