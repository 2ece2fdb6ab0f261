"""What every cell of the LSTM family promises: each test walks `zoo.layers.CELLS`."""

import functools

import keras
import numpy as np
import pytest
from cells import for_gates, over_time
from compiling import compiled
from keras import ops
from tiers import few

from zoo import layers
from zoo.initializers import ChronoBias, IdentityRecurrent

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 7, 3)).astype("float32")
MASK = np.arange(7) < np.array([[7], [3], [1], [0], [5], [7]])
FIVE = {
    "input_gate_activation": "hard_sigmoid",
    "forget_gate_activation": "relu6",
    "candidate_activation": "prelu",
    "output_gate_activation": "elliott",
    "hidden_activation": keras.layers.PReLU(),
}


def in_rnn(make):
    return lambda **arguments: keras.layers.RNN(make(), **arguments)


WITH_OPTIONS = {"dropout": 0.1, "recurrent_dropout": 0.1, "use_bias": False}
OTHERS = {
    "layer_norm, random slopes": lambda: layers.LayerNormLSTMCell(5, candidate_activation="rrelu"),
    "projection, dropout": lambda: layers.ProjectionLSTMCell(7, 5, dropout=0.1, seed=1),
    "plain, dropout": lambda: layers.LSTMCell(5, dropout=0.1, recurrent_dropout=0.1),
    "plain, random slopes": lambda: layers.LSTMCell(5, candidate_activation="rrelu", dropout=0.1),
    "zoneout of ours": lambda: layers.ZoneoutCell(layers.LSTMCell(5, "prelu", dropout=0.1), 0.1, 0.2),
    "zoneout of Keras's GRU": lambda: layers.ZoneoutCell(keras.layers.GRUCell(5), 0.1),
    "zoneout of a projection": lambda: layers.ZoneoutCell(layers.ProjectionLSTMCell(7, 5), 0.1, 0.2),
}
LAYERS = {
    **{name: functools.partial(over_time, name) for name in layers.CELLS},
    **{
        f"{name}, with options": functools.partial(over_time, name, cell={**WITH_OPTIONS, **for_gates(name, FIVE)})
        for name in layers.CELLS
    },
    **{name: in_rnn(make) for name, make in OTHERS.items()},
    "stacked": lambda **arguments: keras.layers.RNN(
        [layers.LayerNormLSTMCell(4), layers.ZoneoutCell(layers.ProjectionLSTMCell(6, 3), 0.1, 0.1)], **arguments
    ),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
# One of every kind of cell, for what takes seconds.
KINDS = (
    *("lstm, with options", "layer_norm, with options", "projection", "peephole, with options", "coupled", "fgr"),
    *("zoneout of ours", "stacked", "batch_norm"),
)
some_layers = pytest.mark.parametrize("make", few(LAYERS, KINDS))


def model_of(layer):
    features, mask = keras.Input((None, 3)), keras.Input((None,), dtype="bool")
    return keras.Model([features, mask], layer(features, mask=mask))


def answers(model, x=X, mask=MASK):
    return ops.convert_to_numpy(model([x, mask]))


def nudge(model):
    """Weights that no initialiser would give, so that a weight that was not restored shows."""
    for w in model.weights:
        if w.dtype == "float32":
            w.assign(ops.convert_to_numpy(w) + RNG.uniform(0, 0.2, size=w.shape))
    return model


@some_layers
@pytest.mark.parametrize(
    "wrap", few({"plain": lambda layer: layer, "bidirectional": keras.layers.Bidirectional}, ["plain"])
)
@pytest.mark.sample(5)
def test_survives_saving_weights_and_cloning(make, wrap, tmp_path):
    model = nudge(model_of(wrap(make())))
    expected = answers(model)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(answers(keras.models.load_model(tmp_path / "m.keras")), expected)
    model.save_weights(tmp_path / "m.weights.h5")
    never_called = model_of(wrap(make()))
    never_called.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(answers(never_called), expected)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(answers(clone), expected)


@every_layer
def test_configuration_comes_back_whole(make):
    layer = make(return_sequences=True, go_backwards=True, name="mine", dtype="bfloat16")
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@some_layers
@pytest.mark.sample(3)
def test_a_padded_row_gives_what_it_gives_alone(make):
    layer = make()
    whole = ops.convert_to_numpy(layer(X, mask=ops.convert_to_tensor(MASK)))
    for row, length in enumerate(MASK.sum(1)):
        if length:
            alone = ops.convert_to_numpy(layer(X[row : row + 1, :length]))
            np.testing.assert_allclose(whole[row], alone[0], atol=1e-5)  # another batch size, another matmul
        else:
            np.testing.assert_array_equal(whole[row], 0)


@some_layers
@pytest.mark.parametrize("policy", few(["mixed_float16", "mixed_bfloat16"], ["mixed_float16"]))
@pytest.mark.sample(3)
def test_mixed_precision(make, policy):
    keras.config.set_dtype_policy(policy)
    layer = make()
    for training in (True, False):
        out = layer(X, mask=ops.convert_to_tensor(MASK), training=training)
        assert keras.backend.standardize_dtype(out.dtype) == policy.removeprefix("mixed_")
        assert np.isfinite(ops.convert_to_numpy(ops.cast(out, "float32"))).all()
    assert all(w.dtype == "float32" for w in layer.trainable_weights)


# Not batch norm: the first step of a continued sequence has the statistics of a first step.
@pytest.mark.parametrize("make", [LAYERS[name] for name in ("layer_norm", "fgr", "zoneout of ours", "stacked")])
def test_stateful_layers_go_on_where_they_stopped(make):
    plain, stateful = make(return_sequences=True), make(return_sequences=True, stateful=True)
    stateful.build((6, 3, 3))
    whole = ops.convert_to_numpy(plain(X[:, :6]))
    stateful.set_weights([*plain.get_weights(), *stateful.get_weights()[len(plain.get_weights()) :]])
    parts = [ops.convert_to_numpy(stateful(X[:, :3])), ops.convert_to_numpy(stateful(X[:, 3:6]))]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-6)  # another number of steps in one matmul


