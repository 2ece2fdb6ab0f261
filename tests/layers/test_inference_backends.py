"""Keras's backends for inference only: what Keras's layer runs there, ours runs, on the reference engine."""

import importlib.util
import os
import subprocess
import sys

import pytest

PROGRAM = """
import keras
import numpy as np
from zoo.layers import LSTM

x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
mask = np.array([[1, 1, 0, 1, 1], [1, 1, 1, 0, 0]], bool)
for arguments in ({}, {"activation": "relu"}, {"return_sequences": True, "return_state": True}, {"go_backwards": True}):
    ours, theirs = LSTM(4, **arguments), keras.layers.LSTM(4, **arguments)
    expected = [theirs(x), theirs(x, mask=mask)]
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    found = [ours(x), ours(x, mask=mask)]
    for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), atol=1e-6)
assert ours.resolved_engine == "reference"
inputs = keras.Input((None, 3))
model = keras.Model(inputs, keras.layers.Bidirectional(LSTM(4, activation="prelu"))(inputs))
assert model.predict(x, verbose=0).shape == (2, 8)
for engine in ("native", "cudnn", "cuda", "loop"):
    try:
        LSTM(4, engine=engine)
    except ValueError as refused:
        assert keras.backend.backend() in str(refused), refused
    else:
        raise AssertionError(f"{engine} was not refused")
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "openvino"])
def test_what_keras_layer_runs_runs(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
