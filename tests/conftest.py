"""What every test needs before Keras or MLflow is imported."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.pop("MLFLOW_TRACKING_URI", None)
# Compiling is most of what JAX does here, and how fast its code is no test asks.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

import keras
import pytest

from zoo.kernels import native


@pytest.fixture(autouse=True)
def fresh_keras():
    """No test sees another's random state or precision."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(params=["native", "reference"] if native.unavailable() is None else ["reference"])
def each_engine(request, monkeypatch):
    """Runs a test with what "auto" takes here, and, where that is the native engine, once more on the reference."""
    if request.param == "reference":
        monkeypatch.setattr(native, "refuses", lambda gate_activations: "this test wants the reference")
