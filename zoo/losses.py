"""Losses that Keras does not have."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from zoo.checks import share
from zoo.types import Tensor


@keras.saving.register_keras_serializable("sequence_zoo")
class StandardizedMeanSquaredError(keras.losses.Loss):
    """The mean squared error, with each output in units of its standard deviation.

        mean((y - prediction)^2 / variance)

    A model that always predicts the mean has a loss of 1.

    Args:
        variance: Variance of each output over the training targets, `[outputs]`, all positive.
        name: Name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`.

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


@keras.saving.register_keras_serializable("sequence_zoo")
class SmoothedCrossentropy(keras.losses.Loss):
    """The cross-entropy, in nats, of logits and labels, with a share of each label spread over all classes.

        (1 - smoothing) * -log p[label] + smoothing * mean over classes of -log p,   p = softmax(logits)

    It is `keras.losses.CategoricalCrossentropy(label_smoothing=...)` for integer labels.

    Args:
        smoothing: Share of each label that is spread over all classes, at least 0 and less than 1.
        name: Name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`.

    Call arguments:
        y_true: Class of each sequence or step, (...).
        y_pred: Logits, (..., classes).

    Raises:
        ValueError: `smoothing` is not in [0, 1).

    Example:
    >>> loss = SmoothedCrossentropy(0.5)
    >>> round(float(loss([0], [[0.0, 0.0]])), 4)  # a model that knows nothing, with any smoothing
    0.6931

    References:
        Szegedy et al. (2016), "Rethinking the Inception Architecture for Computer Vision",
        https://arxiv.org/abs/1512.00567, section 7.
    """

    def __init__(self, smoothing: float, name: str = "smoothed_crossentropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.smoothing = share("smoothing", smoothing, "the share of each label that is spread over all classes")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        y_pred = ops.convert_to_tensor(y_pred)
        classes = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
        return keras.losses.categorical_crossentropy(
            ops.one_hot(classes, y_pred.shape[-1], dtype=y_pred.dtype),
            y_pred,
            from_logits=True,
            label_smoothing=self.smoothing,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "smoothing": self.smoothing}
