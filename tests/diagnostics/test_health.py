"""The callback changes nothing, costs little, and names what is wrong; a diverging LSTM is diagnosed and cured."""

import math

import keras
import numpy as np
import pytest

from zoo.diagnostics import Health
from zoo.layers import LSTM, PeepholeLSTMCell


def series(rows, steps, seed):
    """A positive random walk with a trend, and what it adds up to, scaled to about 1."""
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(size=(rows, steps, 2))).astype("float32")
    return x, x.mean((1, 2), keepdims=False)[:, None]


def compiled(layer, steps, optimizer="adam"):
    model = keras.Sequential([keras.Input((steps, 2)), layer, keras.layers.Dense(1, name="head")])
    model.compile(optimizer, "mse")
    return model


def weights_after(callbacks):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6, 2), batch_size=8),
            keras.layers.GRU(3, return_sequences=True, dropout=0.3, recurrent_dropout=0.3),
            keras.layers.BatchNormalization(),
            LSTM(3, activation="rrelu", dropout=0.3, stateful=True),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    jit = keras.backend.backend() == "jax"  # elsewhere compiling takes longer than it saves
    model.compile("adam", "mse", jit_compile=jit)
    x, y = series(32, 6, seed=0)
    model.fit(x, y, epochs=2, batch_size=8, verbose=0, callbacks=callbacks)
    return model.get_weights()


@pytest.mark.slow
@pytest.mark.any_backend
def test_training_is_the_same_with_and_without_it():
    x, y = series(8, 6, seed=1)
    health = Health(x, y, every=1)
    watched, alone = weights_after([health]), weights_after([])
    assert len(health.history) > 2
    assert all(checkup.flow is not None for checkup in health.history)
    for left, right in zip(watched, alone, strict=True):
        np.testing.assert_array_equal(left, right)


def test_it_looks_when_told_or_when_it_can_afford_to(monkeypatch):
    x, y = series(16, 5, seed=0)
    model = compiled(LSTM(2), 5)

    def looks(epochs, health):
        model.fit(x, y, epochs=epochs, batch_size=4, verbose=0, callbacks=[health])
        return [(checkup.epoch, checkup.batch) for checkup in health.history]

    assert looks(4, Health(x[:4], every=2)) == [(0, 0), (2, 8), (4, 16)]
    monkeypatch.setattr("zoo.diagnostics.health.FREE", 0.0)
    monkeypatch.setattr("zoo.diagnostics.health.SHARE", 0.0)
    never = Health(x[:4])
    assert looks(4, never) == []
    assert never.seconds == 0
    monkeypatch.setattr("zoo.diagnostics.health.FREE", math.inf)
    assert looks(2, Health(x[:4])) == [(0, 0), (0, 1), (0, 2), (0, 4), (1, 4), (1, 8), (2, 8)]


def test_what_would_cost_too_much_waits(monkeypatch):
    x, y = series(16, 5, seed=0)
    monkeypatch.setattr("zoo.diagnostics.health.FREE", 1e6)
    monkeypatch.setattr("zoo.diagnostics.health.FIRST_LOOK", 0.6e6)  # two cells are beyond that, one is not
    model = compiled(keras.layers.RNN([PeepholeLSTMCell(2), PeepholeLSTMCell(2)]), 5)
    health = Health(x[:4], y[:4])
    fit = {"epochs": 1, "batch_size": 4, "verbose": 0, "callbacks": [health]}
    model.fit(x, y, **fit)
    assert not health.history
    monkeypatch.setattr("zoo.diagnostics.health.FIRST_LOOK", 0.4e6)
    monkeypatch.setattr("zoo.diagnostics.health.FIRST_FLOW", 0.6e6)
    model.fit(x, y, **fit)
    assert health.history
    assert health.history[0].flow is None
    assert not health.history[0].gates.skipped
    health.look()
    assert health.history[-1].flow is not None  # asked for, so at any price


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_a_wrong_interval_is_refused(every):
    with pytest.raises(ValueError, match="`every` must be a positive integer, received"):
        Health(np.zeros((1, 2, 2)), every=every)


def test_destroyed_weights_are_reported_once_and_not_looked_at_again():
    x, y = series(16, 5, seed=0)
    model = compiled(LSTM(2, name="lstm"), 5)
    health = Health(x[:4], every=1)
    model.fit(x, np.full_like(y, np.nan), epochs=3, batch_size=4, verbose=0, callbacks=[health])
    assert [finding.subject for finding in health.findings] == ["weights"]
    assert "go back to the last good ones" in str(health)
    assert len(health.history) == 2


STEPS = 150


def train(candidate, hidden):
    """Every recurrent weight 0.15: more comes back from 8 units than goes in, so an unbounded state runs away."""
    keras.utils.set_random_seed(1)
    layer = LSTM(
        8,
        candidate_activation=candidate,
        hidden_activation=hidden,
        recurrent_initializer=keras.initializers.Constant(0.15),
        name="lstm_2",
    )
    model = compiled(layer, STEPS, keras.optimizers.Adam(0.02))
    x, y = series(64, STEPS, seed=0)
    health = Health(x[:8])
    history = model.fit(x, y, epochs=6, batch_size=16, verbose=0, callbacks=[health]).history["loss"]
    return history, health


@pytest.mark.filterwarnings("ignore:.*the cell state can grow:UserWarning")
def test_a_relu_lstm_that_diverges_is_diagnosed_and_the_advised_remedy_trains():
    losses, health = train("relu", "relu")
    assert np.isnan(losses[-1])
    cell = next(finding for finding in health.findings if finding.subject == "lstm_2: cell state")
    bad = health.history[0].non_finite
    assert bad is not None
    assert bad.part == "cell_state"
    assert f"cell state of layer lstm_2 reached inf at step {bad.step}, growing" in cell.advice
    assert STEPS / 2 < bad.step < STEPS
    assert "relu6" in cell.advice
    cured, health = train("relu6", "relu6")
    assert cured[-1] < 0.05 * cured[0], cured
    assert not [finding for finding in health.findings if finding.subject == "lstm_2: cell state"]
