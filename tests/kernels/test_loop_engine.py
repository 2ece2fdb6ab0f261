"""The loop engine against the equations in NumPy and float64, and against the reference engine, on any backend."""

import keras
import numpy as np
import pytest
from gradients import float64, outputs_and_gradients
from keras import ops
from oracles import ORACLE, SLOPES, lstm, lstm_gradients

from zoo.layers import LSTM
from zoo.layers._gated_cell import GATES

pytestmark = pytest.mark.any_backend

BATCH, STEPS, CHANNELS = 4, 5, 3
MASKS = {
    "none": None,
    "right": np.arange(STEPS) < np.array([[5], [3], [1], [2]]),
    "left": np.arange(STEPS) >= np.array([[0], [4], [2], [3]]),
    "holes": np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]], bool),
    "empty row": np.arange(STEPS) < np.array([[5], [0], [3], [0]]),
}
# What Keras or its backend computes in float32, in part, although it is given float64.
ROUNDED = {
    "tensorflow": {"gelu", "leaky_relu"},
    "jax": {"mish", "penalized_tanh", "tanh"},
    "torch": {"celu", "cloglogm", "elu", "selu"},
}[keras.backend.backend()]
TABLE = sorted(SLOPES)


def few(cases, step):
    """All of `cases`, but every `step`-th where compiling one takes a second."""
    return list(cases)[:: step if keras.backend.backend() == "jax" else 1]


def arguments_of(names):
    return {f"{gate}_activation": name for gate, name in zip(GATES, names, strict=True)}


def built(shape, units, learned=False, **arguments):
    """A layer with kernels and biases that no initialiser gives, the same whatever its engine; slopes if `learned`."""
    layer = LSTM(units, **arguments)
    layer.build(shape)
    rng = np.random.default_rng(0)
    for weight in layer.trainable_weights[: None if learned else 3]:
        weight.assign(rng.normal(size=weight.shape) * 0.4)
    return layer


def upstream(k, shape):
    return np.random.default_rng(k).normal(size=shape)


def run(layer, x, mask=None, states=(), training=True):
    """Outputs, and gradients of x, of the states and of the weights."""
    mask = None if mask is None else ops.convert_to_tensor(mask)

    def call(x, *states):
        return layer(x, mask=mask, initial_state=list(states) or None, training=training)

    return outputs_and_gradients(call, [x, *states], layer.trainable_weights, upstream)


# === Against the equations ===


def compare(names, shape, units, mask=None, cell_clip=None, training=True):
    """Forward and all gradients in float64 against the oracle, from a given state, every output weighed."""
    rng = np.random.default_rng(1)
    x, h, c = (rng.normal(size=s) for s in (shape, (shape[0], units), (shape[0], units)))
    with float64():
        arguments = {**arguments_of(names), "dtype": "float64", "cell_clip": cell_clip}
        layer = built(shape, units, engine="loop", return_sequences=True, **arguments)
        (found,), (d_x, d_h, d_c, *d_weights) = run(layer, x, mask, (h, c), training)
        weights = [ops.convert_to_numpy(weight) for weight in layer.trainable_weights[:3]]
    # float64: sums of some hundred products of numbers up to some tens; else the same with float32's last digits
    tolerance = 1e-5 if ROUNDED.intersection(names) else 1e-12
    mask = np.ones(shape[:2], bool) if mask is None else mask
    expected = lstm(x, *weights, [ORACLE[n] for n in names], mask=mask, h=h, c=c, cell_clip=cell_clip)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg="outputs")
    gradients = lstm_gradients(x, weights, names, upstream(0, found.shape), mask, h, c, cell_clip)
    names = ["x", "kernel", "recurrent", "bias", "h", "c"]
    for name, ours, theirs in zip(names, [d_x, *d_weights[:3], d_h, d_c], gradients, strict=True):
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=tolerance, err_msg=name)


