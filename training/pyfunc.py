"""Loads a model of this project for `mlflow.pyfunc.load_model`.

It works on every Keras backend, and does not need MLflow itself.
"""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import zoo.models  # noqa: F401  (registers the layers of the zoo with Keras)


class Predictor:
    """A model that takes raw sequences.

    Args:
        model: From `training.run.loop.run`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def predict(self, data: Any, params: Any = None) -> NDArray[np.float32]:
        """Compute the model's outputs, such as logits (batch, classes).

        Args:
            data: {"features": (batch, steps, channels), "lengths": (batch,)}; steps past a length are ignored.
            params: Ignored; MLflow passes it to every model.
        """
        return np.asarray(
            self.model.predict_on_batch({name: np.asarray(data[name]) for name in ("features", "lengths")})
        )


def _load_pyfunc(path: str) -> Predictor:
    return Predictor(keras.models.load_model(path, compile=False))
