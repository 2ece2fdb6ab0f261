"""Arguments set on a layer or cell after it was made: each acts on the next call and is saved, or is refused."""

import keras
import numpy as np
import pytest
from cells import over_time
from keras import ops

from zoo import layers
from zoo.layers import CELLS

X = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")

OWNERS = {
    **{name: lambda name=name, **given: over_time(name, 4, cell=given) for name in CELLS},
    "lstm, reference": lambda **given: layers.LSTM(4, engine="reference", **given),
    "LSTMCell": lambda **given: keras.layers.RNN(layers.LSTMCell(4, **given)),
    "ZoneoutCell": lambda **given: keras.layers.RNN(
        layers.ZoneoutCell(layers.LSTMCell(4), zoneout_h=0.1, zoneout_c=0.1, **given)
    ),
}
# Another value for an argument, by the end of its name. Any other argument is a number.
OTHERS = {
    "activation": "softsign",
    "dropout": 0.5,
    "initializer": "ones",
    "regularizer": "l2",
    "constraint": "non_neg",
    "bias": False,
    "variant": "NP",
    "seed": 7,
    "cell_clip": 0.05,
    "engine": "loop",
    "use_cudnn": False,
    "implementation": 1,
}
OF_KERAS = {  # Keras's own, of every layer or of every RNN layer
    *("name", "trainable", "dtype", "cell", "activity_regularizer"),
    *("return_sequences", "return_state", "go_backwards", "stateful", "zero_output_for_mask", "unroll"),
}
QUICK = ("lstm", "layer_norm", "ZoneoutCell")


def owners(layer):
    """The layer itself where it takes the arguments, and its cell."""
    return [layer, layer.cell] if type(layer) is not keras.layers.RNN else [layer.cell]


def answers(layer, training=False):
    keras.utils.set_random_seed(1)
    return ops.convert_to_numpy(layer(X, training=training))


def other_value(argument, before):
    found = next((value for ending, value in OTHERS.items() if argument.endswith(ending)), None)
    return before / 2 if found is None and isinstance(before, float) else before - 1 if found is None else found


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "name", [some if some in QUICK else pytest.param(some, marks=pytest.mark.slow) for some in OWNERS]
)
@pytest.mark.parametrize("of_cell", [False, True], ids=["of the layer", "of the cell"])
@pytest.mark.sample(1, elsewhere=1)
def test_every_argument_acts_when_it_is_set_or_is_refused(name, of_cell):
    layer = OWNERS[name](**({} if name == "ZoneoutCell" else {"dropout": 0.25}))
    layer.build(X.shape)
    owner, acted = owners(layer)[-1 if of_cell else 0], set()
    gates = {f"{gate}_activation" for gate in getattr(owner, "gate_activations", {})}
    arguments = set(owner.get_config()) - OF_KERAS
    for some in (arguments - gates, gates):  # a gate's own would hide what all inherit
        acted |= {argument for argument in sorted(some) if acts(owner, argument)}
        again = type(layer).from_config(layer.get_config())
        again.build(X.shape)
        again.set_weights(layer.get_weights())
        np.testing.assert_allclose(answers(layer), answers(again), atol=1e-6)  # the same operations
    expected = {*gates, "activation", "recurrent_activation", "dropout", "recurrent_dropout"} if gates else set()
    assert expected | ({"cell_clip", "zoneout_h", "zoneout_c"} & arguments) <= acted


def acts(owner, argument):
    """Whether `argument` can be set to another value, which the configuration then has."""
    before = owner.get_config()[argument]
    value = other_value(argument, before)
    try:
        setattr(owner, argument, value)
    except (ValueError, AttributeError) as error:
        refused = str(error)
    else:
        assert owner.get_config()[argument] == value != before
        return True
    assert argument in refused
    assert "make another" in refused.lower(), "says what to do"
    assert owner.get_config()[argument] == before
    return False


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["lstm", "lstm, reference", "batch_norm", "LSTMCell", "peephole"])
@pytest.mark.sample(3, elsewhere=1)
def test_what_was_set_changes_what_is_computed_and_survives_a_file(name, tmp_path):
    layer = OWNERS[name]()
    model = keras.Sequential([keras.Input(X.shape[1:]), layer])
    changes = {
        "activation": keras.activations.relu,
        "forget_gate_activation": "hard_sigmoid",
        "hidden_activation": "softsign",
    }
    if hasattr(layer.cell, "cell_clip"):
        changes["cell_clip"] = 0.01
    for argument, value in changes.items():
        before = answers(layer)
        setattr(owners(layer)[0], argument, value)
        assert abs(answers(layer) - before).max() > 1e-5, f"{argument} is ignored"
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(ops.convert_to_numpy(again(X)), ops.convert_to_numpy(model(X)), atol=1e-6)


