"""dL/dh against differences, and the verdicts on models whose gradient is known to vanish, explode or flow."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo.diagnostics import gradient_flow
from zoo.diagnostics.flow import FlowMeter
from zoo.diagnostics.recording import record
from zoo.layers import LSTM, BatchNormLSTM, LayerNormLSTMCell, LSTMCell, ProjectionLSTMCell, ZoneoutCell

X = np.random.default_rng(0).normal(size=(4, 6, 2)).astype("float32")
Y = np.ones((4, 1), "float32")
MASK = np.arange(6) < np.array([[6], [3], [5], [1]])


def linear_rnn(weight, steps, mask=False, **arguments):
    """h_t = weight * h_(t-1) + x_t, read out as it is: dL/dh_t is known in closed form."""
    layer = keras.layers.SimpleRNN(
        1,
        activation="linear",
        kernel_initializer="ones",
        recurrent_initializer=keras.initializers.Constant(weight),
        name="rnn",
        **arguments,
    )
    features = keras.Input((steps, 1))
    return keras.Model(features, layer(features))


@pytest.mark.any_backend
@pytest.mark.parametrize("backwards", [False, True])
def test_the_norms_are_those_of_a_linear_recurrence(backwards):
    model = linear_rnn(0.5, 4, go_backwards=backwards)
    flow = gradient_flow(model, np.ones((1, 4, 1), "f"), np.zeros((1, 1), "f"), lambda y, p: ops.sum(p))
    expected = np.array([0.125, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(flow.norms[0], expected[::-1] if backwards else expected, rtol=1e-6)  # powers of two
    np.testing.assert_allclose(flow.ratios[0], 0.125, rtol=1e-6)


@pytest.mark.parametrize(
    ("weight", "verdict"), [(0.7, "vanishing"), (1.4, "exploding"), (1.0, "healthy"), (0.0, "vanishing")]
)
@pytest.mark.sample(3)
def test_verdicts(weight, verdict):
    flow = gradient_flow(linear_rnn(weight, 40), np.ones((2, 40, 1), "f"), np.zeros((2, 1), "f"), "mse")
    assert flow.verdicts == (verdict,), str(flow)
    assert bool(flow.advice) == (verdict != "healthy")
    assert verdict in str(flow)


def test_a_gradient_that_never_arrives_and_one_that_is_nan_have_verdicts_of_their_own():
    dead = keras.Sequential([keras.Input((6, 2)), LSTM(3), keras.layers.Dense(1, kernel_initializer="zeros")])
    assert gradient_flow(dead, X, Y, "mse").verdicts == ("no gradient",)
    assert gradient_flow(linear_rnn(1e30, 4), np.ones((1, 4, 1), "f"), Y[:1], "mse").verdicts == ("not finite",)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: [LSTM(3, return_sequences=True), LSTM(3)],
        lambda: [keras.layers.Bidirectional(LSTM(3, return_sequences=True)), keras.layers.GRU(3)],
        lambda: [keras.layers.LSTM(3, return_sequences=True), keras.layers.SimpleRNN(3, return_sequences=True)],
        lambda: [
            BatchNormLSTM(3, max_steps=4, return_sequences=True),
            keras.layers.RNN(ProjectionLSTMCell(3, 2), go_backwards=True),
        ],
    ],
)
@pytest.mark.sample(2)
def test_unrolling_keeps_the_models_loss_with_masks(wrap):
    features, mask = keras.Input((6, 2)), keras.Input((6,), dtype="bool")
    x = features
    for layer in wrap():
        x = layer(x, mask=mask)
    model = keras.Model([features, mask], x)
    target = np.zeros(model([X, MASK]).shape, "float32")
    flow = gradient_flow(model, [X, MASK], target, "mse")
    expected = float(ops.mean(ops.square(model([X, MASK]))))
    np.testing.assert_allclose(flow.loss, expected, rtol=1e-5)  # float32, another order of summation
    assert flow.norms.shape == (len(flow.layers), 6)
    assert len(flow.layers) == (3 if "two" in flow.layers[0] or "bidirectional" in flow.layers[0] else 2)


def test_every_cell_of_a_stack_has_its_gradient():
    cells = [LayerNormLSTMCell(3, name="low"), ZoneoutCell(LSTMCell(2), 0.1, name="high")]
    features = keras.Input((6, 2))
    layer = keras.layers.RNN(cells, name="rnn")
    model = keras.Model(features, layer(features))
    flow = gradient_flow(model, X, np.ones((4, 2), "float32"), "mse")
    assert flow.layers == ("rnn/low", "rnn/high")
    # The loss is a mean of squares over 4 rows and 2 units, and its gradient at the last output is known.
    last = 2 * (ops.convert_to_numpy(model(X)) - 1) / 8
    expected = np.sqrt((np.linalg.norm(last, axis=1) ** 2).mean())
    np.testing.assert_allclose(flow.norms[1, -1], expected, rtol=1e-5)  # float32
    assert (flow.norms > 0).all()


@pytest.mark.any_backend
@pytest.mark.sample(1, elsewhere=0)
def test_compiling_changes_nothing():
    model = keras.Sequential(
        [keras.Input((6, 2)), keras.layers.RNN(ZoneoutCell(LSTMCell(3), 0.1)), keras.layers.Dense(1)]
    )
    meters = [FlowMeter(model, X, Y, "mse", record(model, X), compiled) for compiled in (False, True)]
    for _ in range(2):
        eager, compiled = (meter() for meter in meters)
        # Float32 in another order of summation.
        np.testing.assert_allclose(eager.norms, compiled.norms, rtol=1e-4)
        np.testing.assert_allclose(eager.loss, compiled.loss, rtol=1e-5)
        model.set_weights([2 * weight for weight in model.get_weights()])  # and new weights are seen


def test_masked_steps_are_left_out():
    features, mask = keras.Input((6, 2)), keras.Input((6,), dtype="bool")
    model = keras.Model([features, mask], LSTM(3)(features, mask=mask))
    short = np.arange(6) < np.full((4, 1), 4)
    flow = gradient_flow(model, [X, short], np.ones((4, 3), "float32"), "mse")
    assert np.isnan(flow.norms[0, 4:]).all()
    cropped = keras.Sequential([keras.Input((4, 2)), model.layers[-1]])
    np.testing.assert_allclose(
        flow.norms[0, :4], gradient_flow(cropped, X[:, :4], np.ones((4, 3), "float32"), "mse").norms[0], rtol=1e-5
    )  # the same numbers in float32, masked or cropped


def test_a_model_without_recurrence_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")])
    with pytest.raises(ValueError, match="no recurrent layer"):
        gradient_flow(model, np.ones((2, 3), "f"), Y[:2], "mse")
