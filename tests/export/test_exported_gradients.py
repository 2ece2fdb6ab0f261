"""Gradients through a SavedModel that is loaded again, where clients chain pieces and where padding holds NaN."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiers import few

from zoo.export import export
from zoo.layers import LSTM, SequenceMask
from zoo.models import SequenceTask, build

BATCH, STEPS, CHANNELS, CLASSES = 3, 13, 3, 4
TASK = SequenceTask(channels=CHANNELS, classes=CLASSES, mean=(1.0, 2.0, 3.0), variance=(1.0, 4.0, 0.5))
MODELS = {
    "standard": {},
    "relu": {"activation": "relu"},
    "prelu, two layers": {"activation": "prelu", "layers": 2},
    "clipped": {"cell_clip": 0.5, "activation": "relu6"},
    "layer_norm": {"cell": "layer_norm"},
    "batch_norm": {"cell": "batch_norm"},
    "projection": {"cell": "projection", "projection": 2},
}
LENGTHS = np.array([STEPS, 4, 9], "int32")


class Exported:
    """A model of MODELS with weights that are not small, and what was written of it, loaded again."""

    def __init__(self, name, folder):
        keras.utils.set_random_seed(0)
        self.model = build("lstm", TASK, units=8, **MODELS[name])
        rng = np.random.default_rng(1)
        for weight in self.model.trainable_weights:
            weight.assign(weight.numpy() + rng.normal(0, 0.3, weight.shape))
        made = export(self.model, {"kind": "classification", "classes": list("abcd")}, folder)
        self.loaded = tf.saved_model.load(str(made.path))
        self.signatures = self.loaded.signatures
        # As `zoo.export` keeps them: the variables of the model in its own order.
        places = [v.path for v in self.model.variables]
        self.sources = [self.loaded.weights[places.index(w.path)] for w in self.model.trainable_weights]
        self.x = rng.normal(2, 1, (BATCH, STEPS, CHANNELS)).astype("float32")
        self.u = rng.normal(size=(BATCH, CLASSES)).astype("float32")

    def expected(self, lengths, rows=slice(None)):
        """The gradients of sum(logits * u) for features and weights by Keras's own loop: the reference engine."""
        reference = keras.Model.from_config(self.model.get_config())
        reference.set_weights(self.model.get_weights())
        for layer in reference._flatten_layers():
            if isinstance(layer, LSTM):
                layer.engine = "reference"
        return gradients(
            lambda x: reference({"features": x, "lengths": tf.constant(lengths)}, training=False),
            self.x[rows],
            self.u[rows],
            [weight.value for weight in reference.trainable_weights],
        )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return functools.cache(lambda name: Exported(name, tmp_path_factory.mktemp("exported")))


def gradients(logits, x, u, sources):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        # Rows of NaN are left out of the sum, as in a loss over the rows that were answered.
        given = logits(x)
        loss = tf.reduce_sum(tf.where(tf.math.is_finite(given), given * u, 0))
    return [
        gradient.numpy()
        for gradient in tape.gradient(loss, [x, *sources], unconnected_gradients=tf.UnconnectedGradients.ZERO)
    ]


def agree(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * max(1.0, float(np.abs(other).max())))
    assert min(float(np.abs(gradient).max()) for gradient in theirs) > 1e-4


def chained(exported, cuts):
    """The logits after the last piece, as a function of the whole sequences."""
    step = exported.signatures["stream_step"]
    names = set(step.structured_input_signature[1]) - {"features"}

    def logits(x):
        states = {name: tf.zeros((len(x), *step.structured_input_signature[1][name].shape[1:])) for name in names}
        for start, end in zip([0, *cuts], [*cuts, STEPS], strict=True):
            answer = step(features=x[:, start:end], **states)
            states = {name: answer[name] for name in names}
        return answer["logits"]

    return logits


@pytest.mark.parametrize("name", few(list(MODELS), ["standard"]))
def test_through_a_chain_of_pieces(name, exported):
    exported = exported(name)
    found = gradients(chained(exported, (1, 10)), exported.x, exported.u, exported.sources)
    agree(found, exported.expected(np.full(BATCH, STEPS, "int32")))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_row_that_is_not_answered_spoils_the_gradient_of_no_other(name, exported):
    exported = exported(name)
    bad = exported.x.copy()
    bad[1, 5, 0] = np.nan
    found = gradients(chained(exported, (1, 10)), bad, exported.u, exported.sources)
    theirs = exported.expected(np.full(2, STEPS, "int32"), rows=[0, 2])
    np.testing.assert_array_equal(found[0][1, 5:10], 0)
    agree([found[0][[0, 2]]], theirs[:1])
    assert all(np.isfinite(gradient).all() for gradient in found)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", few(list(MODELS), ["standard"]))
def test_what_stands_in_padding_reaches_no_gradient(name, value, exported):
    exported = exported(name)
    expected = exported.expected(LENGTHS)
    padding = np.arange(STEPS) >= LENGTHS[:, None]
    x = np.where(padding[..., None], np.float32(value), exported.x)
    found = gradients(
        lambda x: exported.signatures["serving_padded"](features=x, lengths=tf.constant(LENGTHS))["logits"],
        x,
        exported.u,
        exported.sources,
    )
    np.testing.assert_array_equal(found[0][padding], 0)
    agree(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["last step", "return_sequences", "backwards", "Bidirectional", "cuts short"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_same_in_what_keras_exports(activation, form, tmp_path):
    arguments = {
        "return_sequences": {"return_sequences": True},
        "backwards": {"go_backwards": True},
        "cuts short": {"return_sequences": True, "zero_output_for_mask": True},
    }
    features = keras.Input((None, CHANNELS), name="features")
    lengths = keras.Input((), name="lengths", dtype="int32")
    layer = LSTM(8, activation=activation, **arguments.get(form, {}))
    layer = keras.layers.Bidirectional(layer) if form == "Bidirectional" else layer
    model = keras.Model([features, lengths], layer(features, mask=SequenceMask()(features, lengths)))
    model.export(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    rng = np.random.default_rng(2)
    x = rng.normal(size=(BATCH, STEPS, CHANNELS)).astype("float32")
    u = tf.constant(rng.normal(size=model([tf.constant(x), tf.constant(LENGTHS)]).shape), tf.float32)
    weights = [weight.value for weight in model.trainable_weights]
    expected = gradients(lambda x: model([x, tf.constant(LENGTHS)]), x, u, weights)
    padding = np.arange(STEPS) >= LENGTHS[:, None]
    x[padding] = np.nan
    names = {variable.name: variable for variable in loaded.trainable_variables}
    found = gradients(
        lambda x: loaded.serve([x, tf.constant(LENGTHS)]), x, u, [names[weight.name] for weight in weights]
    )
    np.testing.assert_array_equal(found[0][padding], 0)
    agree(found, expected)
