"""Models that read sequences in pieces: every kind of layer gives what it gives on the whole, or is refused."""

import keras
import numpy as np
import pytest
from keras import ops
from tiers import few

from zoo import layers
from zoo.export.rules import Chunk, NotStreamable
from zoo.export.streaming import plan
from zoo.models import SequenceTask, build
from zoo.models.cells import CELLS
from zoo.models.inputs import sequence_inputs

TASK = SequenceTask(channels=3, classes=4, mean=(1.0, 2.0, 3.0), variance=(1.0, 4.0, 0.5))
X = np.random.default_rng(0).normal(2, 2, size=(3, 12, 3)).astype("float32")


def of_layers(*stack):
    """A model of these layers, one above the other; a callable gets the sequence inputs too."""
    inputs = sequence_inputs(TASK)
    x = inputs.normalized
    for layer in stack:
        x = layer(x) if isinstance(layer, keras.layers.Layer) else layer(x, inputs)
    return inputs.model(keras.layers.Dense(2, name="head")(x), name="made")


def conv(**arguments):
    return keras.layers.Conv1D(**{"filters": 4, "kernel_size": 3, "padding": "causal", **arguments})


def lstm(**arguments):
    return layers.LSTM(**{"units": 4, **arguments})


def residual(x, inputs):
    return keras.layers.Add()([keras.layers.Dense(3, "tanh")(x), keras.layers.Concatenate()([x])])


STREAMABLE = {
    **{f"cell {name}": lambda name=name: build("lstm", TASK, units=4, layers=2, cell=name) for name in CELLS},
    "zoneout": lambda: build("lstm", TASK, units=4, zoneout_h=0.1, zoneout_c=0.2),
    "dropout, learned and random slopes": lambda: build(
        "lstm", TASK, units=4, activation="prelu", recurrent_activation="hard_sigmoid", dropout=0.2,
        recurrent_dropout=0.2, hidden_activation="rrelu", cell_clip=2.0,
    ),
    "labels a step": lambda: build("gru", SequenceTask(channels=3, classes=4, kind="labelling"), units=4, layers=2),
    "tcn, reaching far back": lambda: build("tcn", TASK, filters=4, levels=3),
    "mean over time": lambda: of_layers(
        conv(), keras.layers.GlobalAveragePooling1D(keepdims=True), keras.layers.Flatten()
    ),
    "masked mean over time": lambda: of_layers(
        conv(), lambda x, inputs: keras.layers.GlobalAveragePooling1D()(x, mask=inputs.mask)
    ),
    "maximum over time": lambda: of_layers(
        # below zero, so that a maximum of zeros would show
        keras.layers.Dense(4, lambda x: -ops.exp(x)), keras.layers.GlobalMaxPooling1D(),
    ),
    "a convolution of one step, any padding": lambda: of_layers(conv(kernel_size=1, padding="same"), lstm()),
    "norms and residuals": lambda: of_layers(
        residual, keras.layers.LayerNormalization(), keras.layers.BatchNormalization(), lstm()
    ),
    "keras's own": lambda: of_layers(
        keras.layers.LSTM(4, return_sequences=True), keras.layers.GRU(4, return_sequences=True, reset_after=False),
        keras.layers.RNN(layers.PeepholeLSTMCell(3), return_sequences=True), keras.layers.SimpleRNN(2),
    ),
    "what comes after the last step": lambda: of_layers(
        lstm(units=4), keras.layers.Reshape((2, 2)), keras.layers.Bidirectional(keras.layers.LSTM(2))
    ),
}  # fmt: skip


def scrambled(model):
    """Weights and statistics like those of a trained model."""
    rng = np.random.default_rng(1)
    model.set_weights(
        [
            w + np.abs(rng.normal(0, 0.3, w.shape)).astype(w.dtype) if w.dtype.kind == "f" else w + 7
            for w in model.get_weights()
        ]
    )
    return model


def pieces(model, cuts, x=X, lengths=None):
    """The answers to the pieces, and the last states."""
    planned = plan(model)
    states = {name: np.zeros((len(x), *shape), "float32") for name, shape in planned.states.items()}
    answers = []
    for start, end in zip([0, *cuts], [*cuts, x.shape[1]], strict=True):
        there = np.full(len(x), end - start) if lengths is None else np.clip(lengths - start, 0, end - start)
        mask = None if lengths is None else ops.convert_to_tensor(np.arange(end - start) < there[:, None])
        chunk = Chunk(ops.convert_to_tensor(there.astype("int32")), mask, states)
        answers.append(np.array(planned.run(ops.convert_to_tensor(x[:, start:end]), chunk)))
        assert set(chunk.after) == set(states)
        states = {name: ops.cast(chunk.after[name], "float32") for name in states}
        assert {name: tuple(s.shape[1:]) for name, s in states.items()} == planned.states
    return answers


