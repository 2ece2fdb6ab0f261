"""Second derivatives, Hessians, Jacobians, forward mode, `vmap`, exported gradients: right, by every engine."""

import derivatives
import keras
import numpy as np
import pytest
from derivative_problem import OTHERS, Problem
from derivatives import COLUMNS, ENGINES, KERAS, STOOD_IN_FOR, made, outcome
from derivatives_of_layers import BACKEND, nested, of_layer
from gradients import float64
from keras import ops

from zoo import kernels
from zoo.kernels.native.build import BuildError, find_compiler
from zoo.layers import LSTM

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning"),  # what torch's own forward mode calls
]

FAST = "native" if BACKEND == "tensorflow" else "loop"
CALLED = [column for column in COLUMNS if column != "saved"]


@pytest.fixture(params=ENGINES[BACKEND][1:])
def engine(request):
    if request.param not in STOOD_IN_FOR and kernels.ENGINES[request.param].unavailable():
        pytest.skip(kernels.ENGINES[request.param].unavailable())
    if request.param == "cuda":
        try:
            find_compiler()
        except BuildError as error:
            pytest.skip(f"the emulator cannot be built: {error}")
    return request.param


# === The table ===


def on_the_page():
    head, _, *lines = derivatives.committed()
    assert head == "| backend | layer | " + " | ".join(COLUMNS.values()) + " |"
    return {tuple(line.strip("| ").split(" | ")[:2]): line.strip("| ").split(" | ")[2:] for line in lines}


def test_a_derivative_on_the_page_is_right_or_refused_where_keras_fails():
    cells = on_the_page()
    for (backend, _), row in cells.items():
        for ours, of_keras in zip(row, cells[backend, f"`{KERAS}`"], strict=True):
            assert ours == "right" or (of_keras == "fails" and ours in ("refused", "fails"))


@pytest.mark.slow  # a new engine may be missing there until a release
def test_the_page_has_a_cell_for_every_derivative_of_every_engine():
    names = [(b, f"`{e}`" if e == KERAS else f'`engine="{e}"`') for b, engines in ENGINES.items() for e in engines]
    assert list(on_the_page()) == names


@pytest.mark.slow
def test_every_derivative_is_right_and_the_page_says_so(engine):
    row = derivatives.row(engine)
    assert row in derivatives.committed() or row.partition("` |")[0] not in "".join(derivatives.committed())


@pytest.mark.slow
def test_the_page_says_what_keras_does():
    assert derivatives.row(KERAS) in derivatives.committed()


def test_a_gradient_of_a_gradient():
    assert outcome(FAST, "second") == "right"


@pytest.mark.skipif(
    BACKEND != "torch", reason="slow where it compiles or runs operation by operation: the table has it"
)
@pytest.mark.parametrize("column", ["hessian", "jacobian", "forward", "vmap"])
def test_what_a_first_gradient_alone_does_not_give(column):
    assert outcome(FAST, column) == "right"


@pytest.mark.slow
@pytest.mark.parametrize("column", CALLED)
@pytest.mark.parametrize("compiled", [False, True] if BACKEND == "tensorflow" else [BACKEND == "jax"])
def test_other_activations(column, compiled):
    assert outcome(FAST, column, OTHERS, compiled) in (
        "right",
        "fails",
    )  # as Keras's, which has no forward mode in a graph


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="the other backends have no graph beside this")
@pytest.mark.parametrize("column", CALLED)
def test_in_a_graph(engine, column):
    if (engine, column) == ("graph", "hessian"):
        pytest.skip("TensorFlow takes many minutes to vectorise the second gradient of several loops")
    # Keras's own layer has no forward mode there: where it fails, ours may.
    assert outcome(engine, column, compiled=True) in ("right", "fails")


