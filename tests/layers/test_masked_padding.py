"""What a mask hides changes nothing, whatever stands there: outputs, states, and every gradient."""

import keras
import numpy as np
import pytest
from cells import over_time
from gradients import outputs_and_gradients
from keras import ops

from zoo import layers
from zoo.kernels import ENGINES

pytestmark = pytest.mark.any_backend

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5, 3)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
POISON = [np.nan, np.inf, -np.inf]


def in_rnn(make):
    return lambda **given: keras.layers.RNN(make(), return_sequences=True, return_state=True, **given)


def lstm(**arguments):
    return lambda **given: layers.LSTM(4, return_sequences=True, return_state=True, **arguments, **given)


CELLS = {
    **{name: lambda name=name: over_time(name, 4, return_sequences=True, return_state=True) for name in layers.CELLS},
    "LSTMCell": in_rnn(lambda: layers.LSTMCell(4, "relu", recurrent_activation="relu")),
    "LSTMCell, dropout": in_rnn(lambda: layers.LSTMCell(4, dropout=0.5, recurrent_dropout=0.5)),
    "CoupledLSTMCell, elu": in_rnn(lambda: layers.CoupledLSTMCell(4, "elu")),
    "ZoneoutCell": in_rnn(lambda: layers.ZoneoutCell(layers.LSTMCell(4), 0.1, 0.1)),
    "ZoneoutCell of Keras's": in_rnn(lambda: layers.ZoneoutCell(keras.layers.GRUCell(4), 0.1)),
    "stacked": in_rnn(lambda: [layers.LSTMCell(4), layers.ProjectionLSTMCell(4, 3)]),
}
LAYERS = {
    "reference": lstm(engine="reference"),
    "reference, relu": lstm(engine="reference", activation="relu", recurrent_activation="relu"),
    "reference, backwards": lstm(engine="reference", go_backwards=True, zero_output_for_mask=True),
    "reference, unrolled": lstm(engine="reference", unroll=True),
    "loop": lstm(engine="loop"),
    **CELLS,
}
QUICK = ("reference", "loop", "lstm", "LSTMCell", "peephole", "ZoneoutCell", "stacked")


def with_padding(value):
    filled = X.copy()
    filled[~MASK] = value
    return filled


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    "name", [some if some in QUICK else pytest.param(some, marks=pytest.mark.slow) for some in LAYERS]
)
@pytest.mark.sample(6, elsewhere=2)
def test_padding_changes_nothing(name, training):
    layer = LAYERS[name]()
    layer.build(X.shape)
    upstream = {}

    def run(x):
        keras.utils.set_random_seed(0)
        for cell in keras.tree.flatten(getattr(layer.cell, "cells", layer.cell)):
            if getattr(cell, "seed_generator", None) is not None:
                cell.seed_generator.state.assign([1, 2])
        return outputs_and_gradients(
            lambda tensor: layer(tensor, mask=ops.convert_to_tensor(MASK), training=training),
            [x],
            layer.trainable_variables,
            lambda k, shape: upstream.setdefault(k, RNG.normal(size=shape)),
        )

    expected = run(with_padding(0.0))
    np.testing.assert_array_equal(expected[1][0][~MASK], 0)
    assert all(abs(gradient).max() > 0 for gradient in expected[1])
    for value in POISON:
        for found, wanted in zip(
            keras.tree.flatten(run(with_padding(value))), keras.tree.flatten(expected), strict=True
        ):
            np.testing.assert_allclose(found, wanted, atol=1e-6, err_msg=f"{name}, {value}")


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.sample(6, elsewhere=3)
def test_a_nan_that_no_mask_hides_is_seen_in_every_state(name):
    layer = CELLS[name]()
    x = X.copy()
    x[1, -1, 0] = np.nan
    outputs, *states = layer(x)
    states = [ops.convert_to_numpy(state) for state in keras.tree.flatten(states)]
    for values in (ops.convert_to_numpy(outputs)[:, -1], *(state for state in states if state.shape[-1] > 2)):
        assert np.isnan(values[1]).all(), "the step counter of zoneout has two columns and stays a number"
        assert np.isfinite(values[[0, 2, 3]]).all()


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
@pytest.mark.sample(3, elsewhere=1)
def test_the_largest_numbers_are_numbers(kind):
    if kind == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only where the whole process asks for it")
    cell = layers.PeepholeLSTMCell(4, dtype=kind, recurrent_initializer="ones")
    largest = {"float16": 65504.0, "bfloat16": 3.38e38, "float64": 1.7e308}[kind]
    states = [ops.zeros((2, 4), kind)] * 2
    _, (hidden, _) = cell(ops.convert_to_tensor([[1.0, largest], [1.0, np.inf]], dtype=kind), states)
    hidden = ops.convert_to_numpy(ops.cast(hidden, "float32"))
    assert np.isfinite(hidden[0]).all()
    assert not np.isfinite(hidden[1]).any()


@pytest.mark.skipif(ENGINES["native"].unavailable() is not None, reason="the native engine is not here")
def test_auto_is_the_native_engine_here():
    assert layers.LSTM(4).resolved_engine == "native", "so that the cases above are of it"
