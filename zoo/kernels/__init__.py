"""The LSTM recurrence and the engines that can run it.

A layer names one of `ENGINES` or leaves the choice to "auto". Every engine is tested against the reference.

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

# The order matters: "auto" takes the first row that can run the layer. On a CPU it takes the loop on torch only, where
# training is 1.2 to 3.0 times as fast as with the reference and inference 2.0 to 5.5 times; on JAX inference is slower,
# and on TensorFlow it depends on the size (docs/gpu.md). Keras's backends for inference only, NumPy and OpenVINO, have
# the reference.
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
        "stock operations of TensorFlow for inference in a SavedModel, several steps an iteration",
        graph.lstm,
        backends=("tensorflow",),
        places=(Place.HERE, Place.SAVED_MODEL),
    ),
    "reference": Engine(
        "Keras operations on any backend, one step at a time; every other engine is tested against it",
        run=None,
        places=tuple(Place),
    ),
}
REFERENCE = "reference"


def known(engine: str) -> str:
    """Check that `engine` is "auto" or a name in `ENGINES`, and return it.

    Raises:
        ValueError: It is neither; the message suggests the nearest name.
    """
    if engine != "auto" and engine not in ENGINES:
        raise ValueError(unknown("engine", engine, ["auto", *ENGINES]))
    return engine


def requested(engine: str, use_cudnn: bool | str) -> str:
    """The engine that a layer's arguments request: Keras's `use_cudnn=True` means cuDNN.

    Raises:
        ValueError: `use_cudnn` is not valid, or `engine` names another engine.
    """
    if use_cudnn not in ("auto", True, False):
        raise ValueError(f"`use_cudnn` must be 'auto', True or False, received {use_cudnn!r}.")
    if use_cudnn is not True:
        return engine
    if engine not in ("auto", "cudnn"):
        raise ValueError(f"use_cudnn=True means engine='cudnn', received engine={engine!r} as well; pass one of them.")
    return "cudnn"


def resolve(engine: str, spec: LayerSpec | None = None) -> str:
    """The engine that runs a layer in this process.

    "auto" is the first row of `ENGINES` that is meant for this device and can run the layer, else the reference. On
    TensorFlow without a GPU that is the native engine: in the benchmark (docs/benchmarks.md) the reference is not
    faster at any size, neither in training nor at inference.

    Args:
        engine: "auto", or a name in `ENGINES`, which is obeyed or refused.
        spec: The layer; `None` where it is not known.

    Raises:
        ValueError: The engine is unknown.
        EngineUnavailable: The named engine cannot run the layer here.
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
            f"engine={engine!r} cannot run this layer here: {reason}; 'auto' chooses an engine that can"
        )
    return engine


def resolve_in(target: Target, engine: str, spec: LayerSpec, training: bool) -> str:
    """The engine whose operations go into a graph for this target.

    Raises:
        EngineUnavailable: The graph stays in this process, and the named engine cannot run the layer here.
    """
    place = target.place
    if place in (Place.SAVED_MODEL, Place.ELSEWHERE) or (place is Place.UNKNOWN and engine == "auto"):
        # A graph for training elsewhere is Keras's loop, which draws dropout as Keras does.
        rows = {} if training else ENGINES
        return next((name for name, row in rows.items() if place in row.places and not row.refusal(spec)), REFERENCE)
    chosen = resolve(engine, spec)
    return REFERENCE if target.compiled and not ENGINES[chosen].for_xla else chosen


def run(engine: Engine, operands: Operands, options: Options) -> Outputs:
    """Run a call by an engine with a `run` function, and make it differentiable in every way that the backend knows."""
    assert engine.run is not None  # noqa: S101
    completed = complete(engine.run) if keras.backend.backend() in engine.first_order_on else engine.run
    return completed(operands, options)
