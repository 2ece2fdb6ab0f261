"""Activation layers that Keras lacks, or has with a default slope. They take any rank and precision.

For a gate of `zoo.layers.LSTM` write the name instead ("leaky_relu(0.1)", "rrelu(0.1, 0.3)"): there a draw holds for
the whole sequence, and each gate has learned slopes of its own.
"""

import numbers
from typing import Any

import keras
from keras import ops

from zoo import activations
from zoo.checks import finite_number
from zoo.types import Tensor


class _Elementwise(keras.layers.Layer):
    """Base of layers whose output has the shape and the mask of their input."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable("sequence_zoo")
class LeakyReLU(_Elementwise):
    """x where x > 0, else negative_slope * x.

    Keras's layer has a default slope of 0.3, `keras.activations.leaky_relu` one of 0.2, and the paper used 0.01 and
    others; here it must be given.

    Args:
        negative_slope: Slope of the negative part, any finite number; negative ones make it non-monotonic.

    Raises:
        ValueError: `negative_slope` is not a finite number.

    Example:
    >>> [float(y) for y in LeakyReLU(0.5)(ops.array([-2.0, 0.0, 3.0]))]
    [-1.0, 0.0, 3.0]

    References:
        Maas, Hannun and Ng (2013), "Rectifier Nonlinearities Improve Neural Network Acoustic Models".
    """

    def __init__(self, negative_slope: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negative_slope = finite_number("negative_slope", negative_slope)
        self._function = activations.bind("leaky_relu", self.negative_slope)

    def call(self, inputs: Tensor) -> Tensor:
        return self._function(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "negative_slope": self.negative_slope}


@keras.saving.register_keras_serializable("sequence_zoo")
class PReLU(_Elementwise):
    """x where x > 0, else slope * x, where the slope is learned.

    Args:
        initial_slope: Initial value of every slope; 0.25 in the paper.
        shared_axes: The positions that share a slope: "channel" (the default; one slope for each entry of the last
            axis, shared by all steps), "shared" (one slope in all), or, as in Keras, a list of axes from 1 on whose
            entries share a slope (`[1]` for one slope for each channel of a sequence, `[]` for one for each position).

    Raises:
        ValueError: An argument is not valid, or an axis that is not shared has no fixed length.

    Example:
    >>> layer = PReLU(0.25)
    >>> layer.build((None, None, 3))
    >>> [tuple(weight.shape) for weight in layer.weights]
    [(3,)]

    References:
        He, Zhang, Ren and Sun (2015), "Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852
    """

    def __init__(self, initial_slope: float, shared_axes: str | list[int] = "channel", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial_slope = finite_number("initial_slope", initial_slope)
        if isinstance(shared_axes, str):
            valid = shared_axes in ("channel", "shared")
        else:
            valid = isinstance(shared_axes, list | tuple) and all(
                isinstance(a, numbers.Integral) and a > 0 for a in shared_axes
            )
        if not valid:
            raise ValueError(
                f"`shared_axes` must be 'channel', 'shared' or a list of axes from 1 on, received {shared_axes!r}."
            )
        self.shared_axes = shared_axes if isinstance(shared_axes, str) else [int(axis) for axis in shared_axes]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = self._slope_shape(input_shape)
        if None in shape:
            raise ValueError(
                f"{self.name}: an axis without a fixed length cannot have separate slopes: received the shape "
                f"{tuple(input_shape)} and shared_axes={self.shared_axes!r}; share that axis."
            )
        initializer = keras.initializers.Constant(self.initial_slope)
        self.slope = self.add_weight(shape=shape, name="slope", initializer=initializer)

    def _slope_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if self.shared_axes == "shared":
            return ()
        if self.shared_axes == "channel":
            return (input_shape[-1],)
        shared = [axis for axis in self.shared_axes if isinstance(axis, int)]
        if any(axis >= len(input_shape) for axis in shared):
            raise ValueError(
                f"{self.name}: shared_axes={self.shared_axes!r} names an axis that the input, of shape "
                f"{tuple(input_shape)}, does not have."
            )
        return tuple(1 if axis in shared else input_shape[axis] for axis in range(1, len(input_shape)))

    def call(self, inputs: Tensor) -> Tensor:
        return activations.bind("prelu")(inputs, slope=ops.cast(self.slope, inputs.dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_slope": self.initial_slope, "shared_axes": self.shared_axes}


@keras.saving.register_keras_serializable("sequence_zoo")
class RReLU(_Elementwise):
    """x where x > 0, else slope * x, the slope drawn anew in training for every sample and channel.

    A draw holds for all steps of a sample, (batch, 1, ..., channels), as for "rrelu" in `zoo.layers.LSTM`; the paper
    draws for every entry. At inference the slope is the middle of the interval.

    Args:
        lower: Smallest slope.
        upper: Largest slope, not below `lower`.
        seed: Seed for the random slopes.

    Call arguments:
        inputs: (batch, ..., channels).
        training: Bool; whether to draw.

    Raises:
        ValueError: A limit is not a finite number, or `lower` exceeds `upper`.

    Example:
    >>> [float(y) for y in RReLU(0.25, 0.75)(ops.array([[-2.0, 3.0]]))[0]]
    [-1.0, 3.0]

    References:
        Xu, Wang, Chen and Li (2015), "Empirical Evaluation of Rectified Activations", https://arxiv.org/abs/1505.00853
    """

    def __init__(self, lower: float, upper: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lower, self.upper, self.seed = finite_number("lower", lower), finite_number("upper", upper), seed
        self._function = activations.bind("rrelu", self.lower, self.upper)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training:
            return self._function(inputs)
        shape, rank = ops.shape(inputs), len(inputs.shape)
        ones = (1,) * (rank - 2)
        drawn = (shape[0], *ones, shape[-1]) if rank > 1 else (shape[0],)
        slope = keras.random.uniform(drawn, self.lower, self.upper, dtype=inputs.dtype, seed=self.seed_generator)
        return self._function(inputs, slope=slope)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "lower": self.lower, "upper": self.upper, "seed": self.seed}


@keras.saving.register_keras_serializable("sequence_zoo")
class ThresholdedReLU(_Elementwise):
    """x where x > theta, else 0: a jump of theta at the threshold, without a gradient for theta.

    Args:
        theta: The threshold, not negative.

    Raises:
        ValueError: `theta` is negative or not a finite number.

    Example:
    >>> [float(y) for y in ThresholdedReLU(1.0)(ops.array([-2.0, 1.0, 3.0]))]
    [0.0, 0.0, 3.0]

    References:
        Konda, Memisevic and Krueger (2015), "Zero-bias Autoencoders", https://arxiv.org/abs/1402.3337
    """

    def __init__(self, theta: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.theta = finite_number("theta", theta)
        if self.theta < 0:
            raise ValueError(f"`theta` must not be negative, received {theta!r}.")

    def call(self, inputs: Tensor) -> Tensor:
        # Not `inputs > theta`: a NaN must come out as a NaN.
        return ops.where(inputs <= self.theta, ops.zeros_like(inputs), inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "theta": self.theta}


@keras.saving.register_keras_serializable("sequence_zoo")
class PenalizedTanh(_Elementwise):
    """tanh(x) where x > 0, else negative_slope * tanh(x).

    Args:
        negative_slope: Factor of the negative part, 0.25 in the paper and in the table's "penalized_tanh".

    Raises:
        ValueError: `negative_slope` is not a finite number.

    Example:
    >>> [round(float(y), 3) for y in PenalizedTanh()(ops.array([-9.0, 9.0]))]
    [-0.25, 1.0]

    References:
        Xu, Huang and Li (2016), "Revise Saturated Activation Functions", https://arxiv.org/abs/1602.05980; in LSTMs
        Eger, Youssef and Gurevych (2018), "Is it Time to Swish?", https://arxiv.org/abs/1901.02671
    """

    def __init__(self, negative_slope: float = 0.25, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negative_slope = finite_number("negative_slope", negative_slope)

    def call(self, inputs: Tensor) -> Tensor:
        bounded = ops.tanh(inputs)
        return ops.where(inputs > 0, bounded, self.negative_slope * bounded)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "negative_slope": self.negative_slope}
