"""The gradient of the LSTM with every activation in every gate, against differences of the equations in float64."""

import numpy as np
import pytest
import tensorflow as tf
from family_oracles import central_differences
from keras import ops
from oracles import ORACLE, lstm
from scipy.special import expit
from tiers import rotating

from zoo.activations import ACTIVATIONS
from zoo.layers import LSTM
from zoo.layers._gated_cell import GATES

pytestmark = pytest.mark.usefixtures("each_engine")

BATCH, STEPS, CHANNELS, UNITS = 2, 4, 2, 2
MASK = np.array([[1, 0, 1, 1], [0, 1, 1, 0]], bool)


def prepared(rng, **arguments):
    layer = LSTM(UNITS, return_sequences=True, dtype="float64", **arguments)
    layer.build((None, None, CHANNELS))
    for w in layer.weights[:3]:
        w.assign(ops.convert_to_numpy(w) + rng.normal(size=w.shape) * 0.3)
    return layer, [ops.convert_to_numpy(w).astype("float64") for w in layer.weights]


def gradient(layer, x, upstream):
    values = [tf.constant(x), *[w.value for w in layer.weights]]
    with tf.GradientTape() as tape:
        tape.watch(values[0])
        loss = tf.reduce_sum(layer(values[0], mask=tf.constant(MASK)) * upstream)
    return [g.numpy() for g in tape.gradient(loss, values)]


def compare(layer, weights, x, functions, rng):
    upstream = rng.normal(size=(BATCH, STEPS, UNITS))
    found = gradient(layer, x, upstream)
    expected = central_differences(
        lambda: float((lstm(x, *weights[:3], functions, mask=MASK) * upstream).sum()), [x, *weights], step=1e-6
    )
    for name, a, b in zip(["x", *(w.name for w in layer.weights)], found, expected, strict=True):
        # float64: a difference of step 1e-6 rounds at 1e-16 / 1e-6 of values up to a few hundred
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(
    ("activation", "gate"), rotating([name for name, row in ACTIVATIONS.items() if not row.learnable], GATES)
)
@pytest.mark.sample(12)
def test_every_activation_in_every_gate(activation, gate):
    rng = np.random.default_rng(0)
    layer, weights = prepared(rng, **{f"{gate}_activation": activation})
    names = {g: "sigmoid" if g.endswith("_gate") else "tanh" for g in GATES} | {gate: activation}
    compare(layer, weights, rng.normal(size=(BATCH, STEPS, CHANNELS)), [ORACLE[names[g]] for g in GATES], rng)


LEARNED = {
    "prelu(0.4)": ("slope", lambda z, p: np.where(z > 0, z, p * z)),
    "parametric_swish(0.7)": ("beta", lambda z, p: z * expit(p * z)),
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("activation", LEARNED)
def test_what_a_gate_learns(activation, gate):
    rng = np.random.default_rng(1)
    layer, weights = prepared(rng, **{f"{gate}_activation": activation})
    functions = {g: ORACLE["sigmoid" if g.endswith("_gate") else "tanh"] for g in GATES}
    parameter, function = LEARNED[activation]
    functions[gate] = lambda z: function(z, weights[3])
    assert layer.weights[3].name == f"{gate}_{parameter}"
    compare(layer, weights, rng.normal(size=(BATCH, STEPS, CHANNELS)), [functions[g] for g in GATES], rng)