@pytest.mark.parametrize("name", few(list(STREAMABLE), list(STREAMABLE)[::3]))
@pytest.mark.sample(2)
def test_pieces_give_what_the_whole_gives(name):
    model, cuts = scrambled(STREAMABLE[name]()), (1, 2, 9)
    answers = pieces(model, cuts)
    for end, answer in zip([*cuts, 12], answers, strict=True):
        whole = np.array(model({"features": X[:, :end], "lengths": np.full(3, end, "int32")}, training=False))
        if answer.ndim == 3:  # an answer a step: those of the piece
            whole = whole[:, -answer.shape[1] :]
        np.testing.assert_allclose(answer, whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["cell lstm", "cell batch_norm", "tcn, reaching far back", "masked mean over time"])
@pytest.mark.sample(1)
def test_rows_of_a_piece_may_have_different_lengths(name):
    """As the texts of a batch have."""
    model, lengths = scrambled(STREAMABLE[name]()), np.int32([12, 7, 5])
    found = pieces(model, (4, 5), lengths=lengths)[-1]
    whole = np.array(model({"features": X, "lengths": lengths}, training=False))
    np.testing.assert_allclose(found[:2], whole[:2], atol=1e-6, rtol=1e-6)  # the third has no steps in the last piece


REFUSED = {
    "'bidirectional_1' (Bidirectional) reads the sequence backwards too": lambda: build(
        "lstm", TASK, bidirectional=True
    ),
    "'b' (LSTM) reads the sequence backwards": lambda: of_layers(lstm(go_backwards=True, name="b")),
    "'c' (Conv1D) sees later steps (padding='same'": lambda: of_layers(conv(padding="same", name="c"), lstm()),
    "'c' (Conv1D) does not keep the number of steps": lambda: of_layers(conv(strides=2, name="c"), lstm()),
    "'fixed_length' (FixedLength) has a fixed number of steps": lambda: build("lstm_fcn", TASK, steps=20, filters=4),
    "'both' (Concatenate) works along axis 1": lambda: of_layers(
        lambda x, i: keras.layers.Concatenate(axis=1, name="both")([x, x]), lstm()),
    "'scale' (Multiply) combines single steps with a result of the whole sequence": lambda: of_layers(
        lambda x, i: keras.layers.Multiply(name="scale")(
            [x, keras.layers.GlobalAveragePooling1D(keepdims=True)(x)]), lstm()),
    "'rows' (Reshape) mixes steps": lambda: of_layers(keras.layers.Reshape((-1, 1), name="rows"), lstm()),
    "'pool' (MaxPooling1D) has no rule": lambda: of_layers(keras.layers.MaxPooling1D(name="pool"), lstm()),
    "(NotEqual) has no rule": lambda: of_layers(keras.layers.Masking(name="masking"), lstm()),
    "is used more than once": lambda: of_layers(*[keras.layers.Dense(3)] * 2, lstm()),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_needs_later_steps_is_refused_by_the_layers_name(reason):
    with pytest.raises(NotStreamable) as caught:
        plan(REFUSED[reason]())
    assert reason in str(caught.value)


def test_a_layer_that_only_derives_from_a_known_one_has_no_rule():
    class Sum(keras.layers.Dense):
        def call(self, x):
            return super().call(ops.cumsum(x, axis=1))

    with pytest.raises(NotStreamable, match=r"\(Sum\) has no rule"):
        plan(of_layers(Sum(3), lstm()))


def test_states_have_the_layers_names():
    found = plan(build("cnn_lstm", TASK, units=4, filters=2, causal=True)).states
    assert found == {
        "convolution_1_buffer": (4, 3),
        "convolution_2_buffer": (4, 2),
        "lstm_hidden": (4,),
        "lstm_cell": (4,),
    }
    assert plan(build("lstm", TASK, units=4, cell="batch_norm")).states["lstm_1_steps"] == ()
    assert plan(build("lstm", TASK, units=4, cell="projection", projection=2)).states["lstm_1_hidden"] == (2,)
    assert plan(build("lstm", TASK, units=4, zoneout_h=0.5)).states == {"lstm_1_hidden": (4,), "lstm_1_cell": (4,)}
