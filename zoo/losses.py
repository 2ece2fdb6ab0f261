"""Losses that Keras does not have."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable("sequence_zoo")
class StandardizedMeanSquaredError(keras.losses.Loss):
    """The mean squared error of numbers in units of their own, each in units of its standard deviation.

        mean((y - prediction)^2 / variance)

    1 is what guessing the mean costs, whatever the units.

    Args:
        variance: Of each output over the training targets, `[outputs]`, all positive.
        name: Of the loss.
        **kwargs: As for `keras.losses.Loss`.

    Raises:
        ValueError: A variance is not positive.

    Example:
    >>> loss = StandardizedMeanSquaredError([4.0])
    >>> float(loss([[0.0], [2.0]], [[2.0], [2.0]]))
    0.5
    """

    def __init__(self, variance: Sequence[float], name: str = "standardized_mean_squared_error", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.variance = [float(value) for value in variance]
        if not all(value > 0 for value in self.variance):
            raise ValueError(f"`variance` must be positive, received {variance!r}")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        y_pred = ops.convert_to_tensor(y_pred)
        difference = ops.cast(y_true, y_pred.dtype) - y_pred
        return ops.mean(ops.square(difference) / ops.convert_to_tensor(self.variance, y_pred.dtype), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "variance": self.variance}
