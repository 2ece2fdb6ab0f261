"""The surface of `keras.layers.LSTM`: arguments, attributes, and what people do with a recurrent layer."""

import dataclasses
import functools
import inspect
import pickle

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from zoo.kernels import ENGINES
from zoo.layers import LSTM, BatchNormLSTM, LSTMCell

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("each_engine")]

SHAPE = (4, 5, 3)
X = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
# one value that is not the default, for every argument of keras.layers.LSTM
CHOSEN = {
    "units": 2,
    "activation": "relu",
    "recurrent_activation": "hard_sigmoid",
    "use_bias": True,
    "kernel_initializer": "he_normal",
    "recurrent_initializer": "glorot_normal",
    "bias_initializer": "ones",
    "unit_forget_bias": False,
    "kernel_regularizer": "l2",
    "recurrent_regularizer": "l1",
    "bias_regularizer": "l2",
    "activity_regularizer": "l2",
    "kernel_constraint": "max_norm",
    "recurrent_constraint": "unit_norm",
    "bias_constraint": "non_neg",
    "dropout": 0.25,
    "recurrent_dropout": 0.5,
    "seed": 3,
    "return_sequences": True,
    "return_state": True,
    "go_backwards": True,
    "stateful": True,
    "unroll": True,
    "use_cudnn": False,
}
NOT_IN_KERAS_CONFIG = {"cell_clip", "engine", "implementation", "use_cudnn"}


def numpy(tensors):
    return [ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(tensors)]


def same_weights(build):
    """The same thing built of Keras's class and of ours, with Keras's weights in both."""
    theirs, ours = build(keras.layers.LSTM), build(LSTM)
    for layer in (theirs, ours):
        if not layer.built:
            layer.build(SHAPE)
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def assert_same(ours, theirs):
    for left, right in zip(numpy(ours), numpy(theirs), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)  # the same float32 operations but for a fused bias


def test_every_argument_is_taken_in_the_same_place_with_the_same_default():
    expected = inspect.signature(keras.layers.LSTM).parameters.values()
    found = list(inspect.signature(LSTM).parameters.values())
    positional = [p for p in expected if p.kind is p.POSITIONAL_OR_KEYWORD]
    for wanted, given in zip(positional, found, strict=False):
        assert (given.name, given.default, given.kind) == (wanted.name, wanted.default, wanted.kind)
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in found[len(positional) :])


def test_every_argument_at_once_gives_the_same_configuration():
    positional = [p.name for p in inspect.signature(keras.layers.LSTM).parameters.values() if p.name != "kwargs"]
    assert positional == list(CHOSEN), "Keras has another argument: try it here"
    values = [CHOSEN[name] for name in positional]
    theirs, ours = keras.layers.LSTM(*values, name="a"), LSTM(*values, name="a")
    config = ours.get_config()
    assert {key: config[key] for key in theirs.get_config()} == theirs.get_config()
    added = set(config) - set(theirs.get_config())
    # recurrent dropout decides the implementation, so that there is no choice to keep
    assert {key for key in added if not key.endswith("_activation")} == NOT_IN_KERAS_CONFIG - {"implementation"}


def test_the_cell_takes_its_arguments_in_the_same_places():
    names = [p.name for p in inspect.signature(keras.layers.LSTMCell).parameters.values() if p.name != "kwargs"]
    values = [CHOSEN[name] for name in names]
    theirs, ours = keras.layers.LSTMCell(*values, name="a"), LSTMCell(*values, name="a")
    config = ours.get_config()
    assert {key: config[key] for key in theirs.get_config()} == theirs.get_config()


@pytest.mark.parametrize("name", ["LSTM", "LSTMCell"])
def test_every_attribute_of_keras_exists(name):
    ours, theirs = {"LSTM": LSTM, "LSTMCell": LSTMCell}[name](2), getattr(keras.layers, name)(2)
    for layer, shape in ((ours, (None, None, 3)), (theirs, (None, None, 3))):
        layer.build(shape if isinstance(layer, keras.layers.RNN) else shape[::2])
    missing = {name for name in dir(theirs) if hasattr(theirs, name) and not hasattr(ours, name)}
    assert missing - {"_compute_carry_and_output", "_compute_carry_and_output_fused"} == set()  # parts of Keras's step


@pytest.mark.parametrize(
    "build",
    [
        lambda lstm: keras.layers.Bidirectional(lstm(3, return_sequences=True)),
        lambda lstm: keras.layers.Bidirectional(lstm(3), backward_layer=lstm(3, go_backwards=True), merge_mode="sum"),
        lambda lstm: lstm(3, kernel_initializer="ones", dtype="float64"),
    ],
    ids=["bidirectional", "two layers of one's own", "float64"],
)
def test_wrapped_gives_the_same(build, request):
    if "float64" in request.node.name and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only where the whole process asks for it")
    theirs, ours = same_weights(build)
    assert_same(ours(X), theirs(X))


