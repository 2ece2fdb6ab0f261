"""What is watched equals the layer, and the gate report says what the weights were set to do."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo.diagnostics import gate_report, spectral_radius
from zoo.diagnostics.recording import record
from zoo.layers import (
    LSTM,
    BatchNormLSTM,
    CoupledLSTMCell,
    LayerNormLSTMCell,
    LSTMCell,
    PeepholeLSTMCell,
    ProjectionLSTMCell,
    VariantLSTMCell,
    ZoneoutCell,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 7, 3)).astype("float32")
MASKS = {
    "none": None,
    "right": np.arange(7) < np.array([[7], [4], [1], [6], [2]]),
    "left": np.arange(7) >= np.array([[0], [3], [6], [2], [1]]),
    "holes and an empty row": (RNG.random((5, 7)) < 0.6) & (np.arange(5) != 3)[:, None],
}
VARIANTS = {
    "default": {},
    "backwards": {"go_backwards": True},
    "relu, no bias": {"activation": "relu", "use_bias": False},
    "five": {
        "input_gate_activation": "hard_sigmoid",
        "forget_gate_activation": "elliott",
        "candidate_activation": "prelu",
        "output_gate_activation": "softmax",
        "hidden_activation": keras.layers.LeakyReLU(0.1),
    },
    "clipped": {"cell_clip": 0.2, "activation": "relu"},
    "backwards, implementation 1": {"go_backwards": True, "implementation": 1, "activation": "elu"},
}


@pytest.mark.any_backend
@pytest.mark.parametrize("arguments", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.sample(6)
def test_what_is_watched_is_the_layers_own_output(arguments, mask):
    if keras.backend.backend() == "jax" and mask not in ("none", "holes and an empty row"):
        pytest.skip("JAX compiles a loop for every shape; the two extremes are enough there")
    layer = LSTM(4, return_sequences=True, return_state=True, **arguments)
    layer.build((None, 7, 3))
    given = {} if MASKS[mask] is None else {"mask": MASKS[mask]}
    (replayed,) = record(layer, X, given).traces
    outputs, hidden, cell = (ops.convert_to_numpy(tensor) for tensor in layer(X, **given))
    if layer.go_backwards:
        outputs = outputs[:, ::-1]  # the layer returns steps as it read them
    ours = replayed.parts["hidden_state"]
    # One float32 step in another order of summation, over seven steps.
    np.testing.assert_allclose(ours[replayed.valid], outputs[replayed.valid], atol=1e-5, rtol=1e-5)
    last = replayed.order[-1]
    np.testing.assert_allclose(ours[:, last], hidden, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(replayed.parts["cell_state"][:, last], cell, atol=1e-5, rtol=1e-5)


@pytest.mark.any_backend
def test_recording_leaves_a_stateful_layer_as_it_was():
    layer = LSTM(2, stateful=True, dropout=0.5, recurrent_dropout=0.5)
    layer.build((5, 7, 3))
    layer(X)
    before = [ops.convert_to_numpy(variable) for variable in layer.variables]
    (replayed,) = record(layer, X).traces
    for left, right in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(left, ops.convert_to_numpy(right))
    assert "call" not in vars(layer)
    expected = ops.convert_to_numpy(layer(X))  # goes on from the state that the recording started from too
    np.testing.assert_allclose(replayed.parts["hidden_state"][:, -1], expected, atol=1e-5)  # float32


FAMILY = {
    "layer norm": lambda **a: keras.layers.RNN(LayerNormLSTMCell(4), **a),
    "peephole": lambda **a: keras.layers.RNN(PeepholeLSTMCell(4), **a),
    "coupled": lambda **a: keras.layers.RNN(CoupledLSTMCell(4), **a),
    "projection": lambda **a: keras.layers.RNN(ProjectionLSTMCell(4, projection=2), **a),
    "no output activation": lambda **a: keras.layers.RNN(VariantLSTMCell("NOAF", 4), **a),
    "full gate recurrence": lambda **a: keras.layers.RNN(VariantLSTMCell("FGR", 4), **a),
    "zoneout": lambda **a: keras.layers.RNN(ZoneoutCell(LSTMCell(4), 0.2, 0.3), **a),
    "batch norm": lambda **a: BatchNormLSTM(4, max_steps=5, **a),
    "Keras's LSTM": lambda **a: keras.layers.LSTM(4, **a),
    "stack": lambda **a: keras.layers.RNN([LSTMCell(2, name="low"), keras.layers.LSTMCell(4, name="high")], **a),
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("make", FAMILY.values(), ids=FAMILY)
@pytest.mark.sample(6)
def test_every_cell_of_the_family_is_watched_as_it_is(make, backwards):
    layer = make(return_sequences=True, return_state=True, go_backwards=backwards)
    layer.build((None, 7, 3))
    before = [ops.convert_to_numpy(variable) for variable in layer.variables]
    mask = MASKS["holes and an empty row"]
    trace = record(layer, X, {"mask": mask}).traces[-1]
    assert not [name for name in ("functions", "call", "inner_loop") if name in {**vars(layer), **vars(layer.cell)}]
    for left, right in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(left, ops.convert_to_numpy(right))
    outputs, *states = (ops.convert_to_numpy(t) for t in keras.tree.flatten(layer(X, mask=mask)))
    # The same operations in the same order.
    np.testing.assert_array_equal(trace.parts["hidden_state"][mask], (outputs[:, ::-1] if backwards else outputs)[mask])
    if layer.cell.__class__ is not keras.layers.StackedRNNCells:
        row = 0  # of a row with a valid step, the state after the last one read
        last = np.flatnonzero(mask[row])[0 if backwards else -1]
        np.testing.assert_array_equal(trace.parts["cell_state"][row, last], states[1][row])


def test_the_values_of_the_gates_are_those_of_the_equations():
    layer = keras.layers.RNN(PeepholeLSTMCell(4), name="rnn")
    layer.build((None, 7, 3))
    (trace,) = record(layer, X).traces
    cell, parts = layer.cell, trace.parts
    kernel, recurrent, bias, peephole = (ops.convert_to_numpy(weight) for weight in cell.weights)
    z = X @ kernel + np.pad(parts["hidden_state"], ((0, 0), (1, 0), (0, 0)))[:, :-1] @ recurrent + bias
    before = np.pad(parts["cell_state"], ((0, 0), (1, 0), (0, 0)))[:, :-1]
    seen = (before, before, None, parts["cell_state"])
    for index, (gate, state) in enumerate(
        zip(("input_gate", "forget_gate", "candidate", "output_gate"), seen, strict=True)
    ):
        expected = z[..., 4 * index : 4 * index + 4]
        if state is not None:
            expected = expected + peephole[4 * (index - index // 3) :][:4] * state
        expected = np.tanh(expected) if gate == "candidate" else 1 / (1 + np.exp(-expected))
        np.testing.assert_allclose(parts[gate], expected, atol=1e-6)  # float32
    assert list(parts).index("cell_state") < list(parts).index("output_gate")  # which sees it


def test_the_family_is_in_the_report_with_the_gates_that_it_has():
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            BatchNormLSTM(3, max_steps=7, return_sequences=True, name="normal"),
            keras.layers.RNN([CoupledLSTMCell(2, name="low"), keras.layers.GRUCell(3, name="high")], name="stack"),
        ]
    )
    report = gate_report(model, X)
    gates = {layer.layer: [gate.gate for gate in layer.gates] for layer in report.layers}
    assert gates == {
        "normal": ["input_gate", "forget_gate", "candidate", "output_gate"],
        "stack/low": ["input_gate", "candidate", "output_gate"],
    }
    assert report.skipped == ("stack/high",)
    assert [layer.gates[0].closed is not None for layer in report.layers] == [True, True]


def test_advice_on_a_growing_state_names_what_the_cell_has():
    layer = keras.layers.RNN(PeepholeLSTMCell(2, "linear", "linear"), name="rnn")
    layer.build((None, None, 3))
    kernel, recurrent, _, peephole = layer.get_weights()
    bias = np.repeat([1.0, 1.5, 1.0, 0.0], 2).astype("float32")
    layer.set_weights([0 * kernel, 0 * recurrent, bias, 0 * peephole])
    (grown,) = gate_report(layer, np.zeros((2, 60, 3), "float32")).layers
    assert abs(grown.growth - 1.5) < 0.01
    assert "bound its activations (relu6, hard_tanh)" in grown.advice[0]


def test_a_layer_with_a_loop_of_its_own_is_left_alone():
    class Own(keras.layers.RNN):
        def inner_loop(self, sequences, initial_state, mask, training=False):
            return super().inner_loop(2 * sequences, initial_state, mask, training=training)

    layer = Own(LSTMCell(2), name="own")
    layer.build((None, 7, 3))
    assert gate_report(layer, X).skipped == ("own",)


def with_biases(i=0.0, f=0.0, g=0.0, o=0.0, **arguments):
    """An LSTM of 2 units whose gates depend on nothing but their bias."""
    layer = LSTM(2, kernel_initializer="zeros", recurrent_initializer="zeros", name="lstm", **arguments)
    layer.build((None, None, 3))
    layer.set_weights([*layer.get_weights()[:2], np.repeat([i, f, g, o], 2).astype("float32")])
    return layer


@pytest.mark.any_backend
def test_shares_ranges_and_advice_of_saturated_gates():
    report = gate_report(with_biases(i=-9.0, f=9.0, g=0.5), X, {"mask": MASKS["right"]})
    (layer,) = report.layers
    i, f, g, o = layer.gates
    assert (i.closed, i.open, f.closed, f.open) == (1.0, 0.0, 0.0, 1.0)
    assert g.closed is None
    assert abs(g.minimum - np.tanh(0.5)) < 1e-6
    assert (o.closed, o.open) == (0.0, 0.0)
    assert len(report.advice) == 2
    assert "input_gate of layer lstm is closed in 100%" in report.advice[0]
    assert all(sentence in str(report) for sentence in report.advice)


def test_dead_units_of_relu_elu_and_the_hidden_activation():
    assert gate_report(with_biases(g=-1.0, activation="relu"), X).layers[0].dead_candidate == (0, 1)
    assert gate_report(with_biases(g=1.0, activation="relu"), X).layers[0].dead_candidate == ()
    assert gate_report(with_biases(g=-20.0, activation="elu"), X).layers[0].dead_candidate == (0, 1)
    assert gate_report(with_biases(g=-1.0, activation="elu"), X).layers[0].dead_candidate == ()
    assert gate_report(with_biases(g=9.0, activation="relu6"), X).layers[0].dead_candidate == ()  # saturated, but fires
    negative = with_biases(g=-1.0, hidden_activation="relu")
    assert gate_report(negative, X).layers[0].dead_hidden == (0, 1)
    assert any("2 of 2 units of layer lstm are dead" in sentence for sentence in gate_report(negative, X).advice)


def growing(factor):
    """The forget gate is `factor` (linear), so that c grows by it once something came in."""
    return with_biases(i=1.0, f=factor, g=1.0, recurrent_activation="linear", activation="linear")


@pytest.mark.filterwarnings("ignore:.*the cell state can grow:UserWarning")
def test_cell_growth_is_the_forget_gate_and_is_advised_on():
    (layer,) = gate_report(growing(1.5), np.zeros((2, 60, 3), "float32")).layers
    assert abs(layer.growth - 1.5) < 0.01
    np.testing.assert_allclose(layer.cell_maximum[:3], [1, 2.5, 4.75], rtol=1e-5)  # float32
    assert layer.cell_peak[1] == 59
    assert "cell state of layer lstm reached 7.4e+10 at step 59" in layer.advice[0]
    assert "cell_clip" in layer.advice[0]
    assert "relu6" in layer.advice[0]
    (counting,) = gate_report(growing(1.0), np.zeros((2, 150, 3), "float32")).layers
    assert counting.cell_peak == (150.0, 149)  # linear growth is counting
    assert not counting.advice


def test_layers_inside_bidirectional_are_named_and_others_are_listed():
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            keras.layers.Bidirectional(LSTM(2, return_sequences=True), name="both"),
            keras.layers.GRU(2),
        ]
    )
    report = gate_report(model, X)
    assert [layer.layer.split("/")[0] for layer in report.layers] == ["both", "both"]
    assert [layer.backwards for layer in report.layers] == [False, True]
    assert len(report.skipped) == 1
    assert "not examined: gru" in str(report)


def test_mixed_precision_is_measured_as_it_runs():
    layer = LSTM(2, activation="relu", dtype="mixed_float16")
    layer.build((None, 7, 3))
    layer.set_weights([np.full_like(weight, 100.0) for weight in layer.get_weights()])
    (gates,) = gate_report(layer, np.ones((1, 7, 3), "float32")).layers
    assert gates.cell_peak[0] == np.inf  # float16 ends at 65504, float32 would not
    assert "reached inf" in gates.advice[0]


@pytest.mark.any_backend
def test_spectral_radius_of_known_matrices():
    layer = LSTM(2, candidate_activation="relu", name="lstm")
    layer.build((None, None, 3))
    kernel, recurrent, bias = layer.get_weights()
    blocks = [np.diag([0.5, -2.0]), [[0, -1], [1, 0]], [[1.5, 7], [0, 1]], np.zeros((2, 2))]
    layer.set_weights([kernel, np.concatenate(blocks, 1).astype("float32"), bias])
    spectrum = spectral_radius(layer)
    np.testing.assert_allclose([gate.radius for gate in spectrum.gates], [2, 1, 1.5, 0], atol=1e-6)
    np.testing.assert_allclose(
        [gate.norm for gate in spectrum.gates], [2, 1, np.linalg.norm(blocks[2], 2), 0], atol=1e-6
    )
    assert len(spectrum.advice) == 1  # only the candidate is unbounded
    assert "candidate of lstm is unbounded" in spectrum.advice[0]
    layer.set_weights([kernel, np.full_like(recurrent, np.nan), bias])
    assert "not finite" in spectral_radius(layer).advice[0]


def test_spectral_radius_of_the_family():
    stack = keras.layers.RNN([CoupledLSTMCell(2, name="low"), ProjectionLSTMCell(3, 2, name="high")], name="stack")
    stack.build((None, 4, 3))
    low, high = stack.cell.cells
    low.recurrent_kernel.assign(np.concatenate([0.5 * np.eye(2), 2 * np.eye(2), np.zeros((2, 2))], 1))
    high.recurrent_kernel.assign(np.ones((2, 12)))
    high.projection_kernel.assign(np.full((3, 2), 0.1))
    spectrum = spectral_radius(stack).gates
    assert [gate.layer for gate in spectrum] == ["stack/low"] * 3 + ["stack/high"] * 4
    assert [gate.gate for gate in spectrum[:3]] == ["input_gate", "candidate", "output_gate"]
    # ones (2, 3) @ 0.1 (3, 2) is 0.3 everywhere, of eigenvalues 0.6 and 0
    np.testing.assert_allclose([gate.radius for gate in spectrum], [0.5, 2, 0, 0.6, 0.6, 0.6, 0.6], atol=1e-6)
    normal = keras.layers.RNN(LayerNormLSTMCell(2, "relu", recurrent_initializer=keras.initializers.Constant(3.0)))
    normal.build((None, 4, 3))
    assert not spectral_radius(normal).advice  # what comes back is scaled down again


def test_spectral_radius_takes_bidirectional_and_refuses_what_has_no_gates():
    both = keras.layers.Bidirectional(keras.layers.LSTM(2))
    both.build((None, 4, 3))
    assert len(spectral_radius(both).gates) == 8
    with pytest.raises(TypeError, match="received Dense 'head'"):
        spectral_radius(keras.layers.Dense(2, name="head"))
