"""The activations as layers: values, gradients' owners, every rank and precision, saving, and what they refuse."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo.layers import LSTM, CoupledLSTMCell, LeakyReLU, PenalizedTanh, PReLU, RReLU, ThresholdedReLU

pytestmark = pytest.mark.any_backend

# layer at inference -> the published equation in NumPy
CASES = {
    "leaky": (lambda **k: LeakyReLU(0.3, **k), lambda x: np.where(x > 0, x, 0.3 * x)),
    "prelu by channel": (lambda **k: PReLU(0.25, **k), lambda x: np.where(x > 0, x, 0.25 * x)),
    "prelu shared": (lambda **k: PReLU(0.1, "shared", **k), lambda x: np.where(x > 0, x, 0.1 * x)),
    "rrelu": (lambda **k: RReLU(0.2, 0.6, **k), lambda x: np.where(x > 0, x, 0.4 * x)),
    "thresholded": (lambda **k: ThresholdedReLU(0.5, **k), lambda x: np.where(x > 0.5, x, 0)),
    "penalized": (lambda **k: PenalizedTanh(0.1, **k), lambda x: np.where(x > 0, 1, 0.1) * np.tanh(x)),
}
SHAPES = [(6,), (6, 4), (6, 5, 4), (2, 3, 5, 4)]


def data(shape):
    return (np.random.default_rng(0).normal(size=shape) * 2).astype("float32")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_is_the_published_function_at_every_rank(case, shape):
    make, expected = CASES[case]
    x = data(shape)
    # one float32 product, and tanh to one part in 1e-6
    np.testing.assert_allclose(ops.convert_to_numpy(make()(x)), expected(np.float64(x)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_keeps_the_precision_it_is_given(case, policy):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only where the whole process asks for it")
    make, expected = CASES[case]
    found = make(dtype=policy)(data((3, 4)), training=True) if case == "rrelu" else make(dtype=policy)(data((3, 4)))
    assert keras.backend.standardize_dtype(found.dtype) == policy.removeprefix("mixed_")
    if case != "rrelu":
        # bfloat16 has 8 bits; the threshold of 0.5 is far from every rounded entry but for that
        found = ops.convert_to_numpy(ops.cast(found, "float32"))
        np.testing.assert_allclose(found, expected(data((3, 4))), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("case", CASES)
def test_survives_saving_and_lets_a_mask_through(case, tmp_path):
    make, _ = CASES[case]
    model = keras.Sequential([keras.Input((5, 4)), keras.layers.Masking(), make(name="mine")])
    model.set_weights([w + 0.125 for w in model.get_weights()])
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert type(again.get_layer("mine")) is type(model.get_layer("mine"))
    assert again.get_layer("mine").get_config() == model.get_layer("mine").get_config()
    x = data((2, 5, 4))
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)))
    assert model.get_layer("mine").supports_masking


@pytest.mark.parametrize("case", CASES)
def test_a_nan_stays_a_nan(case):
    x = np.array([[np.nan, 1.0]], "float32")
    np.testing.assert_array_equal(np.isnan(ops.convert_to_numpy(CASES[case][0]()(x))), [[True, False]])


@pytest.mark.parametrize(
    ("shared", "expected"), [("channel", (4,)), ("shared", ()), ([1], (1, 4)), ([], (5, 4)), ([1, 2], (1, 1))], ids=str
)
def test_prelu_shares_its_slopes_as_told_and_starts_them_as_told(shared, expected):
    layer = PReLU(0.7, shared)
    layer.build((None, 5, 4))
    assert [tuple(w.shape) for w in layer.trainable_weights] == [expected]
    np.testing.assert_array_equal(layer.get_weights()[0], np.full(expected, 0.7, "f"))


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.1, 1.0, 2.0])
def test_leaky_relu_of_any_slope_and_its_gradient_at_the_kink(slope):
    x = np.array([-3.0, -0.0, 0.0, 3.0], "float32")
    found = ops.convert_to_numpy(LeakyReLU(slope)(x))
    np.testing.assert_allclose(found, np.where(x > 0, x, slope * x), rtol=1e-6)  # one float32 product
    # one step of gradient descent on y = leaky(bias + 0) moves the bias by the slope at 0
    dense = keras.layers.Dense(1, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), dense, LeakyReLU(slope)])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, y: ops.mean(y), jit_compile=False)
    model.fit(np.zeros((1, 1), "f"), np.zeros((1, 1), "f"), verbose=0)
    np.testing.assert_allclose(dense.get_weights()[1], [-slope], rtol=1e-6)


def test_prelu_equals_keras_with_the_same_axes():
    theirs, ours = keras.layers.PReLU(shared_axes=[1]), PReLU(0.25, [1])
    theirs.build((None, 5, 4)), ours.build((None, 5, 4))
    slopes = data((1, 4))
    theirs.set_weights([slopes]), ours.set_weights([slopes])
    x = data((3, 5, 4))
    # Keras writes relu(x) - slope * relu(-x): the same but for a zero's sign
    np.testing.assert_allclose(ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(theirs(x)), rtol=1e-6)


def test_prelu_learns_one_slope_a_channel_over_any_number_of_steps():
    model = keras.Sequential([keras.Input((None, 2)), PReLU(0.5), keras.layers.GlobalAveragePooling1D()])
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    model.fit(np.array([[[-1.0, 1.0]] * 3], "f"), np.zeros((1, 2), "f"), verbose=0)
    slopes = model.get_weights()[0]
    # mean squared error over 2 channels: d/da (a * -1)^2 / 2 = a, so one step of rate 1 takes 0.5 to 0
    np.testing.assert_allclose(slopes, [0.0, 0.5], atol=1e-6)


def test_rrelu_draws_once_a_sample_and_channel_and_only_in_training():
    layer = RReLU(0.1, 0.9, seed=1)
    x = -np.ones((3, 6, 4), "float32")
    slopes = -ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_array_equal(slopes, np.broadcast_to(slopes[:, :1], slopes.shape))
    assert len(np.unique(slopes)) == 12
    assert slopes.min() >= 0.1
    assert slopes.max() <= 0.9
    assert not np.array_equal(slopes, -ops.convert_to_numpy(layer(x, training=True)))
    state = ops.convert_to_numpy(layer.seed_generator.state.value).copy()
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), np.float32(-0.5))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.seed_generator.state.value), state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeakyReLU("0.1"), "`negative_slope` must be a finite number"),
        (lambda: LeakyReLU(float("inf")), "`negative_slope`"),
        (lambda: PReLU(True), "`initial_slope`"),
        (lambda: PReLU(0.25, "channels"), "'channel', 'shared' or a list"),
        (lambda: PReLU(0.25, [0]), "from 1 on"),
        (lambda: PReLU(0.25, [3]).build((None, 5, 4)), "does not have"),
        (lambda: PReLU(0.25, []).build((None, None, 4)), "share that axis"),
        (lambda: RReLU(0.5, 0.1), "lower must not exceed upper"),
        (lambda: RReLU(None, 0.1), "`lower`"),
        (lambda: LSTM(2, activation=RReLU(0.1, 0.3)), r"write the name 'rrelu\(0.1, 0.3\)'"),
        (lambda: CoupledLSTMCell(2, hidden_activation=RReLU(0.1, 0.3)), r"write the name 'rrelu\(0.1, 0.3\)'"),
        (lambda: ThresholdedReLU(-1), "must not be negative"),
        (lambda: PenalizedTanh(float("nan")), "`negative_slope`"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("layer_class", [LeakyReLU, PReLU, RReLU, ThresholdedReLU])
def test_the_slope_is_always_stated(layer_class):
    with pytest.raises(TypeError, match="missing"):
        layer_class()
