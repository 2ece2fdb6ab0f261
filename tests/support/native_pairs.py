"""A layer on the reference engine and the same on the native one, and what both compute."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from zoo.layers import LSTM


def pair(units, shape, **arguments):
    layers = [LSTM(units, engine=engine, **arguments) for engine in ("reference", "native")]
    for layer in layers:
        layer.build(shape)
    layers[1].set_weights(layers[0].get_weights())
    return layers


def run(layer, x, upstream_seed, **call):
    values = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(values)
        answers = keras.tree.flatten(layer(values, **call))
        rng = np.random.default_rng(upstream_seed)
        loss = sum(tf.reduce_sum(tf.cast(a, "float64") * rng.normal(size=a.shape)) for a in answers)
    return answers, tape.gradient(loss, [values, *[w.value for w in layer.trainable_weights]])


def agree(layers, x, tolerance=2e-4, **call):
    """Outputs and gradients, each relative to its largest entry."""
    results = [keras.tree.flatten(run(layer, x, 7, **call)) for layer in layers]
    for theirs, ours in zip(*results, strict=True):
        theirs, ours = (ops.convert_to_numpy(ops.cast(a, "float64")) for a in (theirs, ours))
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=tolerance)
