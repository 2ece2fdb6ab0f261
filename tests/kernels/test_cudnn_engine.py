"""The cuDNN engine against the equations in float64 and against the reference.

All of it runs twice. "stand-in" has the library's own function replaced where there is no GPU to call it on, by what
is in tests/support/cudnn_stand_in.py; PyTorch's knows the CPU too. "GPU" calls cuDNN.
"""

import sys

import keras
import numpy as np
import pytest
from cudnn_stand_in import stand_in
from keras import ops
from oracles import ORACLE, lstm, lstm_gradients

from zoo import devices
from zoo.diagnostics.autograd import value_and_gradients
from zoo.kernels import ENGINES, cudnn
from zoo.kernels.contract import Operands, Options
from zoo.layers import LSTM
from zoo.types import Gates

pytestmark = pytest.mark.any_backend
BACKEND = keras.backend.backend()

BATCH, STEPS, CHANNELS, UNITS = 5, 9, 3, 4
NAMES = Gates("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh")
MASKS = {
    "none": None,
    "right": np.arange(STEPS) < np.array([[9], [4], [1], [7], [2]]),
    "left": np.arange(STEPS) >= np.array([[0], [4], [8], [2], [5]]),
    "holes": np.random.default_rng(1).random((BATCH, STEPS)) < 0.6,
    "empty rows": np.arange(STEPS) < np.array([[9], [0], [3], [0], [9]]),
}
BACKWARDS = [("none", True, True), ("right", True, True), ("holes", True, True), ("none", False, False)]
TOLERANCE = 3e-5  # float32: sums of a few hundred products, for values up to some tens


# === The library, or what stands in for it ===


@pytest.fixture
def no_tf32():
    """On a GPU products round to TF32's 11 bits unless told not to, which would hide every smaller mistake."""
    if BACKEND == "torch":
        import torch

        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    elif BACKEND == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    else:
        import tensorflow as tf

        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        yield
        tf.config.experimental.enable_tensor_float_32_execution(before)


@pytest.fixture
def faked(monkeypatch, no_tf32):
    return stand_in(monkeypatch)


@pytest.fixture(params=["stand-in", "GPU"])
def library(request, monkeypatch, no_tf32):
    if request.param == "stand-in":
        stand_in(monkeypatch)
    elif ENGINES["cudnn"].unavailable():
        pytest.skip(ENGINES["cudnn"].unavailable())
    return request.param


# === Against the equations ===


def arrays(bias=True):
    """x, kernel, recurrent kernel, bias, h, c."""
    rng = np.random.default_rng(0)
    shapes = [(BATCH, STEPS, CHANNELS), (CHANNELS, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,)]
    x, *weights, h, c = (rng.normal(size=s).astype("float32") for s in [*shapes, (BATCH, UNITS), (BATCH, UNITS)])
    weights[2] *= bias
    return x, *weights, h, c


def run(tensors, mask, bias=True, dropout=None, **options):
    x, kernel, recurrent_kernel, vector, h, c = tensors
    mask = None if mask is None else ops.convert_to_tensor(mask)
    operands = Operands(x, kernel, recurrent_kernel, vector if bias else None, h, c, mask, dropout, Gates(*[None] * 5))
    return cudnn.lstm(operands, Options(NAMES, **options))


def weighed(outputs, weights):
    return ops.sum(outputs * ops.convert_to_tensor(weights))


