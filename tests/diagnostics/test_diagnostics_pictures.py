"""The pictures show every layer and gate, and do not fail on masked, infinite or missing values."""

import keras
import numpy as np
import pytest

from zoo.diagnostics import gate_report, gradient_flow, plot_cell_growth, plot_gates, plot_gradient_flow
from zoo.layers import LSTM


@pytest.fixture
def model():
    features, mask = keras.Input((6, 2)), keras.Input((6,), dtype="bool")
    both = keras.layers.Bidirectional(LSTM(3, activation="relu", return_sequences=True, name="lstm"), name="both")
    return keras.Model([features, mask], LSTM(2, name="top")(both(features, mask=mask), mask=mask))


def inputs(last):
    return [np.ones((3, 6, 2), "float32"), np.arange(6) < np.full((3, 1), last)]


def texts(figure):
    labels = [text.get_text() for axes in figure.axes for text in (*axes.get_yticklabels(), *axes.texts)]
    legends = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    return " ".join([*labels, *legends])


@pytest.mark.parametrize("last", [6, 4, 0])
@pytest.mark.sample(2)
def test_every_layer_is_in_every_picture(model, last, tmp_path):
    report = gate_report(model, inputs(last))
    flow = gradient_flow(model, inputs(last), np.ones((3, 2), "float32"), "mse")
    figures = {"flow": plot_gradient_flow(flow), "gates": plot_gates(report), "growth": plot_cell_growth(report)}
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size < 150_000
        assert all(layer in texts(figure) for layer in ("both/forward_lstm", "both/backward_lstm", "top")), name
    assert "candidate" in texts(figures["gates"])


def test_an_overflow_is_drawn(tmp_path):
    layer = LSTM(2, activation="relu", name="lstm")
    layer.build((None, 6, 2))
    layer.set_weights([np.full_like(weight, 1e30) for weight in layer.get_weights()])
    figure = plot_cell_growth(gate_report(layer, np.ones((1, 6, 2), "float32")))
    figure.savefig(tmp_path / "overflow.png")
    assert len(figure.axes[0].lines) == 3  # the layer, the step of the overflow, the warning level
