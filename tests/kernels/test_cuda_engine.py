"""The CUDA engine against the equations in NumPy and float64: on a GPU where there is one, else emulated."""

import keras
import ml_dtypes
import numpy as np
import pytest
from cuda_emulation import install
from gradients import outputs_and_gradients
from keras import ops
from oracles import ORACLE, SLOPES, lstm, lstm_gradients

from zoo import kernels
from zoo.kernels import ENGINES
from zoo.kernels.native.build import BuildError, find_compiler
from zoo.layers import LSTM
from zoo.layers._gated_cell import GATES

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
BATCH, STEPS, CHANNELS, UNITS = 11, 6, 3, 20
STANDARD = ("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh")
# What the recurrent product multiplies is rounded to HALF[dtype]; the oracle does so too, and all that goes in is on
# that grid. What is left is float32, now and then a tie that is rounded the other way, and the rounding of the
# gradient, 2^-12 of each element (bfloat16: 2^-9); outputs in half precision are themselves rounded.
HALF = {"float32": np.float16, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
BOUND = {"float32": (1e-4, 5e-4), "float16": (1e-3, 2e-3), "bfloat16": (1e-2, 1e-2)}  # of outputs, of gradients
once = pytest.mark.skipif(
    BACKEND == "jax", reason="the kernels are checked on torch, which compiles nothing around them"
)
MASKS = {
    "right": np.arange(STEPS) < np.array([6, 4, 1, 5, 2, 6, 3, 3, 6, 1, 2])[:, None],
    "left": np.arange(STEPS) >= np.array([0, 4, 5, 2, 5, 0, 0, 3, 1, 1, 2])[:, None],
    "holes": np.random.default_rng(1).random((BATCH, STEPS)) < 0.6,
    "empty rows": np.arange(STEPS) < np.array([6, 0, 3, 0, 6, 6, 0, 0, 0, 0, 6])[:, None],
}


@pytest.fixture(scope="module")
def emulator_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("emulator")


@pytest.fixture(autouse=True)
def engine(monkeypatch, emulator_folder):
    if BACKEND == "tensorflow":
        pytest.skip("the engine runs on JAX and torch")
    if ENGINES["cuda"].unavailable() is None:
        return
    try:
        find_compiler()
    except BuildError as error:
        pytest.skip(f"no GPU, and the emulator cannot be built: {error}")
    install(monkeypatch, emulator_folder)


def names_with(gate, activation):
    return tuple(activation if g == gate else name for g, name in zip(GATES, STANDARD, strict=True))


def on_grid(values, dtype="float32"):
    return values.astype(HALF[dtype]).astype("float64")


def layer_with(names, units=UNITS, channels=CHANNELS, scale=0.3, **arguments):
    chosen = {f"{gate}_activation": name for gate, name in zip(GATES, names, strict=True)}
    layer = LSTM(units, engine="cuda", return_sequences=True, **{**chosen, **arguments})
    layer.build((None, None, channels))
    rng = np.random.default_rng(5)
    for weight in layer.weights[:3]:
        weight.assign(on_grid(rng.normal(size=weight.shape) * scale, layer.compute_dtype))
    return layer


def run(layer, x, states, upstream, mask=None, training=True):
    """Outputs of a layer, and the gradients of sum(outputs * upstream): of x, weights, h and c, and of slopes."""
    mask = None if mask is None else ops.convert_to_tensor(mask)

    def call(x, h, c):
        return ops.cast(layer(x, initial_state=[h, c], mask=mask, training=training), "float32")

    inputs = [np.asarray(array, "float32") for array in (x, *states)]
    variables = layer.trainable_variables
    [outputs], gradients = outputs_and_gradients(call, inputs, variables, lambda *_: np.asarray(upstream, "float32"))
    d_x, d_h, d_c, *d_weights = gradients
    return outputs, [d_x, *d_weights[:3], d_h, d_c], d_weights[3:]


def _numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def compare(layer, names, shape, mask=None, cell_clip=None, magnitude=1.0, training=True, last=False):
    rng = np.random.default_rng(0)
    units, half = layer.units, layer.compute_dtype
    of_outputs, of_gradients = BOUND[half]
    x, h, c = (on_grid(rng.normal(size=s), half) for s in (shape, (shape[0], units), (shape[0], units)))
    upstream = on_grid(rng.normal(size=(*shape[:2], units)), half) * magnitude
    if last:
        upstream[:, :-1] = 0
    given = x if mask is None else np.where(mask[..., None], x, np.nan)
    outputs, gradients, _ = run(layer, given, (h, c), upstream, mask, training)
    weights = [np.float64(_numpy(w.value)) for w in layer.weights[:3]]
    mask = np.ones(shape[:2], bool) if mask is None else mask
    options = {"mask": mask, "h": h, "c": c, "cell_clip": cell_clip, "multiplied": lambda h: on_grid(h, half)}
    assert_close(outputs, lstm(x, *weights, [ORACLE[n] for n in names], **options), of_outputs, "outputs")
    oracle = lstm_gradients(x, weights, names, upstream, **options)
    for name, ours, theirs in zip(["x", "kernel", "recurrent", "bias", "h", "c"], gradients, oracle, strict=True):
        assert_close(ours, theirs, of_gradients, f"{name}, activations {names}")


def assert_close(ours, theirs, bound, name):
    """Within `bound` of the largest element."""
    scale = np.abs(theirs).max() or 1.0
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=bound, err_msg=name)


