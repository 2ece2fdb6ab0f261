"""The rows of the activation table: function, derivative and properties of each, in `keras.ops`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from zoo.types import Tensor

Bounds = tuple[float, float]

INF = math.inf


@dataclass(frozen=True)
class Definition:
    """One row of the table.

    Attributes:
        name: Name for users.
        function: `function(x, **parameters)`, elementwise unless `elementwise` is false.
        derivative: `derivative(x, **parameters)`, for an elementwise function. At a kink it is the slope on one side.
            The gradient of `function` is the same there, except for hard_tanh on TensorFlow and JAX and selu on
            TensorFlow, where it is that of the other side. An operation of a framework that has a third value or
            differs from the others (leaky_relu on JAX, celu on TensorFlow) is not used. For other functions:
            `derivative(x, upstream)`, the vector-Jacobian product.
        formula: The function in plain text.
        bounds: `bounds(**parameters)`: infimum and supremum of the values.
        saturates: The sides on which the slope tends to zero: "both", "left", "right" or "no" (Gulcehre et al. 2016).
        zero_centred: Whether it is 0 at 0 and has values of both signs.
        source: Publication.
        monotonic: Whether it never falls, at the default parameters.
        parameters: Names and defaults of the parameters, in order.
        learnable: The parameter that a layer learns, one value for each unit.
        random: The keyword for the value that a layer draws once a sequence in training.
        elementwise: Whether each output depends on only one input.
    """

    name: str
    function: Callable[..., Tensor]
    derivative: Callable[..., Tensor]
    formula: str
    bounds: Callable[..., Bounds]
    saturates: str
    zero_centred: bool
    source: str
    monotonic: bool = True
    parameters: Mapping[str, float] = field(default_factory=dict)
    learnable: str | None = None
    random: str | None = None
    elementwise: bool = True


def _sigmoid_slope(x: Tensor) -> Tensor:
    s = ops.sigmoid(x)
    return s * (1 - s)


def _step(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """`right` where x > 0, else `left`: the slope of a function with a kink at 0."""
    zeros = ops.zeros_like(x)
    return ops.where(x > 0, zeros + right, zeros + left)


def _inside(x: Tensor, lower: float, upper: float, slope: float) -> Tensor:
    """`slope` strictly between `lower` and `upper`, else 0."""
    return ops.cast(ops.logical_and(x > lower, x < upper), x.dtype) * slope


def _leaky(x: Tensor, slope: Tensor) -> Tensor:
    return ops.where(x > 0, x, slope * x)


def _leaky_of_fixed_slope(x: Tensor, negative_slope: Any) -> Tensor:
    # A framework's own operation is the fastest and keeps the least memory (benchmarks/leaky_relu.py), except JAX's,
    # which is not faster than `where` and has slope 1 at 0, where the others and `derivative` have `negative_slope`.
    if keras.backend.backend() == "jax" or not isinstance(negative_slope, int | float):
        return _leaky(x, negative_slope)
    return ops.leaky_relu(x, negative_slope)


def _leaky_bounds(slope: float) -> Bounds:
    return (-INF if slope > 0 else 0.0, INF)


def _rrelu(x: Tensor, lower: float, upper: float, slope: Tensor | None = None) -> Tensor:
    return _leaky(x, (lower + upper) / 2 if slope is None else slope)


def _rrelu_slope(x: Tensor, lower: float, upper: float, slope: Tensor | None = None) -> Tensor:
    return _step(x, (lower + upper) / 2 if slope is None else slope, 1.0)


def _gelu_slope(x: Tensor) -> Tensor:
    density = ops.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + ops.erf(x / math.sqrt(2))) + x * density


def _silu_slope(x: Tensor) -> Tensor:
    s = ops.sigmoid(x)
    return s * (1 + x * (1 - s))


def _swish_slope(x: Tensor, beta: Tensor) -> Tensor:
    s = ops.sigmoid(beta * x)
    return s * (1 + beta * x * (1 - s))


def _swish_bounds(beta: float) -> Bounds:
    # x sigmoid(beta x) = silu(beta x) / beta, and silu has one smallest value.
    if beta == 0:
        return (-INF, INF)
    return (SILU_LOWEST / beta, INF) if beta > 0 else (-INF, SILU_LOWEST / beta)


def _mish_slope(x: Tensor) -> Tensor:
    t = ops.tanh(ops.softplus(x))
    return t + x * (1 - t * t) * ops.sigmoid(x)


def _penalized_tanh(x: Tensor) -> Tensor:
    t = ops.tanh(x)
    return ops.where(x > 0, t, 0.25 * t)


def _tanh_slope(x: Tensor) -> Tensor:
    t = ops.tanh(x)
    return 1 - t * t


def _elu(x: Tensor, alpha: Any) -> Tensor:
    if isinstance(alpha, int | float):
        return keras.activations.elu(x, alpha=alpha)
    negative = ops.where(x > 0, ops.zeros_like(x), x)  # not by Keras, which compares alpha with 1
    return ops.where(x > 0, x, alpha * ops.expm1(negative))


def _hard_sigmoid(x: Tensor) -> Tensor:
    # torch's own operation has no second derivative.
    return ops.relu6(x + 3) / 6 if keras.backend.backend() == "torch" else keras.activations.hard_sigmoid(x)


def _softsign(x: Tensor) -> Tensor:
    # TensorFlow's own operation has no second derivative.
    return x / (1 + ops.abs(x)) if keras.backend.backend() == "tensorflow" else keras.activations.softsign(x)


def _elu_slope(x: Tensor, alpha: float) -> Tensor:
    return ops.where(x > 0, ops.ones_like(x), alpha * ops.exp(ops.minimum(x, 0)))


def _celu(x: Tensor, alpha: float) -> Tensor:
    # Not Keras's: on TensorFlow it adds two terms that each have slope 1 at 0, so that its gradient there is 2.
    negative = ops.where(x > 0, ops.zeros_like(x), x)
    return ops.where(x > 0, x, alpha * ops.expm1(negative / alpha))


def _celu_slope(x: Tensor, alpha: float) -> Tensor:
    return ops.where(x > 0, ops.ones_like(x), ops.exp(ops.minimum(x, 0) / alpha))


SILU_LOWEST = -0.27846454276107380
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _cloglogm(x: Tensor) -> Tensor:
    # exp(x) overflows above 88 in float32, where the value is exactly 1.
    return 1 - 2 * ops.exp(-0.7 * ops.exp(ops.minimum(x, 20.0)))


def _cloglogm_slope(x: Tensor) -> Tensor:
    e = ops.exp(ops.minimum(x, 20.0))
    return 1.4 * e * ops.exp(-0.7 * e)


def _softmax_vjp(x: Tensor, upstream: Tensor) -> Tensor:
    s = ops.softmax(x, axis=-1)
    return s * (upstream - ops.sum(upstream * s, axis=-1, keepdims=True))


def _fixed(lower: float, upper: float) -> Callable[..., Bounds]:
    return lambda **_: (lower, upper)


_a = keras.activations
_ROWS = [
    Definition(
        name="linear",
        function=_a.linear,
        derivative=ops.ones_like,
        formula="x",
        bounds=_fixed(-INF, INF),
        saturates="no",
        zero_centred=True,
        source="identity",
    ),
    Definition(
        name="sigmoid",
        function=_a.sigmoid,
        derivative=_sigmoid_slope,
        formula="1 / (1 + exp(-x))",
        bounds=_fixed(0.0, 1.0),
        saturates="both",
        zero_centred=False,
        source="Verhulst 1845",
    ),
    Definition(
        name="hard_sigmoid",
        function=_hard_sigmoid,
        derivative=lambda x: _inside(x, -3.0, 3.0, 1 / 6),
        formula="clip(x / 6 + 1/2, 0, 1)",
        bounds=_fixed(0.0, 1.0),
        saturates="both",
        zero_centred=False,
        source="Courbariaux et al. 2015; slope as in Keras 3",
    ),
    Definition(
        name="tanh",
        function=_a.tanh,
        derivative=_tanh_slope,
        formula="tanh(x)",
        bounds=_fixed(-1.0, 1.0),
        saturates="both",
        zero_centred=True,
        source="LeCun et al. 1998",
    ),
    Definition(
        name="hard_tanh",
        function=_a.hard_tanh,
        derivative=lambda x: _inside(x, -1.0, 1.0, 1.0),
        formula="clip(x, -1, 1)",
        bounds=_fixed(-1.0, 1.0),
        saturates="both",
        zero_centred=True,
        source="Collobert 2004",
    ),
    Definition(
        name="softsign",
        function=_softsign,
        derivative=lambda x: 1 / ops.square(1 + ops.abs(x)),
        formula="x / (1 + |x|)",
        bounds=_fixed(-1.0, 1.0),
        saturates="both",
        zero_centred=True,
        source="Bergstra et al. 2009",
    ),
    Definition(
        name="relu",
        function=_a.relu,
        derivative=lambda x: _step(x, 0.0, 1.0),
        formula="max(x, 0)",
        bounds=_fixed(0.0, INF),
        saturates="left",
        zero_centred=False,
        source="Nair and Hinton 2010",
    ),
    Definition(
        name="relu6",
        function=_a.relu6,
        derivative=lambda x: _inside(x, 0.0, 6.0, 1.0),
        formula="clip(x, 0, 6)",
        bounds=_fixed(0.0, 6.0),
        saturates="both",
        zero_centred=False,
        source="Krizhevsky 2010",
    ),
    Definition(
        name="leaky_relu",
        function=_leaky_of_fixed_slope,
        derivative=lambda x, negative_slope: _step(x, negative_slope, 1.0),
        formula="x if x > 0 else negative_slope * x",
        bounds=lambda negative_slope: _leaky_bounds(negative_slope),
        saturates="no",
        zero_centred=True,
        source="Maas et al. 2013; default slope as in keras.activations",
        parameters={"negative_slope": 0.2},
    ),
    Definition(
        name="prelu",
        function=lambda x, slope: _leaky(x, slope),
        derivative=lambda x, slope: _step(x, slope, 1.0),
        formula="x if x > 0 else slope * x, slope learned",
        bounds=lambda slope: _leaky_bounds(slope),
        saturates="no",
        zero_centred=True,
        source="He et al. 2015, with its initial slope",
        parameters={"slope": 0.25},
        learnable="slope",
    ),
    Definition(
        name="rrelu",
        function=_rrelu,
        derivative=_rrelu_slope,
        formula="x if x > 0 else a * x, a drawn from [lower, upper] in training, their mean after",
        bounds=lambda lower, upper: _leaky_bounds(lower),
        saturates="no",
        zero_centred=True,
        source="Xu et al. 2015",
        parameters={"lower": 1 / 8, "upper": 1 / 3},
        random="slope",
    ),
    Definition(
        name="elu",
        function=_elu,
        derivative=_elu_slope,
        formula="x if x > 0 else alpha * (exp(x) - 1)",
        bounds=lambda alpha: (-alpha, INF),
        saturates="left",
        zero_centred=True,
        source="Clevert et al. 2016",
        parameters={"alpha": 1.0},
    ),
    Definition(
        name="selu",
        function=_a.selu,
        derivative=lambda x: SELU_SCALE * _elu_slope(x, SELU_ALPHA),
        formula="1.0507 * elu(x, 1.6733)",
        bounds=_fixed(-SELU_SCALE * SELU_ALPHA, INF),
        saturates="left",
        zero_centred=True,
        source="Klambauer et al. 2017",
    ),
    Definition(
        name="celu",
        function=_celu,
        derivative=_celu_slope,
        formula="max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))",
        bounds=lambda alpha: (-alpha, INF),
        saturates="left",
        zero_centred=True,
        source="Barron 2017",
        parameters={"alpha": 1.0},
    ),
    Definition(
        name="gelu",
        function=lambda x: _a.gelu(x, approximate=False),
        derivative=_gelu_slope,
        formula="x * Phi(x), Phi the normal distribution function",
        bounds=_fixed(-0.16997120747990360, INF),
        monotonic=False,
        saturates="left",
        zero_centred=True,
        source="Hendrycks and Gimpel 2016",
    ),
    Definition(
        name="silu",
        function=_a.silu,
        derivative=_silu_slope,
        formula="x * sigmoid(x)",
        bounds=_fixed(SILU_LOWEST, INF),
        monotonic=False,
        saturates="left",
        zero_centred=True,
        source="Elfwing et al. 2018; as Swish, Ramachandran et al. 2017",
    ),
    Definition(
        name="parametric_swish",
        function=lambda x, beta: x * ops.sigmoid(beta * x),
        derivative=_swish_slope,
        formula="x * sigmoid(beta * x), beta learned",
        bounds=lambda beta: _swish_bounds(beta),
        monotonic=False,
        saturates="left",
        zero_centred=True,
        source="Ramachandran et al. 2017, with its initial beta",
        parameters={"beta": 1.0},
        learnable="beta",
    ),
    Definition(
        name="mish",
        function=_a.mish,
        derivative=_mish_slope,
        formula="x * tanh(softplus(x))",
        bounds=_fixed(-0.30884341301725041, INF),
        monotonic=False,
        saturates="left",
        zero_centred=True,
        source="Misra 2020",
    ),
    Definition(
        name="softplus",
        function=_a.softplus,
        derivative=ops.sigmoid,
        formula="log(1 + exp(x))",
        bounds=_fixed(0.0, INF),
        saturates="left",
        zero_centred=False,
        source="Dugas et al. 2001",
    ),
    Definition(
        name="penalized_tanh",
        function=_penalized_tanh,
        derivative=lambda x: _step(x, 0.25, 1.0) * _tanh_slope(x),
        formula="tanh(x) if x > 0 else 0.25 * tanh(x)",
        bounds=_fixed(-0.25, 1.0),
        saturates="both",
        zero_centred=True,
        source="Xu et al. 2016; in LSTMs, Eger et al. 2018",
    ),
    Definition(
        name="elliott",
        function=lambda x: 0.5 * x / (1 + ops.abs(x)) + 0.5,
        derivative=lambda x: 0.5 / ops.square(1 + ops.abs(x)),
        formula="0.5 * x / (1 + |x|) + 0.5",
        bounds=_fixed(0.0, 1.0),
        saturates="both",
        zero_centred=False,
        source="Elliott 1993; in LSTMs, Farzad et al. 2019",
    ),
    Definition(
        name="cloglogm",
        function=_cloglogm,
        derivative=_cloglogm_slope,
        formula="1 - 2 * exp(-0.7 * exp(x))",
        bounds=_fixed(-1.0, 1.0),
        saturates="both",
        zero_centred=False,
        source="Gomes and Ludermir 2008; in LSTMs, Farzad et al. 2019",
    ),
    Definition(
        name="softmax",
        function=lambda x: _a.softmax(x, axis=-1),
        derivative=_softmax_vjp,
        formula="exp(x_k) / sum_j exp(x_j), over the units",
        bounds=_fixed(0.0, 1.0),
        saturates="both",
        zero_centred=False,
        source="Bridle 1990",
        elementwise=False,
    ),
]

ACTIVATIONS: dict[str, Definition] = {row.name: row for row in _ROWS}
ALIASES = {"swish": "silu"}
