"""Files that were written before all cells had one base load, answer, and draw as they did then.

`python tests/layers/test_saved_before.py` wrote them; to write them again would make the test say nothing.
"""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from zoo import layers

FOLDER = Path(__file__).with_name("saved")
X = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
DROPOUT = {"dropout": 0.25, "recurrent_dropout": 0.25, "seed": 3}


def every_cell():
    """Layers over every cell, with what each can learn, draw and hold."""
    rnn, zoned = keras.layers.RNN, layers.ZoneoutCell(layers.LSTMCell(2, **DROPOUT), 0.1, 0.2, seed=9)
    return [
        layers.LSTM(2, "prelu", candidate_activation="leaky_relu(0.33)", name="lstm", **DROPOUT),
        layers.LSTM(2, hidden_activation=keras.layers.PReLU(), cell_clip=0.5, seed=4, name="clipped"),
        layers.LSTM(2, activation="rrelu", dropout=0.25, seed=5, engine="reference", name="random"),
        layers.LSTM(2, use_bias=False, dropout=0.25, implementation=1, seed=6, name="implementation"),
        rnn([layers.LSTMCell(2, "prelu", dropout=0.25, seed=7), layers.LSTMCell(2, **DROPOUT)], name="stack"),
        rnn(layers.LSTMCell(2, seed=8, unit_forget_bias=False, kernel_regularizer="l2"), name="plain"),
        keras.layers.Bidirectional(rnn(zoned), name="both"),
        rnn(layers.LayerNormLSTMCell(2, "rrelu", **DROPOUT), name="layer_norm"),
        rnn(layers.PeepholeLSTMCell(2, "prelu", **DROPOUT), name="peephole"),
        rnn(layers.CoupledLSTMCell(2, **DROPOUT), name="coupled"),
        rnn(layers.ProjectionLSTMCell(3, 2, **DROPOUT), name="projection"),
        rnn(layers.VariantLSTMCell("FGR", 2, **DROPOUT), name="fgr"),
        rnn(layers.VariantLSTMCell("NIG", 2), name="nig"),
        layers.BatchNormLSTM(2, max_steps=3, name="batch_norm", **DROPOUT),
    ]


def model_of_every_cell():
    inputs = keras.Input((None, 3), name="x")
    return keras.Model(inputs, {layer.name: layer(inputs) for layer in every_cell()})


def answers(model, training=False):
    return {name: ops.convert_to_numpy(value) for name, value in model(X, training=training).items()}


def assert_answers(model, training=False):
    wrong = {}
    with np.load(FOLDER / "answers.npz") as expected:
        for name, value in answers(model, training).items():
            difference = abs(value - expected[f"{name}, {'training' if training else 'inference'}"]).max()
            if difference > 1e-5:  # float32, on any processor and backend
                wrong[name] = difference
    assert not wrong


@pytest.mark.any_backend
@pytest.mark.sample(1, elsewhere=0)  # JAX compiles a loop for each of the layers
def test_a_model_loads_answers_and_draws_as_it_did():
    model = keras.models.load_model(FOLDER / "cells.keras")
    assert_answers(model)
    if keras.backend.backend() == "tensorflow":  # random numbers of other backends are others
        assert_answers(model, training=True)


@pytest.mark.any_backend
@pytest.mark.sample(1, elsewhere=0)  # JAX compiles a loop for each of the layers
def test_weights_load_into_a_model_never_called():
    model = model_of_every_cell()
    model.load_weights(FOLDER / "cells.weights.h5")
    assert_answers(model)


def test_a_saved_model_loads_and_answers_as_it_did():
    import tensorflow as tf

    with np.load(FOLDER / "answers.npz") as expected:
        loaded = tf.saved_model.load(str(FOLDER / "exported"))
        np.testing.assert_allclose(loaded.serve(X), expected["exported"], atol=1e-5)  # float32, on any processor


def write():
    """Write the files that the tests read."""
    keras.utils.set_random_seed(1)
    model, rng = model_of_every_cell(), np.random.default_rng(1)
    for weight in model.weights:
        if weight.dtype == "float32":  # what no initialiser would give
            weight.assign(ops.convert_to_numpy(weight) + rng.uniform(0, 0.2, size=weight.shape))
    model.save(FOLDER / "cells.keras")
    model.save_weights(FOLDER / "cells.weights.h5")
    exported = keras.Sequential([keras.Input((None, 3)), layers.LSTM(2, "relu"), keras.layers.Dense(1)])
    exported.export(FOLDER / "exported", verbose=False)
    inference = {f"{name}, inference": value for name, value in answers(model).items()}
    training = {f"{name}, training": value for name, value in answers(model, training=True).items()}
    np.savez(FOLDER / "answers.npz", **inference, **training, exported=ops.convert_to_numpy(exported(X)))


if __name__ == "__main__":
    write()
