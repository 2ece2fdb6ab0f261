"""Masks from lengths, and operations on padded sequences.

No output has a mask. To Keras a layer with a `compute_mask` of its own supports masking, so a mask that an input
carries is dropped, and the argument counts.
"""

from typing import Any

import keras
from keras import ops

from zoo.checks import positive_integer
from zoo.types import Tensor


@keras.saving.register_keras_serializable("sequence_zoo")
class SequenceMask(keras.layers.Layer):
    """The mask of right-padded sequences, from their lengths.

    `keras.layers.Masking` guesses padding from the values and so drops real steps that are all zero.

    Call arguments:
        features: (batch, steps, channels), used only for the number of steps.
        lengths: Int (batch,).

    Returns:
        Bool (batch, steps), true where the step belongs to the sequence.

    Example:
    >>> import numpy as np
    >>> SequenceMask()(np.zeros((2, 3, 1)), np.array([1, 3])).numpy().tolist()
    [[True, False, False], [True, True, True]]
    """

    def call(self, features: Tensor, lengths: Tensor) -> Tensor:
        steps = ops.arange(ops.shape(features)[1], dtype="int32")
        return ops.expand_dims(steps, 0) < ops.expand_dims(ops.cast(lengths, "int32"), 1)

    def compute_mask(self, *_: Any, **__: Any) -> None:
        return None  # this is a mask

    def compute_output_spec(self, features: Any, lengths: Any) -> Any:
        return keras.KerasTensor(features.shape[:2], dtype="bool")


@keras.saving.register_keras_serializable("sequence_zoo")
class ZeroPadding(keras.layers.Layer):
    """Set padded steps to zero, as a convolution sees them past the end of a shorter array.

    Call arguments:
        features: (batch, steps, channels).
        mask: Bool (batch, steps).

    Returns:
        (batch, steps, channels).

    Example:
    >>> import numpy as np
    >>> ZeroPadding()(np.ones((1, 2, 1), "float32"), np.array([[True, False]])).numpy().ravel().tolist()
    [1.0, 0.0]
    """

    def call(self, features: Tensor, mask: Tensor) -> Tensor:
        # where, not a product: NaN or infinity in the padding must not reach the result.
        return ops.where(ops.expand_dims(mask, -1), features, ops.zeros_like(features))

    def compute_mask(self, *_: Any, **__: Any) -> None:
        return None  # what is zero needs no mask, and the convolutions that follow could not carry one

    def compute_output_spec(self, features: Any, mask: Any) -> Any:
        return keras.KerasTensor(features.shape, dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("sequence_zoo")
class FixedLength(keras.layers.Layer):
    """Pad with zeros or crop at the end to exactly `steps` steps.

    Args:
        steps: Positive int.

    Call arguments:
        features: (batch, any, channels).

    Returns:
        (batch, steps, channels).

    Raises:
        ValueError: `steps` is not a positive int.

    Example:
    >>> import numpy as np
    >>> FixedLength(4)(np.ones((1, 2, 1), "float32")).numpy().ravel().tolist()
    [1.0, 1.0, 0.0, 0.0]
    >>> tuple(FixedLength(4)(np.ones((1, 9, 1), "float32")).shape)
    (1, 4, 1)
    """

    def __init__(self, steps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = positive_integer("steps", steps)

    def call(self, features: Tensor) -> Tensor:
        batch, channels = ops.shape(features)[0], features.shape[-1]
        tail = ops.zeros((batch, self.steps, channels), dtype=features.dtype)
        return ops.concatenate([features, tail], axis=1)[:, : self.steps, :]

    def compute_mask(self, *_: Any, **__: Any) -> None:
        return None  # the time axis has changed

    def compute_output_spec(self, features: Any) -> Any:
        return keras.KerasTensor((features.shape[0], self.steps, features.shape[-1]), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "steps": self.steps}


@keras.saving.register_keras_serializable("sequence_zoo")
class LastStep(keras.layers.Layer):
    """The last valid step of right-padded sequences.

    Call arguments:
        features: (batch, steps, channels).
        lengths: Int (batch,), each in [1, steps].

    Returns:
        (batch, channels).

    Example:
    >>> import numpy as np
    >>> LastStep()(np.array([[[1.0], [2.0]], [[3.0], [4.0]]], "float32"), np.array([1, 2])).numpy().ravel().tolist()
    [1.0, 4.0]
    """

    def call(self, features: Tensor, lengths: Tensor) -> Tensor:
        # A length outside the array is the caller's mistake, but must not read outside it either.
        last = ops.clip(ops.cast(lengths, "int32") - 1, 0, ops.shape(features)[1] - 1)
        return ops.squeeze(ops.take_along_axis(features, last[:, None, None], axis=1), axis=1)

    def compute_mask(self, *_: Any, **__: Any) -> None:
        return None  # there is no time axis left

    def compute_output_spec(self, features: Any, lengths: Any) -> Any:
        return keras.KerasTensor((features.shape[0], features.shape[-1]), dtype=self.compute_dtype)