def test_time_distributed_gives_the_same():
    images = np.random.default_rng(1).normal(size=(2, 3, *SHAPE[1:])).astype("float32")
    theirs, ours = keras.layers.TimeDistributed(keras.layers.LSTM(2)), keras.layers.TimeDistributed(LSTM(2))
    theirs(images), ours(images)
    ours.set_weights(theirs.get_weights())
    assert_same(ours(images), theirs(images))


def test_stateful_carries_and_resets_as_keras_does():
    theirs, ours = same_weights(lambda lstm: lstm(3, stateful=True))
    first = [numpy(layer(X))[0] for layer in (theirs, ours)]
    second = [numpy(layer(X))[0] for layer in (theirs, ours)]
    assert_same(*first)
    assert_same(*second)
    assert not np.allclose(first[1], second[1])
    for layer in (theirs, ours):
        layer.reset_state()
    assert_same(ours(X), first[1])


def test_a_stack_of_cells_in_keras_rnn_gives_the_same():
    theirs = keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.LSTMCell(2)], return_state=True)
    ours = keras.layers.RNN([LSTMCell(4), LSTMCell(2)], return_state=True)
    theirs.build(SHAPE), ours.build(SHAPE)
    ours.set_weights(theirs.get_weights())
    assert_same(ours(X), theirs(X))


@pytest.mark.parametrize("unit_forget_bias", [True, False])
def test_the_same_seed_makes_the_same_weights(unit_forget_bias):
    made = []
    for lstm in (keras.layers.LSTM, LSTM):
        keras.utils.set_random_seed(3)
        layer = lstm(3, bias_initializer="random_normal", unit_forget_bias=unit_forget_bias)
        layer.build(SHAPE)
        made.append(layer.get_weights())
    for theirs, ours in zip(*made, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_regularizers_add_the_same_losses():
    arguments = {f"{part}_regularizer": "l2" for part in ("kernel", "recurrent", "bias", "activity")}
    theirs, ours = same_weights(lambda lstm: lstm(3, **arguments))
    theirs(X), ours(X)
    assert len(ours.losses) == len(theirs.losses) == 4
    np.testing.assert_allclose(sorted(numpy(ours.losses)), sorted(numpy(theirs.losses)), rtol=1e-6)  # the same sums


def test_constraints_hold_after_a_step_of_training():
    layer = LSTM(3, kernel_constraint="non_neg", recurrent_constraint="unit_norm", bias_constraint="non_neg")
    model = keras.Sequential([keras.Input(SHAPE[1:]), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=False)
    model.fit(X, np.full((4, 3), -5.0, "f"), verbose=0)
    kernel, recurrent, bias = layer.get_weights()
    assert kernel.min() >= 0
    assert bias.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(recurrent, axis=0), 1, atol=1e-5)  # float32 over a column of 3


def test_a_model_of_keras_layers_can_be_cloned_into_ours():
    inputs = keras.Input(SHAPE[1:])
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.LSTM(3, activation="relu")(inputs)))

    def exchange(layer):
        chosen = LSTM if isinstance(layer, keras.layers.LSTM) else type(layer)
        return chosen.from_config(layer.get_config())

    clone = keras.models.clone_model(model, clone_function=exchange)
    clone.set_weights(model.get_weights())
    assert isinstance(clone.layers[1], LSTM)
    assert_same(clone(X), model(X))


def test_weights_saved_from_keras_load_into_ours(tmp_path):
    theirs, ours = (
        keras.Sequential([keras.Input(SHAPE[1:]), lstm(3, name="lstm")]) for lstm in (keras.layers.LSTM, LSTM)
    )
    theirs.save_weights(tmp_path / "keras.weights.h5")
    ours.load_weights(tmp_path / "keras.weights.h5")
    assert_same(ours(X), theirs(X))


def test_frozen_as_keras_is():
    theirs, ours = same_weights(lambda lstm: lstm(3, trainable=False))
    assert len(ours.trainable_weights) == len(theirs.trainable_weights) == 0


def test_shapes_are_announced_as_keras_announces_them():
    for arguments in ({}, {"return_sequences": True}, {"return_state": True}):
        theirs, ours = keras.layers.LSTM(3, **arguments), LSTM(3, **arguments)
        assert ours.compute_output_shape((None, None, 2)) == theirs.compute_output_shape((None, None, 2))


