"""Runs a pass through a model without assignments, compiled where that pays off."""

from collections.abc import Callable
from typing import Any

import keras

from zoo.kernels.target import Place, tracing_for

# On TensorFlow an eager step of an LSTM costs about 2 ms, and compiling its loop 100 ms for any number of steps.
COMPILED_FROM = 50  # steps


def stateless(function: Callable[..., Any], model: keras.layers.Layer, compiled: bool) -> Callable[..., Any]:
    """Wrap `function(*structures_of_tensors)` so that it assigns nothing to the variables of the model.

    A compiled function reads the model's variables at every call, and its inputs must always have the same shapes.

    Example:
    >>> import numpy as np
    >>> layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    >>> layer.build((None, 2))
    >>> run = stateless(layer, layer, compiled=True)
    >>> [float(run(keras.ops.ones((1, 2)))[0, 0]), layer.set_weights([np.zeros((2, 1))])]
    [2.0, None]
    >>> float(run(keras.ops.ones((1, 2)))[0, 0])
    0.0
    """
    backend = keras.backend.backend()
    if backend == "jax" and compiled:
        return _compiled_by_jax(function, model)

    def run(*arguments: Any) -> Any:
        with keras.StatelessScope():
            return function(*arguments)

    return _compiled_by_tensorflow(run) if backend == "tensorflow" and compiled else run


def _compiled_by_tensorflow(run: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    made: list[Any] = []

    def call(*arguments: Any) -> Any:
        if not made:  # without autograph, which takes longer than all the rest and which Keras's layers do not need
            with tracing_for(Place.HERE):
                made.append(tf.function(run, autograph=False).get_concrete_function(*arguments))
        return made[0](*arguments)

    return call


def _compiled_by_jax(function: Callable[..., Any], model: keras.layers.Layer) -> Callable[..., Any]:
    import jax

    def with_values(values: list[Any], *arguments: Any) -> Any:
        # As arguments, since values that are read inside would be constants of the compiled function.
        with keras.StatelessScope(zip(model.variables, values, strict=True)):
            return function(*arguments)

    run = jax.jit(with_values)
    return lambda *arguments: run([variable.value for variable in model.variables], *arguments)


def pays(model: keras.layers.Layer, inputs: Any) -> bool:
    """Whether compiling a single pass pays off: the sequences are long, and the model need not run eagerly."""
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax") or getattr(model, "run_eagerly", False):
        return False
    long = any(len(leaf.shape) > 2 and leaf.shape[1] >= COMPILED_FROM for leaf in keras.tree.flatten(inputs))
    return long or backend == "jax"  # which compiles every loop in any case
