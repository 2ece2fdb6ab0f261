"""Losses that Keras does not have, against Keras's own and against their formulas."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo.losses import SmoothedCrossentropy

pytestmark = pytest.mark.any_backend

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 3, size=(4, 6, 5)).astype("float32")
LABELS = RANDOM.integers(0, 5, size=(4, 6)).astype("int32")
WEIGHTS = RANDOM.integers(0, 2, size=(4, 6)).astype("float32")


@pytest.mark.parametrize("each_step", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_smoothed_crossentropy_is_that_of_keras_on_one_hot_labels(each_step, weighted):
    part = np.s_[:] if each_step else np.s_[:, 0]
    weights = WEIGHTS[part] if weighted else None
    ours = SmoothedCrossentropy(0.2, reduction="mean_with_sample_weight")
    keras_own = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.2, reduction="mean_with_sample_weight"
    )
    expected = keras_own(np.eye(5, dtype="float32")[LABELS[part]], LOGITS[part], weights)
    assert float(ours(LABELS[part], LOGITS[part], weights)) == pytest.approx(float(expected), rel=1e-6)


def test_smoothed_crossentropy_is_its_formula():
    logits = LOGITS.astype("float64")
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    right = np.take_along_axis(log_p, LABELS[..., None], axis=-1)[..., 0]
    each = -(0.9 * right + 0.1 * log_p.mean(axis=-1))
    found = SmoothedCrossentropy(0.1, reduction="mean_with_sample_weight")(LABELS, LOGITS, WEIGHTS)
    assert float(found) == pytest.approx((each * WEIGHTS).sum() / WEIGHTS.sum(), rel=1e-5)
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(LABELS, LOGITS)
    assert float(SmoothedCrossentropy(0.0)(LABELS, LOGITS)) == pytest.approx(float(plain), rel=1e-6)


def test_smoothed_crossentropy_trains_and_comes_back(tmp_path):
    model = keras.Sequential([keras.Input((6, 5)), keras.layers.Dense(5)])
    loss = SmoothedCrossentropy(0.1, reduction="mean_with_sample_weight")
    model.compile("sgd", loss, jit_compile=keras.backend.backend() == "jax")
    model.fit(LOGITS, LABELS, sample_weight=WEIGHTS, batch_size=4, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.loss.get_config() == loss.get_config()
    expected = float(loss(LABELS, ops.convert_to_tensor(model.predict(LOGITS, verbose=0)), WEIGHTS))
    assert loaded.evaluate(LOGITS, LABELS, sample_weight=WEIGHTS, verbose=0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"`smoothing` is the share .* in \[0, 1\); received"):
        SmoothedCrossentropy(smoothing)
