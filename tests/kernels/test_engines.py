"""Every row of ENGINES against the equations, and what a new row takes: the row, and nothing else anywhere."""

import dataclasses

import keras
import numpy as np
import pytest
from gradients import outputs_and_gradients
from oracles import ORACLE, lstm, lstm_gradients

from zoo import kernels
from zoo.activations import get
from zoo.cli.doctor import examine
from zoo.kernels import loop
from zoo.kernels.contract import Engine, LayerSpec
from zoo.layers import LSTM
from zoo.types import Gates

pytestmark = pytest.mark.any_backend

STANDARD = Gates("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh")
OTHERS = Gates("hard_sigmoid", "sigmoid", "elliott", "softsign", "leaky_relu")
ROWS = kernels.ENGINES
BATCH, STEPS, CHANNELS, UNITS = 3, 9, 3, 4
MASK = np.array([[1] * 6 + [0] * 3, [0, 1, 1, 0, 1, 1, 1, 0, 1], [0] * STEPS], bool)


def conforms(name, activations=STANDARD, backwards=False):
    """Compare outputs, states and gradients of an engine with the equations in NumPy."""
    rng = np.random.default_rng(0)
    x = np.where(MASK[:, :, None], rng.normal(size=(BATCH, STEPS, CHANNELS)), 9.0)
    shapes = (CHANNELS, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,)
    weights = [rng.normal(size=shape) * 0.5 for shape in shapes]
    h, c, upstream = (rng.normal(size=shape) for shape in ((BATCH, UNITS), (BATCH, UNITS), (BATCH, STEPS, UNITS)))
    read = slice(None, None, -1) if backwards else slice(None)
    mask = MASK[:, read]
    compared = np.ones_like(mask)
    if name == "reference" and keras.backend.backend() == "jax":  # Keras's loop puts out h before the first valid step
        compared = mask.cumsum(axis=1) > 0
        upstream = np.where(compared[:, :, None], upstream, 0.0)
    arguments = {f"{gate}_activation": chosen for gate, chosen in activations._asdict().items()}
    layer = LSTM(UNITS, engine=name, return_sequences=True, go_backwards=backwards, **arguments)
    layer.build((None, None, CHANNELS))
    layer.set_weights(weights)
    [outputs], found = outputs_and_gradients(
        lambda x, h, c: layer(x, initial_state=[h, c], mask=keras.ops.convert_to_tensor(MASK)),
        [array.astype("float32") for array in (x, h, c)],
        layer.trainable_variables,
        lambda _, shape: upstream,
    )
    functions = [ORACLE[chosen] for chosen in activations]
    hidden = lstm(x[:, read], *weights, functions, mask, h, c)
    np.testing.assert_allclose(outputs[compared], hidden[compared], rtol=0, atol=1e-5)
    d_x, d_kernel, d_recurrent, d_bias, d_h, d_c = lstm_gradients(
        x[:, read], weights, activations, upstream, mask, h, c
    )
    expected = [d_x[:, read], d_h, d_c, d_kernel, d_recurrent, d_bias]
    for ours, theirs in zip(found, expected, strict=True):  # float32 sums of some dozens of terms about one
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("activations", [STANDARD, OTHERS], ids=["standard", "others"])
@pytest.mark.parametrize("name", kernels.ENGINES)
def test_every_engine_computes_the_equations(name, activations, backwards):
    if kernels.ENGINES[name].refusal(LayerSpec(Gates(*map(get, activations)), units=UNITS)):
        with pytest.raises(kernels.EngineUnavailable, match="cannot run this layer here"):
            conforms(name, activations)
    else:
        conforms(name, activations, backwards)


# === A new engine is one row ===


def dummy(operands, options):
    return loop.plain_lstm(operands, options)


@pytest.fixture
def with_dummy(monkeypatch):
    """Puts a row before all others."""

    def put(**fields):
        row = Engine("the plain recurrence", dummy, **{"auto_on_cpu": (keras.backend.backend(),), **fields})
        monkeypatch.setattr(kernels, "ENGINES", {"dummy": row, **ROWS})

    return put


def test_a_new_engine_is_found(with_dummy):
    with_dummy(detail=lambda: "as it is")
    conforms("dummy", OTHERS)
    assert LSTM(2).resolved_engine == "dummy"
    assert LSTM.from_config(LSTM(2, engine="dummy").get_config()).engine == "dummy"
    assert examine()["engines"]["dummy"] == {
        "summary": "the plain recurrence",
        "problem": None,
        "detail": "as it is",
    }


def test_a_new_engine_that_is_wrong_is_found_out(with_dummy, monkeypatch):
    with_dummy()
    row = kernels.ENGINES["dummy"]
    wrong = dataclasses.replace(row, run=lambda *call: tuple(1.01 * tensor for tensor in dummy(*call)))
    monkeypatch.setitem(kernels.ENGINES, "dummy", wrong)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        conforms("dummy")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"backends": ("none",)}, "it runs on Keras's none backend, and this is"),
        ({"missing": lambda: "its file has gone"}, "its file has gone"),
        ({"refuses": lambda spec: f"it has {spec.units} units"}, "it has 2 units"),
    ],
)
def test_what_a_row_says_keeps_it_from_running(with_dummy, monkeypatch, fields, reason):
    monkeypatch.setitem(kernels.contract.BACKENDS, "none", "none")
    with_dummy(**fields)
    assert LSTM(2).resolved_engine != "dummy"
    with pytest.raises(kernels.EngineUnavailable, match=f"engine='dummy' cannot run this layer here: {reason}"):
        LSTM(2, engine="dummy")
    with pytest.warns(UserWarning, match="Falling back to engine='auto'"):
        LSTM.from_config({**LSTM(2).get_config(), "engine": "dummy"})


def test_a_row_says_whether_xla_compiles_it(with_dummy):
    with_dummy(not_for_xla_on=(keras.backend.backend(),))
    assert not LSTM(2).supports_jit
    assert not LSTM(2, engine="dummy").supports_jit
    with_dummy()
    assert LSTM(2).supports_jit
