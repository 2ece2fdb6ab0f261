"""What `mlflow.pyfunc.load_model` calls to load a model of this project; on any Keras backend, without MLflow."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import zoo.models  # noqa: F401  (with it Keras knows the layers of the zoo)


class Predictor:
    """A model that takes raw sequences.

    Args:
        model: From `training.run.loop.run`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def predict(self, data: Any, params: Any = None) -> NDArray[np.float32]:
        """The model's outputs, such as logits (batch, classes).

        Args:
            data: {"features": (batch, steps, channels), "lengths": (batch,)}; steps past a length are not looked at.
            params: None, of which MLflow makes an argument.
        """
        return np.asarray(
            self.model.predict_on_batch({name: np.asarray(data[name]) for name in ("features", "lengths")})
        )


def _load_pyfunc(path: str) -> Predictor:
    return Predictor(keras.models.load_model(path, compile=False))