def traced_operations(function):
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return {node.op for node in nodes}


@some_layers
@pytest.mark.sample(3)
def test_an_exported_graph_draws_nothing_writes_nothing_and_is_dynamic(make):
    import tensorflow as tf

    from zoo.export.operations import ALLOWED

    model = model_of(make())
    model([X, MASK], training=True)  # what training left behind must not reach the graph

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None), tf.bool)])
    def serve(x, mask):
        return model([x, mask], training=False)

    found = traced_operations(serve.get_concrete_function())
    assert {"While", "MatMul"} <= found or "BlockLSTM" in found, "the list is of the whole graph, with the loop's body"
    assert not {op for op in found if "Random" in op or "Assign" in op or "PyFunc" in op}
    assert found <= ALLOWED, "an operation that a server may lack"
    for batch, steps in [(6, 7), (1, 1), (2, 5)]:
        expected = answers(model, X[:batch, :steps], MASK[:batch, :steps])
        np.testing.assert_allclose(serve(X[:batch, :steps], MASK[:batch, :steps]), expected, atol=1e-5)


@pytest.mark.parametrize("make", few(LAYERS, ["peephole", "batch_norm"]))
@pytest.mark.sample(1)
def test_learns_which_sequences_sum_to_more_than_zero(make):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(256, 4, 3)).astype("float32")
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model = compiled(
        keras.Sequential([keras.Input((4, 3)), make(), keras.layers.Dense(1)]),
        optimizer=keras.optimizers.Adam(0.03),
        loss=loss,
        jit_compile=False,  # compiling takes longer than it saves
    )
    wanted = x.sum((1, 2)) > 0
    losses = model.fit(x, wanted, epochs=6, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.75 * losses[0]
    right = (ops.convert_to_numpy(model(x))[:, 0] > 0) == wanted  # with what inference uses
    assert right.mean() > 0.7


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "name", few(["layer_norm, random slopes", "zoneout of ours", "stacked", "batch_norm"], ["stacked", "batch_norm"])
)
@pytest.mark.sample(1, elsewhere=1)
def test_what_draws_or_keeps_statistics_trains_on_every_backend(name):
    layer = LAYERS[name]()
    model = keras.Sequential([keras.Input((4, 3)), layer, keras.layers.Dense(1)])
    compiled(model, optimizer=keras.optimizers.Adam(0.03), loss="mse")
    x = RNG.normal(size=(128, 4, 3)).astype("float32")
    losses = model.fit(x, x.sum((1, 2)), epochs=5, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    if name == "batch_norm":
        assert int(layer.cell.steps_seen) == 4
        assert ops.convert_to_numpy(layer.cell.moving_mean["cell"])[:4].all()


@pytest.mark.parametrize("name", layers.CELLS)
def test_activations_are_per_gate_and_refused_where_there_is_no_gate(name):
    cell = over_time(name).cell
    config = {**cell.get_config(), "name": "mine"}
    for gate in ("input_gate", "forget_gate", "candidate", "output_gate", "hidden"):
        argument = f"{gate}_activation"
        changed = {**config, argument: "relu"}
        if gate in cell.gates:
            assert str(type(cell)(**changed).gate_activations[gate]) == "relu"
        else:
            with pytest.raises(ValueError, match=rf"mine has no activation for {gate}: received .*relu"):
                type(cell)(**changed)


def test_learned_slopes_learn_and_each_gate_has_its_own():
    layer = keras.layers.RNN(layers.CoupledLSTMCell(5, "prelu", "hard_sigmoid", hidden_activation="prelu(0.5)"))
    layer.build((None, 7, 3))
    slopes = {w.name: w for w in layer.trainable_weights if w.name.endswith("slope")}
    assert sorted(slopes) == ["candidate_slope", "hidden_slope"]
    before = {name: ops.convert_to_numpy(w) for name, w in slopes.items()}
    assert before["hidden_slope"].tolist() == [0.5] * 5
    model = keras.Sequential([keras.Input((7, 3)), layer, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(X, X.sum((1, 2)), verbose=0)
    assert all((ops.convert_to_numpy(slopes[name]) != before[name]).any() for name in slopes)


def test_weights_take_initializers_regularizers_and_constraints():
    cell = layers.PeepholeLSTMCell(
        2,
        bias_initializer=ChronoBias(20, seed=1),
        unit_forget_bias=False,
        recurrent_initializer=IdentityRecurrent(0.5),
        kernel_regularizer="l2",
        bias_constraint="non_neg",
    )
    layer = keras.layers.RNN(cell)
    layer.build((None, None, 3))
    bias = ops.convert_to_numpy(cell.bias)
    np.testing.assert_array_equal(bias[:2], -bias[2:4])
    assert ops.convert_to_numpy(cell.recurrent_kernel)[0, ::2].tolist() == [0.5] * 4
    assert len(layer.losses) == 1
    assert cell.bias.constraint is not None
    default = layers.VariantLSTMCell("NIG", 2)
    default.build((None, 3))
    assert ops.convert_to_numpy(default.bias).tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.LayerNormLSTMCell(0), "`units` must be a positive integer, received 0"),
        (lambda: layers.PeepholeLSTMCell(2.5), "`units` must be a positive integer, received 2.5"),
        (lambda: layers.CoupledLSTMCell(2, "reul"), "did you mean 'relu'"),
        (lambda: layers.CoupledLSTMCell(2, forget_gate_activation="relu"), "no activation for forget_gate"),
        (lambda: layers.PeepholeLSTMCell(2, dropout=1), r"`dropout` .* \[0, 1\); received 1"),
        (lambda: layers.CoupledLSTMCell(2, recurrent_dropout=-0.5), r"`recurrent_dropout` .* received -0.5"),
        (lambda: layers.LayerNormLSTMCell(2, dropout=True), r"`dropout` .* received True"),
        (lambda: layers.BatchNormLSTM(2, max_steps=3, recurrent_dropout="0.5"), r"`recurrent_dropout` .* '0.5'"),
        (lambda: layers.ProjectionLSTMCell(2, -1), "`projection` must be a positive integer, received -1"),
        (lambda: layers.LayerNormLSTMCell(2, epsilon=0.0), "`epsilon` must be a positive finite number such as 1e-5"),
        (lambda: layers.VariantLSTMCell("NGI", 2), "unknown LSTM variant 'NGI'; did you mean .*'NIG'"),
        (lambda: layers.VariantLSTMCell("NOAF", 2, hidden_activation="relu"), "no activation for hidden"),
        (lambda: layers.BatchNormLSTM(2, max_steps=0), "`max_steps` must be a positive integer, received 0"),
        (lambda: layers.BatchNormLSTM(2, max_steps=3, momentum=1), r"`momentum` .* \[0, 1\); received 1"),
        (
            lambda: layers.BatchNormLSTM(2, max_steps=3, epsilon=-1),
            "`epsilon` must be a positive finite number such as 1e-3",
        ),
        (lambda: layers.BatchNormLSTM(2, max_steps=3, unroll=True), "unroll"),
        (lambda: layers.ZoneoutCell(keras.layers.LSTMCell(2), 1.5), r"`zoneout_h` .* \[0, 1\]; received 1.5"),
        (lambda: layers.ZoneoutCell(keras.layers.GRUCell(2), 0.1, 0.1), "`zoneout_c` acts on the second state"),
        (lambda: layers.ZoneoutCell(keras.layers.StackedRNNCells([keras.layers.GRUCell(2)] * 2)), None),
        (lambda: layers.ZoneoutCell(keras.layers.Dense(2)), "must be a recurrent cell"),
        (
            lambda: layers.LayerNormLSTMCell(2, bias_initializer=ChronoBias(9)),
            "pass unit_forget_bias=False",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message or "wrap each cell of a stack"):
        make()