@pytest.mark.any_backend
def test_as_keras_does_with_its_cell():
    theirs, ours = keras.layers.LSTM(4), layers.LSTM(4)
    for layer in (theirs, ours):
        layer.build(X.shape)
        layer.cell.activation = keras.activations.relu
        layer.cell.recurrent_activation = keras.activations.hard_sigmoid
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(answers(ours), answers(theirs), atol=1e-6)
    assert ours.get_config()["activation"] == theirs.get_config()["activation"] == "relu"


@pytest.mark.parametrize("make", [keras.layers.LSTM, layers.LSTM])
def test_a_compiled_model_keeps_what_it_was_traced_with_until_it_is_compiled_again(make):
    model = keras.Sequential([keras.Input(X.shape[1:]), make(4)])
    model.compile("sgd", "mse", jit_compile=False)
    before = model.predict(X, verbose=0)
    model.layers[0].cell.activation = keras.activations.relu
    np.testing.assert_array_equal(model.predict(X, verbose=0), before)
    model.compile("sgd", "mse", jit_compile=False)
    assert abs(model.predict(X, verbose=0) - before).max() > 1e-5


@pytest.mark.any_backend
@pytest.mark.parametrize("rate", ["dropout", "recurrent_dropout"])
@pytest.mark.parametrize("name", ["lstm", "lstm, reference", "LSTMCell", "peephole", "batch_norm"])
@pytest.mark.sample(3, elsewhere=1)
def test_dropout_set_later_drops_and_stops(name, rate):
    layer = OWNERS[name](dropout=0.25)
    owner = owners(layer)[0]
    owner.dropout = 0.0
    plain = answers(layer, training=True)
    np.testing.assert_array_equal(answers(layer, training=True), plain)
    setattr(owner, rate, 0.5)
    assert abs(answers(layer, training=True) - plain).max() > 1e-3
    setattr(owner, rate, 0.0)
    np.testing.assert_allclose(answers(layer, training=True), plain, atol=1e-6)


def test_weights_that_an_activation_learns_are_neither_made_nor_forgotten_later():
    for made, later in (("tanh", "prelu"), ("prelu", "tanh"), ("tanh", keras.layers.PReLU()), ("prelu", "prelu(0.5)")):
        layer = layers.LSTM(4, activation=made)
        layer.activation = later  # nothing is built
        layer.activation = made
        layer.build(X.shape)
        with pytest.raises(ValueError, match=r"activation of its candidate.*make another cell"):
            layer.cell.activation = later
        layer.recurrent_activation = "hard_sigmoid"  # no gate that inherits this learns
        assert len(layer.weights) == 3 + 2 * (made == "prelu")


def test_before_it_is_built_an_activation_that_learns_can_be_set():
    layer = layers.LSTM(4)
    layer.candidate_activation = keras.layers.PReLU()
    layer.cell.hidden_activation = "prelu"
    layer.build(X.shape)
    assert [weight.name for weight in layer.weights[3:]] == ["hidden_slope", "alpha"]
    assert len(layer._flatten_layers()) == 3, "the layer, its cell, and one for the gate"


def test_a_cell_without_a_seed_says_so():
    cell = layers.PeepholeLSTMCell(4)
    layer = keras.layers.RNN(cell)
    layer.build(X.shape)
    for argument, value in (("dropout", 0.5), ("candidate_activation", "rrelu")):
        with pytest.raises(ValueError, match=rf"no seed, and received {argument}=.*when you make the cell"):
            setattr(cell, argument, value)
    cell.dropout = 0.0
    unbuilt = layers.PeepholeLSTMCell(4)
    unbuilt.dropout = 0.5
    assert abs(answers(keras.layers.RNN(unbuilt), training=True)).max() > 0


def test_wrong_values_are_refused_when_they_are_set():
    layer = layers.LSTM(4)
    for argument, value, message in (
        ("cell_clip", -1, "positive finite number"),
        ("dropout", 1.0, r"\[0, 1\)"),
        ("recurrent_dropout", "0.5", "received '0.5'"),
        ("activation", "reul", "did you mean 'relu'"),
        ("engine", "nativ", "did you mean 'native'"),
        ("use_cudnn", 3, "must be 'auto', True or False"),
    ):
        with pytest.raises(ValueError, match=message):
            setattr(layer, argument, value)
    with pytest.raises(ValueError, match="no activation for forget_gate"):
        layers.CoupledLSTMCell(4).forget_gate_activation = "relu"
    with pytest.raises(TypeError):
        layer.gate_activations["candidate"] = "relu"
    layer.recurrent_dropout = 0.5
    with pytest.raises(ValueError, match="no recurrent dropout"):
        layer.implementation = 2
