"""`zoo.layers.LSTM` against `keras.layers.LSTM` on shared weights, and against NumPy in float64."""

import keras
import numpy as np
import pytest
from keras import ops
from oracles import ORACLE, lstm
from tiers import few

from zoo.activations import ACTIVATIONS
from zoo.layers import LSTM
from zoo.layers._gated_cell import GATES

pytestmark = pytest.mark.usefixtures("each_engine")

BATCH, STEPS, CHANNELS = 5, 9, 3
MASKS = {
    "none": None,
    "right": np.arange(STEPS) < np.array([[9], [4], [1], [7], [2]]),
    "left": np.arange(STEPS) >= np.array([[0], [4], [8], [2], [5]]),
    "holes": np.random.default_rng(1).random((BATCH, STEPS)) < 0.6,
    "empty row": np.arange(STEPS) < np.array([[9], [0], [3], [0], [9]]),
}
VARIANTS = [
    {},
    {"return_sequences": True, "return_state": True},
    {"go_backwards": True},
    {"use_bias": False},
    {"implementation": 1},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
    {"activation": None},
    {"unroll": True},
    {"return_sequences": True, "zero_output_for_mask": True},
    {"unit_forget_bias": False, "bias_initializer": "random_normal"},
]


def features(scale=1.0):
    return (np.random.default_rng(0).normal(size=(BATCH, STEPS, CHANNELS)) * scale).astype("float32")


def pair(units=4, **arguments):
    theirs, ours = keras.layers.LSTM(units, use_cudnn=False, **arguments), LSTM(units, **arguments)
    theirs.build((BATCH, STEPS, CHANNELS))
    ours.build((BATCH, STEPS, CHANNELS))
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def close(ours, theirs, tolerance):
    for left, right in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(left), ops.convert_to_numpy(right), atol=tolerance, rtol=tolerance
        )


# JAX compiles a loop for every layer of a test, so the other backends take a part of the two big grids: every argument
# under one mask that has holes, every mask under the default arguments, and four activations of different kinds.
def everywhere(values, chosen):
    return [pytest.param(value, marks=pytest.mark.any_backend if value in chosen else ()) for value in values]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.any_backend
def test_equals_keras_under_every_mask(mask):
    theirs, ours = pair(return_sequences=True, return_state=True)
    mask = None if MASKS[mask] is None else ops.convert_to_tensor(MASKS[mask])
    close(ours(features(), mask=mask), theirs(features(), mask=mask), 1e-6)  # the same float32 operations


@pytest.mark.parametrize("mask", few(list(MASKS), ["holes"], elsewhere=["holes"]))
@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
@pytest.mark.sample(8)
def test_equals_keras(arguments, mask):
    theirs, ours = pair(**arguments)
    mask = None if MASKS[mask] is None else ops.convert_to_tensor(MASKS[mask])
    # the same float32 operations in the same order: what is left is a fused bias
    close(ours(features(), mask=mask), theirs(features(), mask=mask), 1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize("scale", [100.0, 1e-3])
def test_equals_keras_far_from_one(scale):
    theirs, ours = pair()
    close(ours(features(scale)), theirs(features(scale)), 1e-6)


@pytest.mark.any_backend
def test_equals_keras_from_a_given_state():
    theirs, ours = pair(return_state=True)
    state = [ops.convert_to_tensor(np.random.default_rng(k).normal(size=(BATCH, 4)).astype("f")) for k in (2, 3)]
    close(ours(features(), initial_state=state), theirs(features(), initial_state=state), 1e-6)


@pytest.mark.any_backend
def test_dropout_draws_what_keras_draws():
    theirs, ours = pair(dropout=0.3, recurrent_dropout=0.4, seed=7)
    close(ours(features(), training=True), theirs(features(), training=True), 1e-6)


@pytest.mark.any_backend
@pytest.mark.sample(1)
def test_trains_as_keras_does():
    weights = []
    for layer in pair():
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((STEPS, CHANNELS)), layer, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=keras.backend.backend() == "jax")
        model.fit(features(), features().sum((1, 2)), epochs=5, verbose=0)
        weights.append(model.get_weights())
    for theirs, ours in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)  # five steps of the same gradient


@pytest.mark.any_backend
def test_saves_and_loads_through_keras_config():
    theirs, _ = pair(activation="relu", dropout=0.2)
    config = theirs.get_config()
    assert (
        LSTM.from_config(config).get_config().items()
        >= {key: config[key] for key in ("units", "activation", "recurrent_activation", "dropout", "seed")}.items()
    )


@pytest.mark.parametrize("gate", few(GATES, ["candidate", "output_gate"]))
@pytest.mark.parametrize("activation", everywhere(ACTIVATIONS, ["leaky_relu", "prelu", "softmax", "cloglogm"]))
@pytest.mark.sample(25)
def test_every_activation_in_every_gate_equals_the_equations(activation, gate):
    layer = LSTM(4, return_sequences=True, **{f"{gate}_activation": activation})
    layer.build((BATCH, STEPS, CHANNELS))
    functions = {g: "sigmoid" if g.endswith("_gate") else "tanh" for g in GATES} | {gate: activation}
    kernel, recurrent_kernel, bias = (np.float64(w) for w in layer.get_weights()[:3])
    expected = lstm(
        np.float64(features()),
        kernel,
        recurrent_kernel,
        bias,
        [ORACLE[functions[g]] for g in GATES],
        mask=MASKS["holes"],
    )
    found = ops.convert_to_numpy(layer(features(), mask=ops.convert_to_tensor(MASKS["holes"])))
    # float32 against float64 over 9 steps; unbounded gates multiply states up to a few tens
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.any_backend
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 2), (3, 1, 4)])
@pytest.mark.parametrize("units", [1, 3, 17])
def test_odd_sizes_equal_the_equations(shape, units):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer = LSTM(units, return_sequences=True)
    layer.build(shape)
    weights = [np.float64(w) for w in layer.get_weights()]
    functions = [ORACLE[n] for n in ("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh")]
    expected = lstm(np.float64(x), *weights, functions)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-6)  # float32 over at most 5 steps