# === Activations ===


@once
@pytest.mark.parametrize("gate", GATES)
def test_every_activation_in_every_gate(gate):
    for activation in sorted(SLOPES):
        names = names_with(gate, activation)
        layer = layer_with(names)
        compare(layer, names, (BATCH, STEPS, CHANNELS))


def test_has_every_elementwise_deterministic_activation():
    from zoo.activations import ACTIVATIONS
    from zoo.kernels.cuda.variant import names

    assert set(names()) == {name for name, row in ACTIVATIONS.items() if row.elementwise and not row.random}


@once
@pytest.mark.parametrize("activation", ["prelu", "parametric_swish"])
def test_the_gradient_of_what_every_gate_learns(activation):
    layer = layer_with((activation,) * 5, units=5)
    rng = np.random.default_rng(3)
    x, h, c = (rng.normal(size=s) * 0.5 for s in ((BATCH, 3, CHANNELS), (BATCH, 5), (BATCH, 5)))
    upstream = rng.normal(size=(BATCH, 3, 5))
    _, _, found = run(layer, x, (h, c), upstream)
    weights = [np.float64(_numpy(w.value)) for w in layer.weights[:3]]
    functions = {
        "prelu": lambda p: lambda z: np.where(z > 0, z, p * z),
        "parametric_swish": lambda p: lambda z: z / (1 + np.exp(-p * z)),
    }[activation]
    start = dict(layer.gate_activations["candidate"].parameters).popitem()[1]
    for gate in range(5):
        numerical = np.zeros(5)
        for unit in range(5):  # central differences of the float64 oracle
            values = []
            for step in (1e-5, -1e-5):
                slopes = np.full((5, 5), start)
                slopes[gate, unit] += step
                outputs = lstm(x, *weights, [functions(row) for row in slopes], h=h, c=c)
                values.append((outputs * upstream).sum())
            numerical[unit] = (values[0] - values[1]) / 2e-5
        assert_close(found[gate], numerical, 2e-3, GATES[gate])  # the oracle rounds nothing here


# === Shapes, masks, options ===


@once
@pytest.mark.parametrize(("batch", "steps", "units"), [(1, 1, 1), (1, 7, 32), (8, 2, 33), (17, 3, 64), (3, 4, 128)])
def test_odd_sizes(batch, steps, units):
    names = names_with("candidate", "relu")
    compare(layer_with(names, units=units, channels=2, scale=0.15), names, (batch, steps, 2))


@pytest.mark.parametrize(("mask", "training"), [*((mask, True) for mask in MASKS), ("holes", False)])
@pytest.mark.sample(5, elsewhere=1)
def test_every_mask(mask, training):
    compare(layer_with(STANDARD), STANDARD, (BATCH, STEPS, CHANNELS), MASKS[mask], training=training)


