"""The native engine against the equations in NumPy and float64; where it runs, and what it refuses."""

import logging
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from native_pairs import agree, pair, run
from oracles import ORACLE, SLOPES, lstm, lstm_gradients
from tiers import rotating

from zoo import kernels
from zoo.activations import ACTIVATIONS
from zoo.kernels import native
from zoo.layers import LSTM
from zoo.layers._gated_cell import GATES

pytestmark = pytest.mark.skipif(native.not_built() is not None, reason=str(native.not_built()))

BATCH, STEPS, CHANNELS = 5, 9, 3
MASKS = {
    "none": np.ones((BATCH, STEPS), bool),
    "right": np.arange(STEPS) < np.array([[9], [4], [1], [7], [2]]),
    "left": np.arange(STEPS) >= np.array([[0], [4], [8], [2], [5]]),
    "holes": np.random.default_rng(1).random((BATCH, STEPS)) < 0.6,
    "empty row": np.arange(STEPS) < np.array([[9], [0], [3], [0], [9]]),
}
# float64: sums of a few hundred products. float32: the same with 2^-24 in place of 2^-53, for values up to some tens.
TOLERANCE = {"float64": 1e-12, "float32": 3e-5}


def names_with(gate, activation):
    names = {g: "sigmoid" if g.endswith("_gate") else "tanh" for g in GATES} | {gate: activation}
    return [names[g] for g in GATES]


def compare(names, shape, units, mask, dtype, cell_clip=None, training=True):
    """Forward and gradients of a native layer against the oracle, from a given state, every output weighed."""
    rng = np.random.default_rng(0)
    arguments = {f"{gate}_activation": name for gate, name in zip(GATES, names, strict=True)}
    layer = LSTM(units, engine="native", return_sequences=True, dtype=dtype, cell_clip=cell_clip, **arguments)
    layer.build(shape)
    for weight in layer.weights[:3]:
        weight.assign(ops.convert_to_numpy(weight) + rng.normal(size=weight.shape) * 0.2)
    x, h, c = (rng.normal(size=s).astype(dtype) for s in (shape, (shape[0], units), (shape[0], units)))
    upstream = rng.normal(size=(*shape[:2], units)).astype(dtype)
    values = [tf.constant(x), tf.constant(h), tf.constant(c)]
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = layer(values[0], initial_state=values[1:], mask=tf.constant(mask), training=training)
        loss = tf.reduce_sum(outputs * upstream)
    weights = [w.value for w in layer.weights[:3]]
    d_x, d_h, d_c, *d_weights = tape.gradient(loss, [*values, *weights])
    exact = [np.float64(w.numpy()) for w in weights]
    x, h, c, upstream = np.float64(x), np.float64(h), np.float64(c), np.float64(upstream)
    expected = lstm(x, *exact, [ORACLE[n] for n in names], mask=mask, h=h, c=c, cell_clip=cell_clip)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(outputs.numpy(), expected, rtol=tolerance, atol=tolerance, err_msg="outputs")
    gradients = lstm_gradients(x, exact, names, upstream, mask, h, c, cell_clip)
    found = [d_x, *d_weights, d_h, d_c]
    for name, ours, theirs in zip(["x", "kernel", "recurrent", "bias", "h", "c"], found, gradients, strict=True):
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours.numpy() / scale, theirs / scale, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("activation", "gate"), rotating(sorted(SLOPES), GATES))
@pytest.mark.sample(8)
def test_every_activation_in_every_gate(activation, gate):
    for dtype in ("float64", "float32"):
        compare(names_with(gate, activation), (BATCH, STEPS, CHANNELS), 4, MASKS["holes"], dtype)


def elementwise():
    return {name for name, row in ACTIVATIONS.items() if row.elementwise and not row.random}


def test_has_elementwise_deterministic_activations():
    assert set(native.codes()) <= elementwise()


@pytest.mark.slow  # before a release; until then the engine refuses a new one by name
def test_has_every_elementwise_deterministic_activation():
    assert set(native.codes()) == elementwise()


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("batch", [1, 5, 13])
@pytest.mark.parametrize("units", [1, 3, 17, 100])
@pytest.mark.sample(8)
def test_odd_sizes(units, batch, steps):
    mask = np.ones((batch, steps), bool)
    for dtype in ("float64", "float32"):
        compare(names_with("candidate", "relu"), (batch, steps, 2), units, mask, dtype)


