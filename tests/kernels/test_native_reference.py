"""The native engine against the reference engine."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from keras import ops
from native_pairs import agree, pair

from zoo.kernels import native
from zoo.layers import LSTM

pytestmark = pytest.mark.skipif(native.not_built() is not None, reason=str(native.not_built()))


# Bounded or slowly growing functions, with parameters that float32 holds exactly (TensorFlow's leaky_relu rounds its
# slope to float32, and its gelu the root of 2), so that a difference is an error and not the growth of one.
SAFE = ["sigmoid", "tanh", "hard_sigmoid", "hard_tanh", "softsign", "relu6", "penalized_tanh", "elliott", "cloglogm"]
ANY = [
    *SAFE,
    "relu",
    "leaky_relu(0.25)",
    "leaky_relu(-0.5)",
    "prelu",
    "parametric_swish(0.5)",
    "elu(0.5)",
    "celu(2.0)",
    "selu",
    "mish",
    "silu",
]
CASES = st.fixed_dictionaries(
    {
        "input_gate_activation": st.sampled_from(ANY),
        "forget_gate_activation": st.sampled_from(SAFE),
        "candidate_activation": st.sampled_from(ANY),
        "output_gate_activation": st.sampled_from(ANY),
        "hidden_activation": st.sampled_from(ANY),
        "cell_clip": st.sampled_from([None, 0.5]),
        "use_bias": st.booleans(),
        "return_sequences": st.booleans(),
        "return_state": st.booleans(),
        "go_backwards": st.booleans(),
        "zero_output_for_mask": st.booleans(),
        "dtype": st.sampled_from(["float32", "float64"]),
    }
)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_configurations_agree_with_the_reference(count):
    settings(max_examples=count)(agrees_with_the_reference)()


@given(
    CASES,
    st.tuples(st.integers(1, 14), st.integers(1, 4), st.integers(1, 9)),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**16),
)
def agrees_with_the_reference(arguments, shape, units, masked, training, seed):
    rng = np.random.default_rng(seed)
    layers = pair(units, shape, **arguments)
    x = rng.normal(size=shape).astype(arguments["dtype"])
    mask = tf.constant(rng.random(shape[:2]) < 0.6) if masked else None
    # float64: what is left are the last digits of either side; float32: those of float32
    agree(layers, x, 1e-9 if arguments["dtype"] == "float64" else 2e-4, mask=mask, training=training)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.4])
@pytest.mark.parametrize("implementation", [1, 2])
def test_dropout(dropout, recurrent_dropout, implementation):
    layers = pair(
        17,
        (7, 4, 3),
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        implementation=implementation,
        seed=3,
        return_sequences=True,
        dtype="float64",
    )
    x = np.random.default_rng(0).normal(size=(7, 4, 3))
    agree(layers, x, 1e-12, training=True)
    agree(layers, x, 1e-12, training=False)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_in_float32(policy):
    layers = pair(8, (3, 5, 2), dtype=policy, return_sequences=True)
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float16" if "float16" in policy else "float32")
    ours = layers[1](x)
    assert keras.backend.standardize_dtype(ours.dtype) == policy.removeprefix("mixed_")
    exact = LSTM(8, engine="native", return_sequences=True)
    exact.build((3, 5, 2))
    exact.set_weights(layers[1].get_weights())
    # half precision only at the edges: weights and inputs rounded once, 8 or 11 bits of them
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(ours, "float32")), exact(np.float32(x)), atol=2e-2 if "b" in policy[6] else 2e-3
    )


def test_far_from_one_and_not_a_number():
    layers = pair(8, (2, 4, 3))
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    np.testing.assert_allclose(layers[1](x * 100), layers[0](x * 100), atol=1e-6)  # saturated: nearly all 0 or 1
    x[1, 2, 0] = np.nan
    found = ops.convert_to_numpy(layers[1](x))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_a_bound_the_cell_state_may_be_infinite(dtype):
    layer = LSTM(2, activation="linear", engine="native", return_state=True, dtype=dtype)
    cell = ops.convert_to_tensor([[np.inf, -np.inf], [np.nan, 1e30]], dtype=dtype)
    found = layer(np.zeros((2, 1, 1), dtype), initial_state=[ops.zeros((2, 2), dtype), cell])[2]
    np.testing.assert_array_equal(ops.convert_to_numpy(found)[0], [np.inf, -np.inf])
    assert np.isnan(found[1, 0])
    assert 1e29 < found[1, 1] < 1e30