@pytest.mark.parametrize(("mask", "go_backwards", "bias"), [*((mask, False, True) for mask in MASKS), *BACKWARDS])
def test_outputs_and_gradients(library, mask, go_backwards, bias):
    values, mask = arrays(bias), MASKS[mask]
    options = {"go_backwards": go_backwards, "return_sequences": True}
    upstream = np.random.default_rng(1).normal(size=(BATCH, STEPS, UNITS)).astype("float32")
    tensors = [ops.convert_to_tensor(value) for value in values]
    outputs = ops.convert_to_numpy(run(tensors, mask, bias, **options)[0])
    _, found = value_and_gradients(lambda t: weighed(run(t, mask, bias, **options)[0], upstream), tensors)
    x, *weights, h, c = (np.float64(value) for value in values)
    read = slice(None, None, -1 if go_backwards else 1)
    valid = (np.ones((BATCH, STEPS), bool) if mask is None else mask)[:, read]
    expected = lstm(x[:, read], *weights, [ORACLE[name] for name in NAMES], mask=valid, h=h, c=c)
    np.testing.assert_allclose(outputs, expected, rtol=TOLERANCE, atol=TOLERANCE)
    gradients = list(lstm_gradients(x[:, read], weights, NAMES, np.float64(upstream), valid, h, c))
    gradients[0] = gradients[0][:, read]
    gradients[3] = gradients[3] * bias  # without a bias nothing depends on it
    for name, ours, theirs in zip(["x", "kernel", "recurrent", "bias", "h", "c"], found, gradients, strict=True):
        scale = max(1.0, float(np.abs(theirs).max()))
        ours = ops.convert_to_numpy(ours)
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.sample(1, elsewhere=0)
def test_padding_holds_both_states(library):
    """To the last bit: a gate that does not close lets a state leak away step by step."""
    _, *rest = arrays()
    steps = 300 if library == "GPU" else STEPS
    x = np.random.default_rng(2).normal(size=(BATCH, steps, CHANNELS)).astype("float32")
    mask = np.zeros((BATCH, steps), bool)
    mask[2:, 3:6] = True
    x[~mask] = np.nan  # what stands there must not matter
    tensors = [ops.convert_to_tensor(value) for value in (x, *rest)]
    outputs, h, c = (ops.convert_to_numpy(tensor) for tensor in run(tensors, mask))
    np.testing.assert_array_equal(h[:2], rest[-2][:2])
    np.testing.assert_array_equal(c[:2], rest[-1][:2])
    np.testing.assert_array_equal(outputs[:2], 0)
    np.testing.assert_array_equal(outputs[2:], h[2:])

    def loss(tensors):
        _, h, c = run(tensors, mask)
        return ops.sum(h * 2 - c)

    _, gradients = value_and_gradients(loss, tensors)
    d_x, *_, d_h, d_c = (ops.convert_to_numpy(gradient) for gradient in gradients)
    assert all(np.isfinite(ops.convert_to_numpy(gradient)).all() for gradient in gradients)
    np.testing.assert_array_equal(d_x[~mask], 0)
    assert np.all(d_x[mask] != 0)
    np.testing.assert_array_equal(d_h[:2], 2)
    np.testing.assert_array_equal(d_c[:2], -1)


def test_every_gate_has_its_own_dropout_of_the_inputs(library):
    """Factors that are the same in all rows are those of the kernel's columns."""
    tensors = [ops.convert_to_tensor(value) for value in arrays()]
    factors = np.random.default_rng(4).integers(0, 3, size=(4, CHANNELS)).astype("float32")
    dropout = np.ones((4, BATCH, CHANNELS + UNITS), "float32")
    dropout[:, :, :CHANNELS] = factors[:, None]
    x, kernel, *rest = tensors
    scaled = kernel * ops.convert_to_tensor(factors.T.repeat(UNITS, axis=1))
    expected = run([x, scaled, *rest], MASKS["holes"], return_sequences=True)
    found = run(tensors, MASKS["holes"], dropout=ops.convert_to_tensor(dropout), return_sequences=True)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), atol=TOLERANCE)


# === Against the reference, as a layer ===


def pair(shape=(BATCH, STEPS, CHANNELS), **arguments):
    layers = [LSTM(UNITS, engine=engine, **arguments) for engine in ("reference", "cudnn")]
    for layer in layers:
        layer.build(shape)
    layers[1].set_weights(layers[0].get_weights())
    return layers


def loss_and_gradients(layer, x, states, mask):
    """A loss that weighs every entry of every output, and its gradients."""

    def loss(tensors):
        x, h, c, *weights = tensors
        rest = [variable.value for variable in layer.non_trainable_variables]
        outputs, _ = layer.stateless_call(weights, rest, x, initial_state=[h, c], mask=mask)
        rng = np.random.default_rng(3)
        return sum(weighed(o, rng.normal(size=o.shape).astype("float32")) for o in keras.tree.flatten(outputs))

    tensors = [ops.convert_to_tensor(value) for value in (x, *states)]
    value, gradients = value_and_gradients(loss, [*tensors, *(v.value for v in layer.trainable_variables)])
    return [ops.convert_to_numpy(tensor) for tensor in (value, *gradients)]