def test_the_wrong_rank_is_refused_as_keras_refuses_it():
    messages = []
    for layer in (keras.layers.LSTM(3, name="a"), LSTM(3, name="a")):
        with pytest.raises(ValueError, match="expected ndim=3, found ndim=2") as caught:
            layer(X[0])
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "masked"])
@pytest.mark.parametrize("engine", ["auto", "reference", "loop"])
def test_one_row_of_initial_state_is_of_every_row(engine, masked):
    theirs, ours = same_weights(lambda lstm: lstm(3, **({} if lstm is keras.layers.LSTM else {"engine": engine})))
    row = [np.full((1, 3), value, "float32") for value in (0.5, -1.0)]
    # For a row without a valid step Keras's loop on JAX puts out the given state, on other backends 0, as engines do.
    least = int(keras.backend.backend() == "jax" and engine == "loop")
    mask = ops.convert_to_tensor(np.arange(5) < np.array([[5], [3], [least], [1]])) if masked else None
    every = theirs(X, initial_state=[np.repeat(state, 4, axis=0) for state in row], mask=mask)
    assert_same(ours(X, initial_state=row, mask=mask), every)
    mixed = [row[0], np.repeat(row[1], 4, axis=0)]
    assert_same(ours(X, initial_state=[ops.convert_to_tensor(state) for state in mixed], mask=mask), every)
    inputs, states = keras.Input(SHAPE[1:]), [keras.Input(batch_shape=(1, 3)) for _ in row]
    model = keras.Model([inputs, *states], ours(inputs, initial_state=states))
    if not masked:
        assert_same(model([X, *row]), every)


def test_its_mask_reaches_the_next_layer_whatever_keras_says_of_its_own(monkeypatch):
    made = keras.layers.RNN.__init__

    def without_masks(layer, *arguments, **named):
        made(layer, *arguments, **named)
        layer.supports_masking = False

    monkeypatch.setattr(keras.layers.RNN, "__init__", without_masks)
    padded = X.copy()
    padded[:, 3:] = 0.0
    for make in (LSTM, functools.partial(BatchNormLSTM, max_steps=5)):
        first, second = make(3, return_sequences=True), LSTM(2)
        model = keras.Sequential([keras.Input(SHAPE[1:]), keras.layers.Masking(), first, second])
        assert_same(model(padded), second(first(X[:, :3])))


# === What differs on purpose: each is a paragraph of docs/compatibility.md ===


def test_cudnn_is_refused_at_the_call_where_there_is_none():
    with pytest.raises(ValueError, match="it needs a GPU"):
        LSTM(2, use_cudnn=True)(X)
    with pytest.raises(ValueError, match="use_cudnn"):
        LSTM(2, use_cudnn="yes")


def test_a_dropout_of_one_is_refused_and_what_dropped_nothing_loads():
    with pytest.raises(ValueError, match=r"`dropout` is the share of units dropped, a number in \[0, 1\)"):
        LSTM(2, dropout=1.0)
    saved = keras.layers.LSTM(2, dropout=1.0, recurrent_dropout=0.5).get_config()
    for kind in (LSTM, LSTMCell):
        config = saved if kind is LSTM else keras.layers.LSTMCell(2, dropout=1.0, recurrent_dropout=0.5).get_config()
        with pytest.warns(UserWarning, match="the saved dropout=1.0 dropped nothing"):
            loaded = kind.from_config(config)
        assert (loaded.dropout, loaded.recurrent_dropout) == (0.0, 0.5)


@pytest.mark.parametrize("wrong", ["nativ", "Native", "", None, 3])
def test_a_saved_engine_that_never_was_one_is_an_error(wrong):
    with pytest.raises(ValueError, match="unknown engine"):
        LSTM.from_config({**LSTM(2).get_config(), "engine": wrong})


def test_a_saved_engine_that_is_not_here_warns_and_gives_way(monkeypatch):
    reason = "the test says so"
    monkeypatch.setitem(ENGINES, "loop", dataclasses.replace(ENGINES["loop"], refuses=lambda spec: reason))
    with pytest.warns(UserWarning, match=r"engine='loop' cannot run .*the test says so.*engine='auto'") as caught:
        layer = LSTM.from_config({**LSTM(2).get_config(), "engine": "loop"})
    assert len(caught) == 1
    assert layer.engine == "auto"


def test_implementation_survives_the_config():
    assert LSTM.from_config(LSTM(2, implementation=1).get_config()).cell.implementation == 1
    assert "implementation" not in keras.layers.LSTM(2, implementation=1).get_config()


def test_are_not_instances_of_keras_lstm_and_cell():
    assert not isinstance(LSTM(2), keras.layers.LSTM)
    assert isinstance(LSTM(2), keras.layers.RNN)
    assert not isinstance(LSTMCell(2), keras.layers.LSTMCell)
    assert isinstance(LSTMCell(2), DropoutRNNCell)  # what Keras's RNN layer asks for


def test_never_stands_in_the_way_of_xla():
    # Keras's is false where cuDNN could run it, on TensorFlow with a GPU; ours where a kernel of our own runs.
    assert LSTM(2, engine="reference").supports_jit


def test_can_be_pickled_inside_a_model():
    model = keras.Sequential([keras.Input(SHAPE[1:]), LSTM(2, activation="leaky_relu(0.3)")])
    assert_same(pickle.loads(pickle.dumps(model))(X), model(X))