# Over all cases each stands once in each gate; on JAX, in one gate or two.
@pytest.mark.parametrize("first", few(range(len(TABLE)), 5))
@pytest.mark.sample(6)
def test_every_activation_in_every_gate(first):
    names = [TABLE[(first + gate) % len(TABLE)] for gate in range(len(GATES))]
    compare(names, (BATCH, STEPS, CHANNELS), 3, MASKS["holes"])


PLAIN = ["sigmoid", "sigmoid", "silu", "sigmoid", "softsign"]


@pytest.mark.parametrize("training", [True, False])  # without it the backward pass runs the forward pass once more
@pytest.mark.parametrize("mask", few(MASKS, 2))
def test_every_mask(mask, training):
    if training or keras.backend.backend() == "tensorflow":
        compare(PLAIN, (BATCH, STEPS, CHANNELS), 3, MASKS[mask], None, training)


@pytest.mark.parametrize(("shape", "units"), few([((1, 4, 2), 5), ((1, 1, 1), 1), ((13, 1, 2), 17)], 2))
def test_odd_sizes(shape, units):
    compare(PLAIN, shape, units)


def test_cell_clip():
    compare(["sigmoid", "relu", "relu", "sigmoid", "softplus"], (BATCH, STEPS, CHANNELS), 3, MASKS["holes"], 0.3)


# === Against the reference engine ===

# Keras computes parts of float64 in float32, tanh on JAX and products on torch, and so does the reference engine.
REFERENCE = 1e-12 if keras.backend.backend() == "tensorflow" else 2e-6
EPSILON = {"float16": 2**-10, "bfloat16": 2**-7}
X = np.random.default_rng(2).normal(size=(BATCH, STEPS, CHANNELS))


@keras.saving.register_keras_serializable("test")
def cube(z):
    return z + 0.1 * z**3


@keras.saving.register_keras_serializable("test")
def less_the_mean_row(z):
    return ops.tanh(z - ops.mean(z, axis=0, keepdims=True))


def agree(mask=None, **arguments):
    """Outputs and gradients in float64 of the two engines, each relative to its largest entry."""
    found = []
    with float64():
        for engine in ("reference", "loop"):
            layer = built(X.shape, 3, learned=True, engine=engine, dtype="float64", **arguments)
            found.append(keras.tree.flatten(run(layer, X, mask)))
    for theirs, ours in zip(*found, strict=True):
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=REFERENCE)


CASES = {
    "state": {"return_state": True},
    "backwards": {"return_sequences": True, "go_backwards": True, "return_state": True, "use_bias": False},
    "zeros": {"zero_output_for_mask": True, "return_sequences": True},
    "zero": {"zero_output_for_mask": True},
    "slopes": {"activation": "prelu", "recurrent_activation": "parametric_swish(0.5)", "cell_clip": 0.3},
    "random": {"activation": "rrelu", "seed": 3},
    "softmax": {"activation": "softmax", "recurrent_activation": "softmax"},
    "function": {"activation": cube},
    "mixed": {
        "activation": keras.layers.LeakyReLU(0.1),
        "input_gate_activation": "softmax",
        "hidden_activation": "prelu",
    },
    "dropout": {"dropout": 0.3, "seed": 3},
    "recurrent dropout": {"dropout": 0.3, "recurrent_dropout": 0.4, "seed": 3, "activation": cube},
}


@pytest.mark.parametrize("case", few(CASES, 2))
@pytest.mark.sample(4)
def test_agrees_with_the_reference(case):
    agree(MASKS["empty row"], **CASES[case])


def test_a_function_may_look_at_other_rows():
    agree(activation=cube, output_gate_activation=less_the_mean_row)