def test_cell_clip():
    names = names_with("candidate", "relu")
    layer = layer_with(names, cell_clip=0.3)
    compare(layer, names, (BATCH, STEPS, CHANNELS), MASKS["holes"], cell_clip=0.3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    compare(layer_with(STANDARD, dtype=f"mixed_{dtype}"), STANDARD, (BATCH, STEPS, CHANNELS))


@pytest.mark.parametrize(
    "options",
    [
        {"return_sequences": False},
        {"return_sequences": False, "zero_output_for_mask": True, "go_backwards": True},
        {"zero_output_for_mask": True, "go_backwards": True},
        {"return_sequences": False, "use_bias": False, "dropout": 0.5, "implementation": 1},
    ],
    ids=str,
)
@pytest.mark.sample(4, elsewhere=1)
def test_options_as_the_reference_has_them(options):
    layers = [LSTM(UNITS, engine=engine, return_state=True, seed=7, **options) for engine in ("reference", "cuda")]
    rng = np.random.default_rng(2)
    x = ops.convert_to_tensor(rng.normal(size=(BATCH, STEPS, CHANNELS)).astype("float32"))
    results = []
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights([w.numpy() if hasattr(w, "numpy") else np.asarray(w) for w in layers[0].get_weights()])
        results.append([_numpy(t) for t in layer(x, mask=ops.convert_to_tensor(MASKS["holes"]), training=True)])
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)  # 2^-12 of each state and weight, summed


def test_no_rows():
    assert tuple(layer_with(STANDARD)(ops.zeros((0, 4, CHANNELS))).shape) == (0, 4, UNITS)


# === Half precision never loses a gradient ===


@once
@pytest.mark.parametrize("magnitude", [1e-20, 1e20])
def test_a_loss_of_any_size(magnitude):
    compare(layer_with(STANDARD), STANDARD, (BATCH, STEPS, CHANNELS), MASKS["holes"], magnitude=magnitude)


@once
def test_a_gradient_that_passes_masked_steps_untouched():
    compare(layer_with(STANDARD), STANDARD, (BATCH, STEPS, CHANNELS), MASKS["right"], last=True)


@once
@pytest.mark.parametrize(("growth", "bound"), [(0.05, 1e-20), (30.0, 1e20)])
def test_a_gradient_that_vanishes_or_explodes_beyond_half_precision(growth, bound):
    """The gradient of h before the first step, 24 steps before what makes it: h U goes around with factor `growth`."""
    names = ("linear", "linear", "linear", "linear", "linear")
    layer = layer_with(names, units=4)
    kernel, recurrent, bias = (np.zeros(w.shape, "float32") for w in layer.weights[:3])
    bias[0:4] = bias[12:16] = 1.0  # i = o = 1, f = 0: h' = g = growth * h
    recurrent[:, 8:12] = growth * np.eye(4)
    for weight, value in zip(layer.weights[:3], (kernel, recurrent, bias), strict=True):
        weight.assign(value)
    steps = 24
    upstream = np.zeros((2, steps, 4))
    upstream[:, -1] = [1.0, -2.0, 3.0, 0.5]
    small = 1e-30 if growth > 1 else 1.0  # what goes forward must stay finite too
    _, gradients, _ = run(layer, np.zeros((2, steps, CHANNELS)), [np.full((2, 4), small)] * 2, upstream)
    expected = growth**steps * upstream[:, -1]
    assert (np.abs(expected).max() > bound) == (growth > 1)
    np.testing.assert_allclose(gradients[4], expected, rtol=0.02)  # 24 roundings of 2^-12 each, times growth's own


# === As an engine ===


def test_refuses_what_it_cannot_run():
    for arguments, reason in (
        ({"units": 129}, "129 units"),
        ({"units": 4, "activation": "softmax"}, "not elementwise"),
        ({"units": 4, "activation": "rrelu"}, "random"),
        ({"units": 4, "recurrent_dropout": 0.1}, "recurrent dropout"),
        ({"units": 4, "dtype": "float64"}, "float64"),
    ):
        with pytest.raises(ValueError, match=reason):
            LSTM(engine="cuda", **arguments)
    assert kernels.resolve("cuda") == "cuda"


@pytest.mark.sample(1, elsewhere=0)
def test_a_model_trains_as_with_the_reference():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, STEPS, CHANNELS)).astype("float32")
    y = (x.sum((1, 2)) > 0).astype("float32")
    losses = {}
    for engine in ("reference", "cuda"):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((STEPS, CHANNELS)), keras.layers.Bidirectional(LSTM(8, engine=engine))]
        model = keras.Sequential([*layers, keras.layers.Dense(1, activation="sigmoid")])
        model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
        losses[engine] = model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(losses["cuda"], losses["reference"], rtol=1e-3)  # six updates on rounded gradients
