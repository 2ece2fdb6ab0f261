"""Every variable has a path of its own: a file that names variables by it can hold them all."""

import warnings

import keras
import numpy as np
import pytest
from cells import over_time
from keras import ops

from zoo import layers
from zoo.layers import CELLS

pytestmark = pytest.mark.any_backend

X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
OF_GATES = {  # one layer for several gates, and slopes
    "activation": keras.layers.PReLU(),
    "recurrent_activation": keras.Sequential([keras.layers.PReLU(), keras.layers.PReLU()]),
}


def in_rnn(*cells):
    return keras.layers.RNN(list(cells) if len(cells) > 1 else cells[0])


LAYERS = {
    **{name: lambda name=name: over_time(name, 4, cell=OF_GATES) for name in CELLS},
    "lstm, slopes": lambda: layers.LSTM(4, "prelu", "prelu"),
    "stateful": lambda: layers.LSTM(4, stateful=True, **OF_GATES),
    "bidirectional": lambda: keras.layers.Bidirectional(layers.LSTM(4, **OF_GATES)),
    "layer_norm, dropout": lambda: over_time("layer_norm", 4, cell={"dropout": 0.5, **OF_GATES}),
    "stacked": lambda: in_rnn(layers.LSTMCell(4, **OF_GATES), layers.LSTMCell(4, **OF_GATES)),
    "ZoneoutCell": lambda: in_rnn(layers.ZoneoutCell(layers.LSTMCell(4, **OF_GATES), 0.1)),
}
QUICK = ("lstm", "bidirectional", "stacked", "ZoneoutCell")


@pytest.mark.parametrize(
    "name", [some if some in QUICK else pytest.param(some, marks=pytest.mark.slow) for some in LAYERS]
)
@pytest.mark.sample(2, elsewhere=1)
def test_paths_differ_and_a_file_by_name_holds_all(name, tmp_path):
    make = LAYERS[name]

    def two():
        return keras.Sequential([keras.Input(batch_shape=X.shape), make(), keras.layers.RepeatVector(5), make()])

    model = two()
    paths = [variable.path for variable in model.variables]
    assert len(paths) > 10
    assert len(set(paths)) == len(paths), sorted(path for path in paths if paths.count(path) > 1)
    for weight in model.trainable_weights:
        weight.assign(ops.convert_to_numpy(weight) + np.random.default_rng(1).uniform(0, 0.2, weight.shape))
    expected = ops.convert_to_numpy(model(X))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says that `.h5` is a format of old
        model.save(tmp_path / "model.h5")
        again = keras.models.load_model(tmp_path / "model.h5", compile=False)
    for layer in (model, again):
        for part in layer.layers:
            if getattr(part, "stateful", False):
                part.reset_state()
    np.testing.assert_allclose(ops.convert_to_numpy(again(X)), expected, atol=1e-6)