def agree(layers, mask):
    x, *_, h, c = arrays()
    mask = None if mask is None else ops.convert_to_tensor(mask)
    results = [loss_and_gradients(layer, x, [h, c], mask) for layer in layers]
    for theirs, ours in zip(*results, strict=True):
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("mask", "arguments"),
    [
        ("none", {"go_backwards": True, "use_bias": False}),
        ("right", {"zero_output_for_mask": True}),
        ("left", {}),
        # An output before the first valid step is 0, which Keras's loop on JAX gives with zero_output_for_mask only.
        ("holes", {"return_sequences": True, "zero_output_for_mask": True, "go_backwards": True}),
    ],
)
@pytest.mark.sample(4, elsewhere=1)
def test_every_output_and_gradient_of_a_layer(library, mask, arguments):
    agree(pair(return_state=True, **arguments), MASKS[mask])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(library, policy):
    layers = pair(dtype=policy, return_sequences=True)
    exact = LSTM(UNITS, engine="reference", return_sequences=True, dtype="float32")
    exact.build((BATCH, STEPS, CHANNELS))
    exact.set_weights(layers[0].get_weights())
    x, *_, h, c = arrays()
    mask = ops.convert_to_tensor(MASKS["holes"])
    ours = layers[1](x, mask=mask, initial_state=[h, c])
    assert keras.backend.standardize_dtype(ours.dtype) == policy.removeprefix("mixed_")
    # a dozen roundings to 8 or 11 bits, of values around 1
    tolerance = 3e-2 if "bfloat16" in policy else 4e-3
    found = ops.convert_to_numpy(ops.cast(ours, "float32"))
    theirs = ops.convert_to_numpy(exact(x, mask=mask, initial_state=[h, c]))
    np.testing.assert_allclose(found, theirs, atol=tolerance)


@pytest.mark.parametrize("library", ["GPU"], indirect=True)  # seconds of compilation, and nothing new without a GPU
def test_trains_as_the_reference_does(library):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, STEPS, CHANNELS)).astype("float32"), rng.normal(size=(16, 2)).astype("float32")
    x[:, 6:] = 0
    weights = []
    for engine in ("reference", "cudnn"):
        keras.utils.set_random_seed(0)
        inner = keras.layers.Bidirectional(LSTM(UNITS, engine=engine))
        model = keras.Sequential([keras.Input((None, CHANNELS)), keras.layers.Masking(), inner, keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=BACKEND == "jax")
        model.fit(x, y, epochs=2, batch_size=8, verbose=0, shuffle=False)
        weights.append(model.get_weights())
    for theirs, ours in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)  # four small steps in float32


def test_shapes_are_known_before_the_sizes_are(faked):
    class Around(keras.layers.Layer):  # one that says no shape, so that Keras traces it with sizes left open
        def __init__(self):
            super().__init__()
            self.lstm = LSTM(UNITS, engine="cudnn", return_sequences=True)

        def call(self, x):
            return self.lstm(x)

    layer = Around()
    layer.lstm.build((None, None, CHANNELS))
    assert layer(keras.Input((None, CHANNELS))).shape == (None, None, UNITS)


# === The layout of the weights ===


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch takes the weights by name, not by place")
def test_weights_lie_where_keras_puts_them(faked, monkeypatch):
    module = sys.modules[f"keras.src.backend.{BACKEND}.rnn"]
    monkeypatch.setattr(module, "_is_gpu_available", lambda: True)
    values = [ops.convert_to_tensor(value) for value in arrays()]
    x, kernel, recurrent_kernel, bias, h, c = values
    found = []
    for call in (
        lambda: run(values, None),
        lambda: module.lstm(
            x, h, c, None, kernel, recurrent_kernel, bias, keras.activations.tanh, keras.activations.sigmoid
        ),
    ):
        call()
        arguments, named = faked.arguments
        weights = np.asarray(named["params"] if BACKEND == "tensorflow" else arguments[3])
        matrices, biases = np.split(weights, [4 * UNITS * (CHANNELS + UNITS)])
        found.append([matrices, biases.reshape(2, -1).sum(0)])  # which of the two biases is zero is free
    assert faked.calls == 2
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's operation")
def test_the_operation_takes_what_it_is_handed():
    """The one that the stand-in stands for: a graph can be made of it on a machine that cannot run it."""
    import tensorflow as tf

    x, h, weights = ([None, None, CHANNELS], [None, UNITS], [4 * UNITS * (CHANNELS + UNITS + 2)])

    @tf.function(input_signature=[tf.TensorSpec(shape) for shape in (x, h, h, weights)])
    def call(*tensors):
        outputs = cudnn._on_tensorflow(*tensors)
        return outputs, tf.gradients(outputs, tensors)

    outputs, gradients = call.get_concrete_function().structured_outputs
    assert [tensor.shape.as_list() for tensor in outputs] == [[None, None, UNITS], h, h]
    assert [tensor.shape.as_list() for tensor in gradients] == [x, h, h, weights]


