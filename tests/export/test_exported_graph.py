"""The graph of an exported LSTM gives what the reference engine gives."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiers import few

from zoo.activations import ACTIVATIONS
from zoo.export.operations import refused_operations
from zoo.kernels import ENGINES, graph, target
from zoo.kernels.target import Place, Target
from zoo.layers import LSTM

N = graph.STEPS_AT_ONCE[0]
SIZES = [(1, 1), (N - 1, 3), (N, 1), (N + 1, 3), (2 * N + 3, 3)]  # steps, batch
UNITS, EVEN = 3, 4  # one operation for all steps takes even units only
CHANNELS = 3


@pytest.fixture
def exporting(monkeypatch):
    """Turns what a layer gives into the function that an export would trace: any batch, any number of steps."""

    def traced(layer, masked=False, xla=False, dtype=tf.float32, steps_at_once=None):
        if steps_at_once:
            monkeypatch.setattr(graph, "STEPS_AT_ONCE", (steps_at_once, 1))
        states = [tf.TensorSpec((None, layer.units), dtype)] * 2
        specs = [tf.TensorSpec((None, None, CHANNELS), dtype), *states]
        specs += [tf.TensorSpec((None, None), tf.bool)] * masked

        @tf.function(input_signature=specs, jit_compile=xla or None, autograph=False)
        def run(x, h, c, mask=None):
            with monkeypatch.context() as patch:
                patch.setattr(target, "of_trace", lambda tensors, training: Target(Place.SAVED_MODEL, compiled=xla))
                return layer(x, initial_state=[h, c], mask=mask)

        return run

    return traced


def made(units=UNITS, **arguments):
    layer = LSTM(units, engine="reference", return_state=True, **arguments)
    layer.build((None, None, CHANNELS))
    for weight in layer.weights:  # slopes and biases that differ from unit to unit
        weight.assign(np.random.default_rng(0).normal(0, 0.7, weight.shape))
    return layer


def arguments(steps, batch, dtype="float32", units=UNITS):
    rng = np.random.default_rng(steps)
    shapes = (batch, steps, CHANNELS), (batch, units), (batch, units)
    return [tf.constant(rng.normal(size=shape), dtype) for shape in shapes]


def masks(steps, batch):
    """All steps, rows of different lengths of which one is empty, and holes."""
    lengths = np.linspace(steps, 0, batch).astype(int)
    holes = np.random.default_rng(1).random((batch, steps)) < 0.6
    return [np.ones((batch, steps), bool), np.arange(steps) < lengths[:, None], holes]


def assert_equal(found, expected, atol=1e-6):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(*(tf.cast(tensor, "float64") for tensor in (one, other)), atol=atol)


def in_one_operation(function):
    return "BlockLSTM" in {operation.type for operation in function.get_concrete_function().graph.get_operations()}


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize(("units", "clip"), [(UNITS, None), (UNITS, 0.5), (EVEN, None)])
@pytest.mark.sample(2)
def test_all_steps_valid(exporting, sequences, units, clip):
    layer = made(units, return_sequences=sequences, cell_clip=clip)
    run = exporting(layer)
    assert in_one_operation(run) is (units == EVEN)
    for size in SIZES:
        x, *states = arguments(*size, units=units)
        assert_equal(run(x, *states), layer(x, initial_state=states))


def test_large_inputs(exporting):
    layer = made(EVEN, return_sequences=True)
    x, *states = arguments(5, 3, units=EVEN)
    assert_equal(exporting(layer)(100 * x, *states), layer(100 * x, initial_state=states), atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"cell_clip": 1.0},  # of a NaN that it clips the operation makes a number
        {"recurrent_activation": "hard_sigmoid"},
        {"hidden_activation": "linear"},
        {"activation": "leaky_relu"},
        {"dtype": "mixed_float16"},
        {"dtype": "float64"},
    ],
)
def test_what_the_one_operation_does_not_compute(exporting, other):
    layer = made(EVEN, **other)
    assert not in_one_operation(exporting(layer, dtype=layer.compute_dtype, steps_at_once=1))


def test_a_large_kernel_is_not_read_at_every_step(exporting, monkeypatch):
    monkeypatch.setattr(graph, "LARGE", CHANNELS * 4 * EVEN - 1)
    assert not in_one_operation(exporting(made(EVEN), steps_at_once=1))


@pytest.mark.parametrize("where", ["x", "h", "c"])
def test_a_nan_stays_one_in_its_row(exporting, where):
    x, h, c = (tensor.numpy() for tensor in arguments(5, 2, units=EVEN))
    {"x": x[:, 2], "h": h, "c": c}[where][0] = np.nan
    layer = made(EVEN)
    for found in exporting(layer)(*map(tf.constant, (x, h, c))):
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all()


@pytest.mark.parametrize(
    ("sequences", "backwards", "zeros"),
    [(False, False, False), (False, True, True), (True, False, False), (True, True, False), (True, True, True)],
)
@pytest.mark.parametrize("units", few([UNITS, EVEN], [EVEN]))
@pytest.mark.sample(2)
def test_masks(exporting, sequences, backwards, zeros, units):
    layer = made(units, return_sequences=sequences, go_backwards=backwards, zero_output_for_mask=zeros)
    run = exporting(layer, masked=True)
    for size in SIZES[::2] if backwards else SIZES[1::2]:
        x, *states = arguments(*size, units=units)
        for mask in masks(*size):
            hidden = tf.where(mask[:, :, None], x, np.nan)  # what is not valid must not be seen
            assert_equal(run(hidden, *states, mask), layer(x, initial_state=states, mask=mask))


@pytest.mark.parametrize("units", [UNITS, EVEN])
@pytest.mark.sample(1)
def test_gradients(exporting, units):
    layer = made(units, return_sequences=True)
    (x, *states), mask = arguments(N + 1, 3, units=units), masks(N + 1, 3)[2]
    weigh = tf.random.stateless_normal((3, N + 1, units), seed=(0, 1))

    def gradients(function, x):
        sources = [x, *states, *(weight.value for weight in layer.trainable_weights)]
        with tf.GradientTape() as tape:
            tape.watch(sources[:3])
            outputs, hidden, cell = function(x)
            loss = tf.reduce_sum(outputs * weigh) + tf.reduce_sum(hidden) + tf.reduce_sum(cell)
        return tape.gradient(loss, sources)

    run, unseen = exporting(layer, masked=True), tf.where(mask[:, :, None], x, np.nan)
    found = gradients(lambda x: run(x, *states, mask), unseen)
    expected = gradients(lambda x: layer(x, initial_state=states, mask=mask), tf.where(mask[:, :, None], x, 0.0))
    assert_equal(found, expected, atol=1e-5)


@pytest.mark.parametrize("activation", few(list(ACTIVATIONS), list(ACTIVATIONS)[::4]))
def test_every_activation(exporting, activation):
    layer = made(activation=activation, recurrent_activation=activation)
    x, *states = arguments(3, 2)
    expected = layer(x, initial_state=states)
    size = max(1.0, *(float(tf.reduce_max(tf.abs(tensor))) for tensor in expected))  # of gates without a bound
    assert_equal(exporting(layer, steps_at_once=2)(x, *states), expected, atol=1e-6 * size)


def test_each_gate_its_own(exporting):
    layer = made(
        input_gate_activation="hard_sigmoid",
        forget_gate_activation=keras.layers.LeakyReLU(0.1),
        candidate_activation="prelu",
        output_gate_activation=keras.activations.exponential,
        hidden_activation="softmax",
        use_bias=False,
    )
    x, *states = arguments(3, 2)
    assert_equal(exporting(layer, steps_at_once=2)(x, *states), layer(x, initial_state=states))


@pytest.mark.parametrize(("dtype", "atol"), [("mixed_float16", 2**-9), ("mixed_bfloat16", 2**-6), ("float64", 1e-12)])
def test_precisions(exporting, dtype, atol):
    layer = made(dtype=dtype, return_sequences=True)
    x, *states = arguments(3, 2, layer.compute_dtype)
    run = exporting(layer, dtype=layer.compute_dtype, steps_at_once=2)
    assert_equal(run(x, *states), layer(x, initial_state=states), atol)


def test_xla_compiles_it(exporting):
    layer = made(return_sequences=True)
    (x, *states), holes = arguments(N + 1, 3), masks(N + 1, 3)[2]
    found = exporting(layer, masked=True, xla=True)(x, *states, holes)
    assert_equal(found, layer(x, initial_state=states, mask=holes))


@pytest.mark.parametrize("units", [UNITS, EVEN])
def test_no_rows(exporting, units):
    x, *states = arguments(N + 1, 0, units=units)
    run = exporting(made(units, return_sequences=True), masked=True)
    outputs, hidden, cell = run(x, *states, np.ones((0, N + 1), bool))
    assert outputs.shape == (0, N + 1, units)
    assert hidden.shape == cell.shape == (0, units)


def test_an_exported_model_runs_blocks_of_steps_in_stock_operations(tmp_path):
    inputs = keras.Input((None, CHANNELS), name="x")
    forwards, backwards = LSTM(UNITS, return_sequences=True), LSTM(UNITS, return_sequences=True, go_backwards=True)
    model = keras.Model(inputs, keras.layers.Bidirectional(forwards, backward_layer=backwards)(inputs))
    model.export(str(tmp_path), format="tf_saved_model", verbose=False)
    assert refused_operations(tmp_path) == []
    served = tf.saved_model.load(str(tmp_path))
    for size in SIZES[::2]:
        x = arguments(*size)[0]
        [found] = served.signatures["serving_default"](x=x).values()
        assert_equal([found], [model(x)])
    library = served.signatures["serving_default"].graph.as_graph_def().library.function
    products = [sum(node.op == "MatMul" for node in function.node_def) for function in library]
    assert products.count(N) == 2  # a body of N steps in each direction


def test_training_takes_another_way(monkeypatch):
    monkeypatch.setattr(target, "of_trace", lambda tensors, training: Target(Place.SAVED_MODEL))
    row = dataclasses.replace(ENGINES["graph"], run=lambda *_: pytest.fail("Keras's own loop draws as Keras does"))
    monkeypatch.setitem(ENGINES, "graph", row)
    made(dropout=0.5)(arguments(2, 2)[0], training=True)
