"""How fast this machine can multiply, and how soon TensorFlow can answer."""

import time
from typing import Any


def matmul_peak(size: int, tries: int = 10) -> float:
    """Operations a second of TensorFlow's product of two (size, size) matrices of float32, the best of `tries`."""
    import tensorflow as tf

    a, b = (tf.random.stateless_normal((size, size), (seed, 0)) for seed in (1, 2))
    product: Any = tf.function(tf.matmul)
    product(a, b)
    best = float("inf")
    for _ in range(tries):
        started = time.perf_counter()
        product(a, b).numpy()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def call_floor(calls: int = 200, tries: int = 10) -> float:
    """Seconds of calling a `tf.function` that adds 1: no layer of TensorFlow can answer sooner. The best of `tries`."""
    import tensorflow as tf

    x, add = tf.zeros((1,)), tf.function(lambda x: x + 1)
    add(x)
    best = float("inf")
    for _ in range(tries):
        started = time.perf_counter()
        for _ in range(calls):
            add(x).numpy()
        best = min(best, (time.perf_counter() - started) / calls)
    return best