# === What is chosen and what is refused ===


def test_without_a_gpu_it_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    with pytest.raises(ValueError, match=r"engine='cudnn' cannot run this layer here: it needs a GPU, and Keras's"):
        LSTM(2, engine="cudnn")
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    monkeypatch.setattr(cudnn, "has_library", lambda: False)
    with pytest.raises(ValueError, match="built without cuDNN"):
        LSTM(2, engine="cudnn")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"forget_gate_activation": "hard_sigmoid"}, "its forget_gate is 'hard_sigmoid', and cuDNN's is 'sigmoid'"),
        ({"hidden_activation": "relu"}, "its hidden is 'relu', and cuDNN's is 'tanh'"),
        ({"candidate_activation": keras.layers.LeakyReLU(0.1)}, "its candidate is .* and cuDNN's is 'tanh'"),
        ({"cell_clip": 3.0}, r"cell_clip=3\.0"),
        ({"recurrent_dropout": 0.2}, r"recurrent_dropout=0\.2"),
    ],
)
def test_what_it_cannot_run_is_refused_and_left_to_another(faked, arguments, reason):
    with pytest.raises(ValueError, match=rf"engine='cudnn' cannot run this layer here: .*{reason}"):
        LSTM(2, engine="cudnn", **arguments)
    assert LSTM(2, **arguments).resolved_engine != "cudnn"


def test_auto_takes_it_on_a_gpu_however_its_activations_were_given(faked):
    given = {"activation": keras.activations.tanh, "recurrent_activation": "sigmoid", "hidden_activation": "tanh"}
    for layer in (LSTM(2), LSTM(2, **given), LSTM(2, dtype="mixed_bfloat16", dropout=0.5, unroll=True)):
        assert layer.resolved_engine == "cudnn"
    LSTM(UNITS)(arrays()[0])
    assert faked.calls == 1


def test_use_cudnn_means_the_engine(faked):
    layer = LSTM(2, use_cudnn=True)
    assert layer.resolved_engine == "cudnn"
    assert layer.supports_jit == (BACKEND != "tensorflow")
    assert LSTM(2, use_cudnn=False).resolved_engine != "cudnn"
    with pytest.raises(ValueError, match="engine='cudnn' cannot run this layer here: it has use_cudnn=False"):
        LSTM(2, use_cudnn=False, engine="cudnn")
    with pytest.raises(ValueError, match="use_cudnn=True means engine='cudnn', received engine='reference'"):
        LSTM(2, use_cudnn=True, engine="reference")


def test_float64_is_left_to_another_on_jax_alone(faked):
    assert (LSTM(2, dtype="float64").resolved_engine == "cudnn") == (BACKEND != "jax")


@pytest.mark.sample(1, elsewhere=0)
def test_a_saved_model_loads_where_there_is_no_gpu(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        stand_in(patch)
        model = keras.Sequential([keras.Input((STEPS, CHANNELS)), LSTM(UNITS, engine="cudnn")])
        answer = ops.convert_to_numpy(model(arrays()[0]))
        model.save(tmp_path / "model.keras")
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    with pytest.warns(UserWarning, match="it needs a GPU.*Falling back to engine='auto'"):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(ops.convert_to_numpy(loaded(arrays()[0])), answer, atol=1e-6)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch writes no SavedModel")
@pytest.mark.filterwarnings("ignore:The `native_serialization` parameter:DeprecationWarning")  # Keras passes it to JAX
def test_never_enters_an_exported_graph(faked, tmp_path):
    tf = pytest.importorskip("tensorflow")
    model = keras.Sequential([keras.Input((STEPS, CHANNELS)), LSTM(UNITS, engine="cudnn")])
    x = arrays()[0]
    answer = ops.convert_to_numpy(model(x))
    before = faked.calls
    signature = [keras.InputSpec(shape=x.shape, dtype="float32")]
    model.export(str(tmp_path / "model"), verbose=False, input_signature=signature)
    assert faked.calls == before > 0
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(loaded.serve(x), answer, atol=1e-6)