@pytest.mark.skipif(
    BACKEND != "tensorflow" or kernels.ENGINES["native"].unavailable() is not None, reason="the native engine's own"
)
@pytest.mark.parametrize("request_name", ["tape.jacobian", "tape.batch_jacobian", "tf.vectorized_map"])
def test_a_vectorised_second_derivative_of_an_open_number_of_steps_is_refused_by_name(request_name):
    import tensorflow as tf

    layer = made("native", Problem(), "float32")

    def slopes(x):
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.reduce_sum(tf.sin(layer(x)))
        return inner.gradient(y, x)

    def of_row(row):
        with tf.GradientTape() as tape:
            tape.watch(row)
            y = tf.reduce_sum(slopes(row[None]) ** 2)
        return tape.gradient(y, row)

    @tf.function(input_signature=[tf.TensorSpec((2, None, 2))], autograph=False)
    def second(x):
        if request_name == "tf.vectorized_map":
            return tf.vectorized_map(of_row, x)
        with tf.GradientTape() as outer:
            outer.watch(x)
            found = slopes(x)
        return getattr(outer, request_name.removeprefix("tape."))(found, x)

    with pytest.raises(NotImplementedError, match=f'`{request_name}` vectorises.*engine="reference"'):
        second(tf.zeros((2, 3, 2)))


# === Whatever a layer is asked for ===

VARIANTS = {
    "last step": {"return_sequences": False},
    "backwards": {"go_backwards": True, "zero_output_for_mask": True},
    "no bias": {"use_bias": False},
    "clipped": {"cell_clip": 0.3},
    "learned": {"activation": "prelu(0.4)", "recurrent_activation": "parametric_swish"},
    "parameters": {"activation": "elu(0.7)", "output_gate_activation": "celu(0.6)"},
    "softsign": {"activation": "softsign", "recurrent_activation": "gelu"},
    "dropout": {"dropout": 0.4, "recurrent_dropout": 0.4, "seed": 3},
}


def second(engine, variant):
    """The gradients of a penalty on the gradient, of a layer in training."""
    problem = Problem()
    keras.utils.set_random_seed(0)
    with float64():
        layer = LSTM(2, engine=engine, dtype="float64", **{"return_sequences": True, **VARIANTS[variant]})
        layer.build((None, None, problem.x.shape[-1]))
        for number, weight in enumerate(layer.trainable_weights):
            weight.assign(ops.convert_to_numpy(weight) + np.random.default_rng(number).normal(size=weight.shape) * 0.5)
        found = of_layer(layer, problem, BACKEND == "jax", training=True).second()
        return [ops.convert_to_numpy(gradient) for gradient in found]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_second_derivatives_of_every_kind_of_layer(variant):
    # The reference computes parts in float32 on JAX and torch, and so do some of TensorFlow's own activations.
    atol = 1e-6 if BACKEND == "tensorflow" else 2e-5
    for ours, theirs in zip(second(FAST, variant), second("reference", variant), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol * max(1.0, float(np.abs(theirs).max())))


@pytest.mark.slow
def test_a_third_derivative():
    layers = [made(engine, Problem(), "float32") for engine in (FAST, "reference")]
    ours, theirs = (nested(lambda x, layer=layer: ops.sum(ops.sin(layer(x))), 2) for layer in layers)
    # float32, of numbers around 1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(1.0, float(np.abs(theirs).max())))
    assert np.abs(theirs).max() > 1e-2


def test_the_first_gradient_stays_that_of_the_engine(monkeypatch):
    if BACKEND == "tensorflow":
        import zoo.kernels.native.ops as complete
    else:
        import zoo.kernels.derivatives as complete

    monkeypatch.setattr(complete, "plain_lstm", lambda *_: pytest.fail("the price of the reference was paid"))
    assert outcome(FAST, "first") == "right"
    inputs = keras.Input((3, 2))
    model = keras.Model(inputs, LSTM(2, engine=FAST)(inputs))
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 3, 2), "float32"), np.ones((4, 2), "float32"), verbose=0)
