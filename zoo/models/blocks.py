"""Convolutional blocks that several models share. Padding does not affect their results."""

import keras
from keras import ops

from zoo.layers import ZeroPadding
from zoo.types import Tensor


def convolution_block(x: Tensor, mask: Tensor, filters: int, kernel_size: int, name: str) -> Tensor:
    """Convolution over time, batch normalisation over the valid steps, ReLU: (batch, steps, filters).

    The block of Wang, Yan and Oates (2017), "Time series classification from scratch".
    """
    x = ZeroPadding(name=f"{name}_zero_padding")(x, mask)
    x = keras.layers.Conv1D(
        filters, kernel_size, padding="same", kernel_initializer="he_uniform", name=f"{name}_convolution"
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_normalization")(x, mask=mask)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def squeeze_excite(x: Tensor, mask: Tensor, ratio: int, name: str) -> Tensor:
    """Scale each filter by a gate, computed from the mean of all filters over the valid steps.

        x' = x * sigmoid(W_2 relu(W_1 mean_t(x)))

    Hu, Shen and Sun (2018), without biases as in Karim et al. (2019).
    """
    filters = x.shape[-1]
    squeezed = keras.layers.GlobalAveragePooling1D(name=f"{name}_squeeze")(x, mask=mask)
    excited = keras.layers.Dense(max(1, filters // ratio), "relu", use_bias=False, name=f"{name}_reduce")(squeezed)
    gate = keras.layers.Dense(filters, "sigmoid", use_bias=False, name=f"{name}_gate")(excited)
    return keras.layers.Multiply(name=f"{name}_scale")([x, ops.expand_dims(gate, 1)])


def fully_convolutional(x: Tensor, mask: Tensor, filters: tuple[int, int, int], squeeze_ratio: int | None) -> Tensor:
    """Three convolution blocks (kernels of 8, 5, 3 steps) and the mean over the valid steps: (batch, filters[-1]).

    With `squeeze_ratio`, the first two blocks end in a squeeze-and-excite gate.
    """
    for index, (width, kernel_size) in enumerate(zip(filters, (8, 5, 3), strict=True)):
        x = convolution_block(x, mask, width, kernel_size, name=f"block_{index + 1}")
        if squeeze_ratio is not None and index < 2:
            x = squeeze_excite(x, mask, squeeze_ratio, name=f"squeeze_excite_{index + 1}")
    return keras.layers.GlobalAveragePooling1D(name="mean_over_time")(x, mask=mask)
