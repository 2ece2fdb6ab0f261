"""`cell_clip`: the equation, its gradient, what it refuses, and the warning where it is missing."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops
from oracles import ORACLE, lstm

from zoo.kernels.reference import clip_cell
from zoo.layers import LSTM, LSTMCell

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("each_engine")]

SHAPE = (4, 9, 3)
X = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
MASK = np.random.default_rng(1).random(SHAPE[:2]) < 0.7


@pytest.mark.parametrize("implementation", [1, 2])
@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "holes"])
def test_equals_the_equations_and_the_bound_is_reached(mask, implementation):
    layer = LSTM(5, activation="relu", cell_clip=0.2, return_sequences=True, implementation=implementation)
    layer.build(SHAPE)
    weights = [np.float64(w) for w in layer.get_weights()]
    functions = [ORACLE[n] for n in ("sigmoid", "sigmoid", "relu", "sigmoid", "relu")]
    clipped, free = (lstm(np.float64(X), *weights, functions, mask=mask, cell_clip=bound) for bound in (0.2, None))
    assert abs(clipped - free).max() > 0.05, "nothing was cut: the test would pass without the clipping"
    found = layer(X, mask=None if mask is None else ops.convert_to_tensor(mask))
    np.testing.assert_allclose(ops.convert_to_numpy(found), clipped, atol=1e-6)  # float32 over 9 steps below 1


def test_bounds_the_state_that_is_returned():
    layer = LSTM(5, activation="linear", cell_clip=0.5, return_state=True)
    cell = ops.convert_to_numpy(layer(X * 1e6)[2])
    assert abs(cell).max() == 0.5
    np.testing.assert_array_equal(abs(cell) <= 0.5, True)


def test_a_wide_bound_changes_nothing():
    layer, wide = LSTM(5), LSTM(5, cell_clip=1e9)
    layer.build(SHAPE)
    wide.build(SHAPE)
    wide.set_weights(layer.get_weights())
    np.testing.assert_array_equal(ops.convert_to_numpy(wide(X)), ops.convert_to_numpy(layer(X)))  # the same operations


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_nan_and_the_dtype_survive(dtype):
    found = clip_cell(ops.cast(ops.array([np.nan, np.inf, -np.inf, 0.25]), dtype), 2.0)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    np.testing.assert_array_equal(ops.convert_to_numpy(ops.cast(found, "float32")), [np.nan, 2, -2, 0.25])


def test_a_nan_in_the_input_is_seen_in_the_output():
    poisoned = X.copy()
    poisoned[1, 3, 0] = np.nan
    found = ops.convert_to_numpy(LSTM(5, activation="relu", cell_clip=1.0)(poisoned))
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2, 3]]).all()


def test_no_gradient_passes_where_it_cuts():
    # c' = sigmoid(w) * 3 in one linear cell: 1.5 at w = 0, so a bound of 1 cuts and one of 2 does not.
    moved = {}
    for bound in (1.0, 2.0):
        layer = LSTM(
            1,
            activation="linear",
            cell_clip=bound,
            unit_forget_bias=False,
            kernel_initializer=lambda shape, dtype=None: ops.array([[0.0, 0.0, 3.0, 0.0]]),
        )
        model = keras.Sequential([keras.Input((1, 1)), layer])
        model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
        before = model.get_weights()[0].copy()
        model.fit(np.ones((1, 1, 1), "f"), np.zeros((1, 1), "f"), verbose=0)
        moved[bound] = (model.get_weights()[0] - before)[0]
    np.testing.assert_array_equal(moved[1.0][[0, 2]], 0)  # input gate and candidate act only through c'
    assert moved[1.0][3] != 0, "the output gate acts after the clipping"
    assert (moved[2.0][[0, 2, 3]] != 0).all()


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf"), True, "1", [1.0]])
@pytest.mark.parametrize("layer_class", [LSTM, LSTMCell])
def test_other_bounds_are_refused(layer_class, wrong):
    with pytest.raises(ValueError, match=r"`cell_clip` must be a positive finite number.*or None.*received"):
        layer_class(2, cell_clip=wrong)


def test_is_kept_in_the_config():
    layer = LSTM(2, cell_clip=3)
    assert layer.cell_clip == 3.0
    assert LSTM.from_config(layer.get_config()).cell_clip == 3.0
    assert LSTMCell.from_config(LSTMCell(2, cell_clip=0.5).get_config()).cell_clip == 0.5
    assert keras.layers.Bidirectional(layer).backward_layer.cell_clip == 3.0
    assert LSTM.from_config(keras.layers.LSTM(2).get_config()).cell_clip is None


def test_an_unbounded_candidate_on_long_sequences_warns_once_a_layer():
    layer = LSTM(2, activation="relu", name="mine")
    with pytest.warns(UserWarning, match=r"mine: .*'relu'.* 101 .*cell_clip.*relu6.*hard_tanh") as caught:
        layer.build((None, 101, 3))
    assert len(caught) == 1
    layer(np.zeros((1, 101, 3), "f"))  # a second warning would be an error here


def test_warns_at_the_call_where_the_length_is_first_known():
    layer = LSTM(2, candidate_activation="leaky_relu")
    layer.build((None, None, 3))
    with pytest.warns(UserWarning, match="101"):
        layer(np.zeros((1, 101, 3), "f"))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"activation": "relu", "cell_clip": 50}, {"activation": "relu", "candidate_activation": "relu6"}],
    ids=str,
)
def test_no_warning_without_a_reason(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LSTM(2, **arguments).build((None, 500, 3))
        LSTM(2, activation="relu").build((None, 100, 3))
        LSTM(2, activation="relu").build((None, None, 3))
