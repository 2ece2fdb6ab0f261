"""The library on JAX, in a process where TensorFlow cannot be imported."""

import os
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import sys
    sys.modules["tensorflow"] = None  # importing it now raises
    import keras
    import numpy as np

    import zoo.activations, zoo.models
    from zoo.layers import LSTM

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6, 2)), LSTM(8, activation="leaky_relu(0.1)"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    x = np.random.default_rng(0).normal(size=(128, 6, 2)).astype("float32")
    losses = model.fit(x, x.sum((1, 2)), epochs=8, batch_size=16, verbose=0).history["loss"]
    assert keras.backend.backend() == "jax" and losses[-1] < 0.7 * losses[0], losses
    assert not [name for name in sys.modules if name.startswith("tensorflow.")]
"""


@pytest.mark.slow
def test_a_layer_trains_on_jax():
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
