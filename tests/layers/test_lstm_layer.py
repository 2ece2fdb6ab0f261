"""What `zoo.layers.LSTM` promises beyond Keras: activations that survive everything, errors, engines."""

import functools
import logging

import keras
import numpy as np
import pytest
from keras import ops
from tiers import few

from zoo.activations import ACTIVATIONS, bind
from zoo.layers import LSTM, LSTMCell
from zoo.layers._gated_cell import GATES

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("each_engine")]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 7, 3)).astype("float32")
MASK = np.arange(7) < np.array([[7], [3], [1], [0], [5], [7]])

SPECIAL = {
    "parametrised": {"activation": "leaky_relu(0.33)"},
    "learnable": {"activation": "prelu", "input_gate_activation": "prelu(0.1)"},
    "random": {"activation": "rrelu"},
    "keras layer": {"activation": keras.layers.LeakyReLU(0.1)},
    "keras layer that learns": {"candidate_activation": keras.layers.PReLU()},
    "five different": {
        "input_gate_activation": "hard_sigmoid",
        "forget_gate_activation": "elliott",
        "candidate_activation": "relu6",
        "output_gate_activation": "softmax",
        "hidden_activation": "linear",
    },
}


def model_of(wrap=lambda layer: layer, **arguments):
    features, mask = keras.Input((None, 3)), keras.Input((None,), dtype="bool")
    return keras.Model([features, mask], wrap(LSTM(5, **arguments))(features, mask=mask))


def answers(model):
    return ops.convert_to_numpy(model([X, MASK]))


def nudge(model):
    """Weights that no initialiser would give, so that a weight that was not restored shows."""
    model.set_weights([w + RNG.normal(size=w.shape).astype("f") * 0.1 for w in model.get_weights()])
    return model


@pytest.mark.parametrize("arguments", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize(
    "wrap", few({"plain": lambda layer: layer, "both ways": keras.layers.Bidirectional}, ["plain"])
)
@pytest.mark.sample(5)
def test_survives_saving_weights_and_cloning(arguments, wrap, tmp_path):
    model = nudge(model_of(wrap, **arguments))
    expected = answers(model)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(answers(keras.models.load_model(tmp_path / "m.keras")), expected)
    model.save_weights(tmp_path / "m.weights.h5")
    never_called = model_of(wrap, **arguments)
    never_called.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(answers(never_called), expected)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(answers(clone), expected)


@pytest.mark.parametrize("name", few(list(ACTIVATIONS), list(ACTIVATIONS)[::5]))
@pytest.mark.sample(6)
def test_every_activation_in_every_gate_comes_back(name, tmp_path):
    gates = {f"{gate}_activation": name for gate in GATES}
    for given in ({gate: chosen} for gate, chosen in gates.items()):
        config = LSTM(2, **given).get_config()
        assert LSTM.from_config(config).get_config() == config
        assert {key: config[key] for key in gates} == dict.fromkeys(gates) | given
    model = nudge(keras.Sequential([keras.Input((3, 3)), LSTM(4, **gates)]))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.layers[0].gate_activations == model.layers[0].gate_activations
    x = ops.convert_to_tensor(X[:, :3])
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)))


def test_weights_of_learnable_activations_are_one_set_per_gate_from_build():
    layer = LSTM(5, activation="prelu", forget_gate_activation="prelu(0.5)")
    layer.build((None, None, 3))
    assert [w.name for w in layer.weights[3:]] == ["forget_gate_slope", "candidate_slope", "hidden_slope"]
    np.testing.assert_array_equal(layer.get_weights()[3], np.full(5, 0.5, "f"))
    assert LSTM(5, activation=keras.layers.PReLU()).get_config()["activation"]["class_name"] == "PReLU"


@pytest.mark.sample(1)
def test_learnable_slopes_learn():
    model = keras.Sequential([keras.Input((7, 3)), LSTM(5, activation="prelu"), keras.layers.Dense(1)])
    before = [w.copy() for w in model.get_weights()]
    model.compile("adam", "mse")
    model.fit(X, X.sum((1, 2)), epochs=2, verbose=0)
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(moved)