@pytest.mark.parametrize("activation", few([cube, "silu", "softmax"], 2), ids=lambda a: getattr(a, "__name__", a))
def test_what_is_masked_reaches_no_gradient(activation):
    layer = built(X.shape, 3, engine="loop", activation=activation, return_sequences=True)
    clean, poisoned = np.float32(X), np.where(MASKS["holes"][..., None], X, np.nan).astype("float32")
    expected, found = (keras.tree.flatten(run(layer, x, MASKS["holes"])) for x in (clean, poisoned))
    for theirs, ours in zip(expected, found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("half", few(["bfloat16", "float16"], 2))
def test_half_precision(half):
    """Against float64 with the same rounded numbers, relative to the largest entry of each output and gradient."""
    arguments = {"activation": "prelu", "return_sequences": True, "engine": "loop"}
    layer = built(X.shape, 3, learned=True, dtype=f"mixed_{half}", **arguments)
    for weight in layer.trainable_weights:
        weight.assign(ops.cast(ops.cast(weight, half), "float32"))
    x = ops.convert_to_numpy(ops.cast(ops.cast(np.float32(X), half), "float32"))
    found = keras.tree.flatten(run(layer, x))
    with float64():
        exact = built(X.shape, 3, dtype="float64", **arguments)
        for ours, theirs in zip(exact.trainable_weights, layer.trainable_weights, strict=True):
            ours.assign(ops.convert_to_numpy(theirs))
        expected = keras.tree.flatten(run(exact, np.float64(x)))
    for ours, theirs in zip(found, expected, strict=True):
        # Over five steps the rounding of h, z and dz adds up to three.
        assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 5 * EPSILON[half]


# === In a model ===


def trained(engine):
    keras.utils.set_random_seed(0)
    layer = keras.layers.Bidirectional(LSTM(3, engine=engine, activation="relu", output_gate_activation="prelu"))
    model = keras.Sequential([keras.Input((STEPS, CHANNELS)), layer, keras.layers.Dense(1)])
    # In XLA, which Keras takes on TensorFlow, the layer leaves the engine for the reference.
    jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=jit_compile)
    model.fit(np.float32(X), np.float32(X[:, 0, :1]), epochs=3, batch_size=2, verbose=0, shuffle=False)
    return model.get_weights()


@pytest.mark.sample(1, elsewhere=0)
def test_trains_as_the_reference_does():
    for theirs, ours in zip(trained("reference"), trained("loop"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)  # six small steps in float32


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs with unknown sizes are TensorFlow's")
def test_a_graph_with_unknown_batch_and_steps():
    import tensorflow as tf

    layer = built((None, None, CHANNELS), 3, engine="loop", return_sequences=True)
    signature = [tf.TensorSpec((None, None, CHANNELS)), tf.TensorSpec((None, None), tf.bool)]

    @tf.function(input_signature=signature)
    def traced(x, mask):
        with tf.GradientTape() as tape:
            outputs = layer(x, mask=mask, training=True)
            loss = tf.reduce_sum(outputs * tf.constant(upstream(0, X.shape), tf.float32))
        return outputs, tape.gradient(loss, layer.cell.kernel.value)

    (outputs,), (_, d_kernel, *_) = run(layer, np.float32(X), MASKS["holes"])
    found = traced(tf.constant(X, tf.float32), tf.constant(MASKS["holes"]))
    assert traced.get_concrete_function().output_shapes[0].as_list() == [None, None, 3]
    np.testing.assert_allclose(found[0], outputs, atol=1e-6)
    np.testing.assert_allclose(found[1], d_kernel, atol=1e-5)  # float32, the same sums in another order


def test_a_layer_with_weights_is_refused():
    with pytest.raises(ValueError, match="engine='loop' cannot run this layer here: the activation of its output_gate"):
        LSTM(4, output_gate_activation=keras.layers.PReLU(), engine="loop")
    assert LSTM(4, output_gate_activation=keras.layers.LeakyReLU(0.1), engine="loop").resolved_engine == "loop"


def test_states_that_go_on_from_batch_to_batch():
    """Keras writes them over the ones that the call began with, which the backward pass still reads."""
    x = np.random.default_rng(0).normal(size=(8, 3, 2)).astype("float32")
    losses = []
    for engine in ("reference", "loop"):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((3, 2), batch_size=4), LSTM(2, stateful=True, engine=engine), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile("sgd", "mse", jit_compile=keras.backend.backend() == "jax")
        losses.append(model.fit(x, x[:, 0, :1], batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