@pytest.mark.parametrize("units", [2, 4, 8, 16, 32, 48])
@pytest.mark.parametrize("steps", [1, 6, 13])
@pytest.mark.sample(6)
def test_a_batch_of_one_row_that_fills_whole_vectors(steps, units):
    mask = np.random.default_rng(2).random((1, steps)) < 0.7
    for dtype in ("float64", "float32"):
        compare(names_with("candidate", "silu"), (1, steps, 3), units, mask, dtype)


@pytest.fixture(params=["portable", "avx2", "avx512"])
def instruction_set(request):
    if not native.bindings.library().zoo_use(request.param.encode()):
        pytest.skip(f"this processor has no {request.param}")
    assert native.instruction_set() == request.param
    yield
    native.bindings.library().zoo_use(None)


@pytest.mark.parametrize(("units", "batch"), rotating([1, 4, 8, 12, 16, 17, 24, 32, 40, 48, 72], [1, 2, 3, 5, 13]))
@pytest.mark.sample(8)
def test_every_instruction_set(instruction_set, units, batch):
    mask = np.random.default_rng(3).random((batch, 7)) < 0.7
    for dtype in ("float64", "float32"):
        compare(names_with("candidate", "silu"), (batch, 7, 3), units, mask, dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_every_mask_with_and_without_the_reserve(mask, training):
    compare(names_with("candidate", "tanh"), (BATCH, STEPS, CHANNELS), 5, MASKS[mask], "float64", None, training)


def test_cell_clip():
    compare(names_with("candidate", "relu"), (BATCH, STEPS, CHANNELS), 5, MASKS["holes"], "float64", 0.3)


# === Where it runs ===


def model_of(layer):
    return keras.Sequential([keras.Input((9, 3)), layer, keras.layers.Dense(2)])


def trained(engine, wrap=lambda layer: layer):
    keras.utils.set_random_seed(0)
    model = model_of(wrap(LSTM(6, engine=engine, activation="relu")))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(20, 9, 3)), rng.normal(size=(20, 2)), epochs=3, batch_size=8, verbose=0, shuffle=False)
    return model


@pytest.mark.parametrize("wrap", [lambda layer: layer, keras.layers.Bidirectional])
@pytest.mark.sample(1)
def test_trains_as_the_reference_does(wrap):
    for theirs, ours in zip(
        trained("reference", wrap).get_weights(), trained("native", wrap).get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)  # nine small steps in float32


def test_stateful_layers_carry_their_states():
    layers = pair(4, (2, 3, 1), stateful=True)
    x = np.random.default_rng(0).normal(size=(2, 3, 1)).astype("float32")
    for _ in range(3):
        theirs, ours = (layer(x) for layer in layers)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("shape", "units"), [((29, 7, 5), 33), ((1, 40, 3), 256), ((9, 12, 5), 260)])
def test_the_same_bits_every_time_for_a_given_number_of_threads(shape, units):
    layer = LSTM(units, engine="native", return_sequences=True)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer.build(x.shape)
    first = {}
    try:
        for number in (1, 2, 5, 2, 5, 1):
            native.set_threads(number)
            found = [ops.convert_to_numpy(a) for a in keras.tree.flatten(run(layer, x, 0, training=True))]
            for ours, theirs in zip(found, first.setdefault(number, found), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    finally:
        native.set_threads(None)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "units"),
    [
        ((1, 60, 3), 128),
        pytest.param((1, 30, 8), 272, marks=pytest.mark.slow),
        ((7, 6, 5), 260),
        pytest.param((3, 60, 2), 256, marks=pytest.mark.slow),
        pytest.param((40, 90, 3), 24, marks=pytest.mark.slow),
    ],
)
@pytest.mark.sample(3)
def test_every_way_to_share_the_work(shape, units, masked):
    """The units of a single row split; the product for the kernels after the loop over time, and inside of it."""
    layers = pair(units, shape, return_sequences=masked)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    mask = np.random.default_rng(1).random(shape[:2]) > 0.3 if masked else None
    try:
        for number in (1, 2, 3, 16):
            native.set_threads(number)
            agree(layers, x, mask=mask)
    finally:
        native.set_threads(None)