def test_random_slopes_are_drawn_once_a_sequence_and_only_in_training():
    # With linear gates wide open, a negative input and no recurrence, c_t = slope * x * t: equal increments show
    # that the slope is the same at every step, different rows that each sequence has its own.
    layer = LSTM(
        4,
        candidate_activation="rrelu(0.1, 0.9)",
        recurrent_activation="hard_sigmoid",
        hidden_activation="linear",
        return_sequences=True,
        recurrent_initializer="zeros",
        kernel_initializer=lambda shape, dtype=None: ops.concatenate(
            [ops.zeros((1, 8)), ops.ones((1, 4)), ops.zeros((1, 4))], axis=1
        ),
        bias_initializer=lambda shape, dtype=None: ops.zeros(shape),
        unit_forget_bias=False,
        seed=1,
    )
    x = -np.ones((3, 5, 1), "float32")
    layer.build(x.shape)
    bias = np.zeros(16, "f")
    bias[:8], bias[12:] = 10, 10
    layer.set_weights([*layer.get_weights()[:2], bias])
    drawn = ops.convert_to_numpy(layer(x, training=True))
    steps = np.diff(drawn, axis=1)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1], steps.shape), atol=1e-5)  # float32 sums to 5
    slopes = -drawn[:, 0]
    assert len(np.unique(slopes.round(5))) == slopes.size
    assert slopes.min() >= 0.1
    assert slopes.max() <= 0.9
    assert not np.allclose(ops.convert_to_numpy(layer(x, training=True)), drawn)
    after = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(after[:, 0], -0.5, atol=1e-6)  # the mean of 0.1 and 0.9
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), after)


def test_random_slopes_work_in_a_bare_cell_and_in_keras_rnn():
    rnn = keras.layers.RNN([LSTMCell(4, activation="rrelu"), LSTMCell(2)], return_sequences=True)
    assert tuple(rnn(X, training=True).shape) == (6, 7, 2)


def test_inference_does_not_move_the_seed():
    layer = LSTM(4, activation="rrelu", dropout=0.2, recurrent_dropout=0.2, seed=1)
    layer(X, training=True)
    state = ops.convert_to_numpy(layer.cell.seed_generator.state.value).copy()
    layer(X)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.cell.seed_generator.state.value), state)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("output", ["sigmoid", keras.layers.PReLU(), keras.layers.LeakyReLU(0.1)], ids=str)
def test_mixed_precision(policy, output):
    layer = LSTM(4, activation="prelu", candidate_activation="rrelu", output_gate_activation=output, dtype=policy)
    out = layer(X, training=True)
    assert keras.backend.standardize_dtype(out.dtype) == policy.removeprefix("mixed_")
    assert all(w.dtype == "float32" for w in layer.trainable_weights)


def test_padding_and_truncation_give_the_same():
    layer = LSTM(5, activation="relu")
    whole = ops.convert_to_numpy(layer(X, mask=ops.convert_to_tensor(MASK)))
    for row, length in enumerate(MASK.sum(1)):
        if length:
            alone = ops.convert_to_numpy(layer(X[row : row + 1, :length]))
            np.testing.assert_allclose(whole[row], alone[0], atol=1e-6)  # another batch size, another matmul
        else:
            np.testing.assert_array_equal(whole[row], 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "positive integer"),
        ({"units": 2.5}, "positive integer"),
        ({"units": True}, "positive integer"),
        ({"units": 2, "dropout": -0.5}, r"`dropout` .* \[0, 1\); received -0.5"),
        ({"units": 2, "dropout": 1.0}, r"`dropout` .* received 1.0"),
        ({"units": 2, "recurrent_dropout": 1.5}, r"`recurrent_dropout`"),
        ({"units": 2, "activation": "reul"}, "did you mean 'relu'"),
        ({"units": 2, "forget_gate_activation": lambda x: x}, "register_keras_serializable"),
        ({"units": 2, "activation": functools.partial(ops.relu)}, "cannot be saved"),
        ({"units": 2, "engine": "natve"}, "unknown engine 'natve'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LSTM(**arguments)(X)


def test_the_engine_is_logged_once_and_kept(caplog):
    layer = LSTM(4, engine="reference", name="mine")
    with caplog.at_level(logging.INFO, "zoo.layers.lstm"):
        layer(X)
        layer(X)
    assert [record.message for record in caplog.records] == ["mine: engine reference (requested: reference)"]
    assert keras.layers.Bidirectional(layer).forward_layer.engine == "reference"
    assert LSTM.from_config(layer.get_config()).engine == "reference"


def test_gate_activations_can_be_asked():
    layer = LSTM(2, activation="relu", hidden_activation="linear")
    assert layer.gate_activations["candidate"] == bind("relu")
    assert layer.gate_activations["hidden"] == bind("linear")
    assert layer.gate_activations["forget_gate"] == bind("sigmoid")
    assert layer.get_config()["candidate_activation"] is None
