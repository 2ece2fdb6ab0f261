"""`zoo.export` of models that end in probabilities: what they answer is what is published."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.export import ExportError, export
from zoo.export.contract import Outputs
from zoo.export.last_layer import outputs_of
from zoo.layers import LSTM
from zoo.models import MODELS, SequenceTask, build

CHANNELS, STEPS = 2, 5


class Squashed(keras.layers.Layer):
    """One that says nothing of its activation."""

    def call(self, x):
        return keras.ops.sigmoid(x)


class Shares(keras.layers.Layer):
    """Probabilities, by a layer that does not say so."""

    def call(self, x):
        powers = keras.ops.exp(x)
        return powers / keras.ops.sum(powers, axis=-1, keepdims=True)


HEADS = {
    "no activation": (lambda: [keras.layers.Dense(3)], Outputs.LOGITS),
    "softmax in the layer": (lambda: [keras.layers.Dense(3, "softmax")], Outputs.DISTRIBUTION),
    "softmax layer": (lambda: [keras.layers.Dense(3), keras.layers.Softmax()], Outputs.DISTRIBUTION),
    "softmax operation": (lambda: [keras.layers.Dense(3), keras.ops.softmax], Outputs.DISTRIBUTION),
    "softmax inside a model": (lambda: [keras.Sequential([keras.layers.Dense(3, "softmax")])], Outputs.DISTRIBUTION),
    "softmax by hand": (lambda: [keras.layers.Dense(3), Shares()], Outputs.DISTRIBUTION),
    "sigmoid in the layer": (lambda: [keras.layers.Dense(3, "sigmoid")], Outputs.INDEPENDENT),
    "sigmoid, then dropout": (
        lambda: [keras.layers.Dense(3), keras.layers.Activation("sigmoid"), keras.layers.Dropout(0.5)],
        Outputs.INDEPENDENT,
    ),
}


def own_model(head, each_step=False):
    features = keras.Input((None, CHANNELS), name="features")
    lengths = keras.Input((), dtype="int32", name="lengths")
    x = LSTM(4, return_sequences=each_step)(features)
    for layer in head:
        x = layer(x)
    return keras.Model({"features": features, "lengths": lengths}, x)


def ask(model, x):
    return model({"features": x, "lengths": np.full(len(x), STEPS, "int32")}).numpy()


X = np.random.default_rng(0).normal(size=(3, STEPS, CHANNELS)).astype("float32")


@pytest.mark.parametrize("name", HEADS)
def test_the_layer_or_the_answers_say_what_the_outputs_are(name):
    make, outputs = HEADS[name]
    model = own_model(make())
    assert outputs_of(model, ask(model, X)) is outputs


@pytest.mark.parametrize(
    ("name", "each_step"),
    [
        ("softmax in the layer", False),
        pytest.param("sigmoid in the layer", False, marks=pytest.mark.slow),
        pytest.param("softmax by hand", True, marks=pytest.mark.slow),
        pytest.param("sigmoid in the layer", True, marks=pytest.mark.slow),
        pytest.param("no activation", True, marks=pytest.mark.slow),
    ],
)
def test_what_the_model_answers_is_published(tmp_path, name, each_step):
    make, outputs = HEADS[name]
    model = own_model(make(), each_step)
    kind = "labelling" if each_step else "classification"
    made = export(model, {"kind": kind, "classes": ["a", "b", "c"]}, tmp_path / "m")
    answers = ask(model, X)
    served = tf.saved_model.load(str(made.path)).signatures["serving_default"](features=tf.constant(X))
    probabilities, logits = served["probabilities"].numpy(), served["logits"].numpy()
    np.testing.assert_allclose(logits if outputs is Outputs.LOGITS else probabilities, answers, atol=1e-6)
    inverse = tf.sigmoid if outputs is Outputs.INDEPENDENT else tf.nn.softmax
    np.testing.assert_allclose(probabilities, inverse(logits), atol=1e-6)
    card = json.loads((made.path / "assets.extra/model_card.json").read_text())
    assert card["model_gives"] == outputs.value


def test_a_head_that_does_not_say_what_it_gives_is_refused(tmp_path):
    with pytest.raises(ExportError, match="may be logits or probabilities, and its last layer does not tell which"):
        export(own_model([keras.layers.Dense(3), Squashed()]), {"classes": ["a", "b", "c"]}, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_softmax_over_another_axis_is_refused(tmp_path):
    head = [keras.layers.Dense(3), keras.layers.Softmax(axis=1)]
    with pytest.raises(ExportError, match="apply the softmax to the last axis"):
        export(own_model(head, each_step=True), {"kind": "labelling", "classes": ["a", "b", "c"]}, tmp_path / "m")


@pytest.mark.parametrize("wrong", [Outputs.LOGITS, pytest.param(Outputs.INDEPENDENT, marks=pytest.mark.slow)])
def test_the_check_does_not_believe_what_the_graph_was_made_for(tmp_path, monkeypatch, wrong):
    monkeypatch.setattr("zoo.export.last_layer.outputs_of", lambda *_: wrong)
    head = [keras.layers.Dense(3, "softmax" if wrong is Outputs.LOGITS else None)]
    with pytest.raises(ExportError, match="the written model differs"):
        export(own_model(head), {"classes": ["a", "b", "c"]}, tmp_path / "m")


@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_the_zoo_give_logits(name):
    model = build(name, SequenceTask(channels=CHANNELS, classes=3))
    # Answers that could be anything: the layer decides.
    assert outputs_of(model, np.array([[0.2, 0.3, 0.4]])) is Outputs.LOGITS