def test_several_threads_call_one_layer():
    layer = LSTM(16, engine="native")
    x = [np.random.default_rng(k).normal(size=(9, 20, 4)).astype("float32") for k in range(8)]
    layer.build(x[0].shape)
    alone = [ops.convert_to_numpy(layer(values)) for values in x]
    together = [None] * len(x)

    def call(k):
        for _ in range(20):
            together[k] = ops.convert_to_numpy(layer(x[k]))

    threads = [threading.Thread(target=call, args=(k,)) for k in range(len(x))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_graph_with_unknown_batch_and_steps():
    layer = LSTM(4, engine="native", return_sequences=True)
    layer.build((None, None, 3))
    traced = tf.function(lambda x: layer(x), input_signature=[tf.TensorSpec((None, None, 3))])
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    np.testing.assert_array_equal(traced(tf.constant(x)), layer(x))
    assert traced.get_concrete_function().output_shapes.as_list() == [None, None, 4]


# === What is chosen and what is refused ===


def test_auto_takes_it_and_says_so(caplog):
    layer = LSTM(4, name="mine")
    assert layer.resolved_engine == "native"
    with caplog.at_level(logging.INFO, logger="zoo"):
        layer(np.zeros((1, 2, 3), "float32"))
        layer(np.zeros((1, 2, 3), "float32"))
    assert [record.message for record in caplog.records] == ["mine: engine native (requested: auto)"]


@pytest.mark.parametrize("activation", ["softmax", "rrelu", keras.layers.LeakyReLU(0.1)])
def test_what_it_cannot_run_is_refused_by_name_and_left_to_the_reference(activation):
    assert LSTM(4, output_gate_activation=activation).resolved_engine == "reference"
    with pytest.raises(ValueError, match=r"engine='native' cannot run this layer here: the activation of its output"):
        LSTM(4, output_gate_activation=activation, engine="native")


def test_without_the_library_auto_goes_on_and_native_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(native.bindings, "LIBRARY", tmp_path / "none.so")
    monkeypatch.setattr(native.bindings, "NOTE", tmp_path / "note.json")
    native.not_built.cache_clear()
    try:
        (tmp_path / "note.json").write_text('{"error": "no C++ compiler was found"}')
        assert LSTM(4).resolved_engine == "reference"
        with pytest.raises(ValueError, match="no C\\+\\+ compiler was found"):
            LSTM(4, engine="native")
        config = {**LSTM(4).get_config(), "engine": "native"}
        with pytest.warns(UserWarning, match="Falling back to engine='auto'"):
            assert LSTM.from_config(config).engine == "auto"
    finally:
        native.not_built.cache_clear()


def test_a_wrong_mask_is_an_error_with_both_shapes():
    layer = LSTM(4, engine="native")
    layer.build((2, 5, 3))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"mask has shape \(2, 4\), expected \(2, 5\)"):
        layer(np.zeros((2, 5, 3), "float32"), mask=tf.ones((2, 4), tf.bool))


@pytest.mark.slow  # a few doors, `auto` among them, stand in tests/export/test_doors.py
@pytest.mark.parametrize("engine", ["native", "auto"])
def test_never_enters_an_exported_graph(engine, tmp_path):
    model = model_of(LSTM(4, engine=engine, activation="silu"))
    x = np.random.default_rng(0).normal(size=(2, 9, 3)).astype("float32")
    model.export(str(tmp_path / "by_keras"), verbose=False)
    code = (
        "import sys, numpy, tensorflow as tf; model = tf.saved_model.load(sys.argv[1]); "
        "numpy.save(sys.argv[3], model.serve(numpy.load(sys.argv[2]))); assert 'zoo' not in sys.modules"
    )
    np.save(tmp_path / "x.npy", x)
    answer = str(tmp_path / "y.npy")
    command = [sys.executable, "-c", code, str(tmp_path / "by_keras"), str(tmp_path / "x.npy"), answer]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(answer), model(x), atol=1e-6)


def test_under_xla_auto_takes_the_reference():
    layer = LSTM(4)
    x = np.ones((1, 3, 2), "float32")
    layer.build(x.shape)
    np.testing.assert_allclose(tf.function(layer, jit_compile=True)(x), layer(x), atol=1e-6)


def test_resolution_without_activations_is_the_reference():
    assert kernels.resolve("auto") == "reference"
