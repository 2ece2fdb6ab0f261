"""TensorFlow's own search for numbers that are not finite finds none in a model that is healthy."""

import keras
import numpy as np
import pytest

from zoo import layers
from zoo.activations import ACTIVATIONS
from zoo.kernels import ENGINES

tf = pytest.importorskip("tensorflow")
X = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], bool)


@pytest.fixture
def check_numerics():
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


def fit(layer, masked=True):
    features, mask = keras.Input((None, 3)), keras.Input((None,), dtype="bool")
    outputs = keras.layers.Dense(1)(layer(features, mask=mask if masked else None))
    model = keras.Model([features, mask], outputs)
    model.compile("sgd", "mse", jit_compile=False)
    losses = model.fit([X, MASK], X.sum((1, 2)), verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.isfinite(model.predict([X, MASK], verbose=0)).all()


@pytest.mark.usefixtures("check_numerics")
@pytest.mark.parametrize(
    "engine", ["native", *(pytest.param(name, marks=pytest.mark.slow) for name in ("loop", "reference"))]
)
@pytest.mark.parametrize("arguments", [{}, {"cell_clip": 1.0}, {"dropout": 0.5, "recurrent_dropout": 0.5}], ids=str)
@pytest.mark.sample(2)
def test_a_healthy_layer_trains(engine, arguments):
    if engine == "native" and ENGINES["native"].unavailable():
        pytest.skip(str(ENGINES["native"].unavailable()))
    fit(layers.LSTM(4, engine=engine, **arguments))


@pytest.mark.slow
@pytest.mark.usefixtures("check_numerics")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_activation_needs_an_infinite_number(name):
    fit(layers.LSTM(4, activation=name), masked=False)


@pytest.mark.slow
@pytest.mark.usefixtures("check_numerics")
@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.BatchNormLSTM(4, max_steps=5),
        lambda: keras.layers.RNN(layers.LayerNormLSTMCell(4, dropout=0.5)),
        lambda: keras.layers.RNN(layers.ZoneoutCell(layers.LSTMCell(4), 0.1, 0.1)),
        lambda: keras.layers.RNN(layers.ProjectionLSTMCell(4, 3)),
        lambda: keras.layers.RNN(layers.VariantLSTMCell("FGR", 4)),
    ],
)
def test_a_healthy_cell_trains(make):
    fit(make())


@pytest.mark.usefixtures("check_numerics")
def test_an_unhealthy_one_is_found():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Inf|NaN"):
        layers.LSTM(4, activation="linear", kernel_initializer="ones")(np.full_like(X, 3e38))
