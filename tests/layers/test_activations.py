"""The table of activations against formulas written a second time, in NumPy and float64."""

import functools
import math

import keras
import numpy as np
import pytest
from hypothesis import given, strategies as st
from keras import ops
from oracles import ORACLE
from scipy.special import softmax

from zoo import activations
from zoo.activations import ACTIVATIONS, ALIASES, bind, get, serialize
from zoo.diagnostics.autograd import gradients

pytestmark = pytest.mark.any_backend

ELEMENTWISE = [name for name, row in ACTIVATIONS.items() if row.elementwise]

KINKS = {"hard_sigmoid": (-3, 3), "hard_tanh": (-1, 1), "relu6": (0, 6)}


def learned(name):
    """What a layer would pass in for a learnable parameter."""
    row = ACTIVATIONS[name]
    return {row.learnable: row.parameters[row.learnable]} if row.learnable else {}


def call(name, x):
    return ops.convert_to_numpy(bind(name)(ops.convert_to_tensor(x), **learned(name)))


def test_every_row_has_an_oracle():
    assert set(ORACLE) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values(name):
    x = np.linspace(-12, 12, 481).astype("float32")
    # float32 rounds inputs of size 12 and the exponentials of them to about 6e-8 each, a few times over.
    np.testing.assert_allclose(call(name, x), ORACLE[name](x.astype("float64")), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivative_is_that_of_the_published_function(name):
    x = np.linspace(-9.03, 9.04, 397)
    near = [np.abs(x - kink) < 1e-3 for kink in KINKS.get(name, (0,))]
    x = x[~np.any(near, axis=0)]
    step = 1e-5
    expected = (ORACLE[name](x + step) - ORACLE[name](x - step)) / (2 * step)
    tensor = ops.convert_to_tensor(x.astype("float32"))
    found = ops.convert_to_numpy(bind(name).derivative(tensor, **learned(name)))
    # central differences are good to 1e-9 here; what is left is float32 in the derivative
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


# Where a framework's gradient is that of the other side of the kink.
OTHER_SIDE = {("hard_tanh", "tensorflow"), ("hard_tanh", "jax"), ("selu", "tensorflow")}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_at_a_kink_the_derivative_and_the_gradient_are_the_slope_of_one_side(name):
    x, step = np.array(KINKS.get(name, (0,)), "float64"), 1e-7
    left, right = ((ORACLE[name](x + side * step) - ORACLE[name](x)) / (side * step) for side in (-1, 1))
    tensor = ops.convert_to_tensor(x.astype("float32"))
    found = ops.convert_to_numpy(bind(name).derivative(tensor, **learned(name)))
    (gradient,) = gradients(lambda inputs: ops.sum(bind(name)(inputs[0], **learned(name))), [x.astype("float32")])
    # one-sided differences of a curved function are good to the step; the rest is float32
    for value in (found, gradient):
        assert (np.isclose(value, left, atol=2e-6) | np.isclose(value, right, atol=2e-6)).all()
    same = np.allclose(found, gradient, atol=1e-6)
    assert same == ((name, keras.backend.backend()) not in OTHER_SIDE)


def test_softmax_vjp_is_that_of_the_published_function():
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    step, expected = 1e-6, np.zeros_like(x)
    for k in range(5):
        shift = np.eye(5)[k] * step
        expected[:, k] = ((softmax(x + shift, -1) - softmax(x - shift, -1)) / (2 * step) * upstream).sum(-1)
    found = bind("softmax").vjp(ops.convert_to_tensor(x.astype("f")), ops.convert_to_tensor(upstream.astype("f")))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-6)
    with pytest.raises(TypeError, match="not elementwise"):
        bind("softmax").derivative(ops.convert_to_tensor(x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_properties_are_those_of_the_published_function(name):
    row, activation = ACTIVATIONS[name], bind(name)
    x = np.linspace(-60, 60, 120_001)
    y = ORACLE[name](x) if row.elementwise else ORACLE[name](np.stack([x, np.zeros_like(x)], -1))[:, 0]
    assert y.min() >= activation.lower - 1e-8
    assert y.max() <= activation.upper + 1e-8
    for bound, reached in ((activation.lower, y.min()), (activation.upper, y.max())):
        if math.isfinite(bound):
            assert abs(reached - bound) < 0.02  # softsign comes near as slowly as 1 / 61
        else:
            assert abs(reached) > 5
    assert row.monotonic == bool((np.diff(y) >= -1e-12).all())
    zero = y[60_000]
    assert row.zero_centred == bool(zero == 0 and y.min() < 0 < y.max())
    left, right = abs(np.diff(y)[0]) / 0.001, abs(np.diff(y)[-1]) / 0.001
    flat = {(True, True): "both", (True, False): "left", (False, True): "right", (False, False): "no"}
    assert row.saturates == flat[left < 5e-4, right < 5e-4]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_extremes(name):
    x = np.array([[-1e4, -100.0, 100.0, 1e4]], "float32")
    assert np.isfinite(call(name, x)).all()
    if ACTIVATIONS[name].elementwise:
        slopes = bind(name).derivative(ops.convert_to_tensor(x), **learned(name))
        assert np.isfinite(ops.convert_to_numpy(slopes)).all()
    assert np.isnan(call(name, np.array([[np.nan, np.nan]], "float32"))).all()


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if hasattr(keras.activations, name)])
def test_names_that_keras_has_are_keras_functions(name):
    x = np.random.default_rng(0).normal(size=(4, 7)).astype("float32") * 3
    expected = ops.convert_to_numpy(keras.activations.get(name)(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(call(name, x), expected, rtol=1e-6, atol=1e-7)  # leaky_relu is a fused op in Keras
    assert get(getattr(keras.activations, name)) == bind(name)


def test_the_same_by_value_however_given():
    same = [get("leaky_relu"), get("leaky_relu(0.2)"), get(keras.activations.leaky_relu), bind("leaky_relu", 0.2)]
    assert len(set(same)) == 1
    assert get(keras.ops.tanh) == get("tanh") == get(keras.activations.tanh)
    assert get(None) == get("linear")
    assert get("swish") == get("silu")
    assert set(ALIASES.values()) <= set(ACTIVATIONS)


@given(st.floats(min_value=-4, max_value=4, allow_nan=False))
def test_parametrised_names_survive_saving(slope):
    activation = bind("leaky_relu", slope)
    assert get(serialize(activation)) == activation
    assert activations.Activation.from_config(activation.get_config()) == activation


def test_keras_only_names_and_layers_pass_through():
    assert get("exponential") is keras.activations.exponential
    layer = get(keras.layers.LeakyReLU(0.1))
    assert get(serialize(layer)) == layer
    assert layer.make() is not layer.make()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("reul", "did you mean 'relu'"),
        ("leaky_relu(", "not understood"),
        ("leaky_relu(x)", r"activation 'leaky_relu\(x\)' is not understood; write a name or a name with numbers"),
        ("leaky_relu(1 + x)", "not understood"),
        ("leaky_relu(negative_slope=x)", "not understood"),
        ("leaky_relu({[]: 1})", "not understood"),
        ("leaky_relu(*[x])", "not understood"),
        ("leaky_rel(x)", "unknown activation 'leaky_rel'; did you mean 'leaky_relu'"),
        ("leaky_relu(1, 2)", r"expected leaky_relu\(negative_slope=0.2\)"),
        ("leaky_relu(alpha=1)", "expected leaky_relu"),
        ("leaky_relu('x')", "finite number"),
        ("elu(-1)", "positive"),
        ("rrelu(0.5, 0.1)", "lower must not exceed upper"),
        ("__import__('os')", "unknown activation"),
        ("get", "unknown activation"),
        (3, "a name, a function or a layer"),
        (lambda x: x, "register_keras_serializable"),
        (functools.partial(keras.activations.leaky_relu, negative_slope=0.1), "leaky_relu"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        get(wrong)


def test_a_learnable_slope_needs_an_owner():
    with pytest.raises(TypeError, match="has to be the weight of a layer"):
        bind("prelu")(ops.zeros((1, 1)))


def test_an_activation_serves_in_any_keras_layer():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation=get("penalized_tanh"))])
    again = keras.Sequential.from_config(model.get_config())
    again.set_weights(model.get_weights())
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x))
    )  # the same operations on the same weights
