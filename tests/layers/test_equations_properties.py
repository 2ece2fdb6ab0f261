"""The LSTM and its family against their equations in float64, for any shapes, masks and activations."""

import functools

import keras
import numpy as np
import pytest
from family_oracles import batch_norm, coupled, layer_norm, projected, unroll, variant
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops
from oracles import ORACLE, lstm

from zoo.activations import ACTIVATIONS
from zoo.layers import (
    LSTM,
    BatchNormLSTM,
    CoupledLSTMCell,
    LayerNormLSTMCell,
    ProjectionLSTMCell,
    VariantLSTMCell,
)
from zoo.layers._gated_cell import GATES

PICK = settings(max_examples=25)
FEW = settings(PICK, max_examples=4)  # every new shape is a compilation on JAX

# An unbounded gate multiplies the state at every step, and float32 with it; the gates stay where they are bounded.
BOUNDED = [name for name in ACTIVATIONS if name in ("sigmoid", "hard_sigmoid", "tanh", "hard_tanh", "softsign",
           "penalized_tanh", "elliott", "cloglogm", "softmax")]  # fmt: skip
FUNCTIONS = st.fixed_dictionaries(
    {gate: st.sampled_from(BOUNDED if gate.endswith("_gate") else list(ACTIVATIONS)) for gate in GATES}
)


@st.composite
def batches(draw, largest=6):
    """A batch (rows, steps, channels) and any mask of it."""
    rows, steps, channels = (draw(st.integers(1, largest)) for _ in range(3))
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(rows, steps, channels))
    return x, draw(arrays(bool, (rows, steps)))


def nudged(layer, channels, seed=0):
    """Weights far from what an initialiser gives, in float64 by name."""
    layer.build((None, None, channels))
    rng = np.random.default_rng(seed)
    for w in layer.trainable_weights:
        w.assign(ops.convert_to_numpy(w) + rng.normal(size=w.shape) * 0.3)
    return {w.name: ops.convert_to_numpy(w).astype("float64") for w in layer.trainable_weights}


def check_lstm(batch, units, functions):
    x, mask = batch
    layer = LSTM(units, return_sequences=True, **{f"{gate}_activation": name for gate, name in functions.items()})
    weights = nudged(layer, x.shape[2])
    slopes = {gate: weights.get(f"{gate}_slope") for gate in GATES}
    oracle = [
        ORACLE[functions[gate]]
        if slopes[gate] is None
        else functools.partial(lambda z, slope: np.where(z > 0, z, slope * z), slope=slopes[gate])
        for gate in GATES
    ]
    expected = lstm(x, weights["kernel"], weights["recurrent_kernel"], weights["bias"], oracle, mask=mask)
    found = ops.convert_to_numpy(layer(x.astype("f"), mask=ops.convert_to_tensor(mask)))
    # float32 against float64 over at most 6 steps, in which an unbounded candidate and hidden activation grow
    np.testing.assert_allclose(found, expected, rtol=5e-5, atol=5e-5)


@PICK
@given(batch=batches(), units=st.integers(1, 5), functions=FUNCTIONS)
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")  # with one unit that is what was asked for
def test_the_lstm_is_its_equations(batch, units, functions):
    check_lstm(batch, units, functions)


@pytest.mark.any_backend
@FEW
@given(mask=arrays(bool, (3, 4)), functions=FUNCTIONS)
def test_the_lstm_is_its_equations_at_one_size(mask, functions):
    check_lstm((np.random.default_rng(0).normal(size=(3, 4, 2)), mask), 3, functions)


FAMILY = {
    "layer norm": (LayerNormLSTMCell, layer_norm),
    "coupled": (CoupledLSTMCell, coupled),
    "projection": (lambda units: ProjectionLSTMCell(units, 2), projected),
    "FGR": (functools.partial(VariantLSTMCell, "FGR"), variant("FGR")),
    "NIG": (functools.partial(VariantLSTMCell, "NIG"), variant("NIG")),
}


def check_cell(name, batch, units):
    (x, mask), (make, step) = batch, FAMILY[name]
    layer = keras.layers.RNN(make(units), return_sequences=True)
    weights = nudged(layer, x.shape[2])
    states = [np.zeros((len(x), size)) for size in layer.cell.state_size]
    found = ops.convert_to_numpy(layer(x.astype("f"), mask=ops.convert_to_tensor(mask)))
    # Layer normalisation divides by the spread of few units, which may be as small as epsilon's root.
    np.testing.assert_allclose(found, unroll(step, weights, x, states, mask), atol=1e-4)


@PICK
@given(name=st.sampled_from(list(FAMILY)), batch=batches(), units=st.integers(2, 5))
def test_the_family_is_its_equations(name, batch, units):
    check_cell(name, batch, units)


@pytest.mark.any_backend
@FEW
@given(name=st.sampled_from(["layer norm", "coupled"]), mask=arrays(bool, (3, 4)))
def test_the_family_is_its_equations_at_one_size(name, mask):
    check_cell(name, (np.random.default_rng(0).normal(size=(3, 4, 2)), mask), 3)


@PICK
@given(batch=batches(), units=st.integers(2, 5), max_steps=st.integers(1, 6))
def test_batch_norm_is_its_equations(batch, units, max_steps):
    x, mask = batch
    mask[0, 0] = True  # the statistics of no step at all are those of test_an_empty_batch_moves_nothing...
    layer = BatchNormLSTM(units, max_steps=max_steps, epsilon=0.1, return_sequences=True)
    weights = nudged(layer, x.shape[2])
    found = ops.convert_to_numpy(layer(x.astype("f"), mask=ops.convert_to_tensor(mask), training=True))
    # epsilon is large, so that the statistics of two rows do not enlarge float32's rounding
    np.testing.assert_allclose(found, batch_norm(weights, x, mask, epsilon=0.1)[0], atol=5e-5)
