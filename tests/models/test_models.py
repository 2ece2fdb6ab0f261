"""Every model in `MODELS`, by one contract."""

import keras
import numpy as np
import pytest
from compiling import compiled
from keras import ops
from tiers import few

from zoo.models import MODELS, SequenceTask, build, fixed_steps

pytestmark = pytest.mark.any_backend

TASK = SequenceTask(channels=3, classes=4, mean=(1.0, 2.0, 3.0), variance=(1.0, 4.0, 0.5))
SMALL = {  # smaller than the defaults, to save time
    "lstm": {"units": 5},
    "cnn_lstm": {"units": 5, "filters": 4},
    "cnn_lstm_parallel": {"units": 5, "filters": 4, "dense_units": 6, "steps": 12},
    "conv_lstm": {"filters": 3},
    "deep_conv_lstm": {"filters": 4, "units": 16, "dropout": 0.1},
    "lstm_fcn": {"units": 3, "filters": 4, "branch_dropout": 0.2},
    "mlstm_fcn": {"units": 3, "filters": 4, "squeeze_ratio": 2, "branch_dropout": 0.2},
    "irnn": {"units": 8},
    "gru": {"units": 5},
    "fcn": {"filters": 4},
    "tcn": {"filters": 6, "levels": 2},
}
FORMS = [(name, {}) for name in MODELS] + [
    ("lstm", {"layers": 2, "bidirectional": True, "dropout": 0.1}),
    ("lstm", {"activation": "leaky_relu(0.33)", "forget_gate_activation": "hard_sigmoid"}),
    ("cnn_lstm", {"causal": True, "convolutions": 3}),
    ("lstm_fcn", {"steps": 12}),
    ("gru", {"layers": 2, "bidirectional": True}),
]
LENGTHS = np.array([16, 1, 7, 12, 2], "int32")


def features():
    return np.random.default_rng(0).normal(2, 2, size=(5, 16, 3)).astype("float32")


def small(name, arguments):
    return build(name, TASK, **(SMALL.get(name, {}) | arguments))


def logits(model, x=None, lengths=LENGTHS):
    inputs = {"features": features() if x is None else x, "lengths": lengths}
    if keras.backend.backend() == "jax":
        return model.predict_on_batch(inputs)  # compiled whole: operation by operation takes JAX twice as long
    return ops.convert_to_numpy(model({key: ops.convert_to_tensor(value) for key, value in inputs.items()}))


QUICK = [form for form in FORMS if form[0] in ("lstm", "cnn_lstm", "fcn")]
some_forms = pytest.mark.parametrize(
    ("name", "arguments"),
    [pytest.param(*form, id=str(form), marks=() if form in QUICK else pytest.mark.slow) for form in FORMS],
)


@some_forms
@pytest.mark.sample(3, elsewhere=1)
def test_padding_never_matters(name, arguments):
    model = small(name, arguments)
    expected = logits(model)
    assert expected.shape == (5, 4)
    poisoned = features()
    for row, length in enumerate(LENGTHS):
        poisoned[row, length:] = np.nan
    np.testing.assert_array_equal(logits(model, poisoned), expected)
    for row, length in enumerate(LENGTHS):
        alone = logits(model, features()[row : row + 1, :length], LENGTHS[row : row + 1])
        np.testing.assert_allclose(alone[0], expected[row], atol=1e-5)  # another shape, other float32 sums


@some_forms
@pytest.mark.sample(4, elsewhere=1)
def test_saved_and_loaded_the_same(name, arguments, tmp_path):
    model = small(name, arguments)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(logits(loaded), logits(model))


@pytest.mark.parametrize("name", few(list(MODELS), ["lstm", "cnn_lstm", "tcn"]))
@pytest.mark.sample(1, elsewhere=0)
def test_learns_to_tell_apart_what_is_easy(name):
    keras.utils.set_random_seed(1)
    labels = np.arange(64) % 4
    x = np.random.default_rng(0).normal(2, 1, size=(64, 10, 3)).astype("float32")
    x[:, :, 0] += 3 * labels[:, None]
    inputs = {"features": x, "lengths": np.full(64, 10, "int32")}
    model = compiled(
        small(name, {}),
        optimizer=keras.optimizers.Adam(0.02),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )
    losses = model.fit(inputs, labels, epochs=20, batch_size=16, verbose=0).history["loss"]
    assert min(losses) < 0.75 * losses[0]  # a model that learns nothing stays at log(4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.sample(4, elsewhere=1)
def test_normalisation_lives_in_the_model(name):
    keras.utils.set_random_seed(0)
    with_statistics = build(name, TASK, **SMALL[name])
    without = build(name, SequenceTask(3, 4), **SMALL[name])
    without.set_weights(with_statistics.get_weights())
    by_hand = (features() - np.float32([1, 2, 3])) / np.sqrt(np.float32([1, 4, 0.5]))
    np.testing.assert_allclose(logits(with_statistics), logits(without, by_hand), atol=1e-5)  # one division apart


def test_logits_are_float32_whatever_the_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert logits(small("cnn_lstm", {})).dtype == np.float32


def test_raw_values_are_normalised_in_float32_whatever_the_precision():
    keras.config.set_dtype_policy("mixed_float16")
    far = SequenceTask(channels=1, classes=2, mean=(1e6,), variance=(1.0,))  # float16 ends at 65504
    model = build("lstm", far, units=2)
    normalized = keras.Model(model.inputs, model.get_layer("normalize").output)
    found = ops.convert_to_numpy(normalized([np.float32([[[1e6 - 1], [1e6 + 2]]]), np.int32([2])]))
    np.testing.assert_array_equal(found.ravel(), [-1, 2])


def test_a_causal_front_sees_no_later_step():
    model = small("cnn_lstm", {"causal": True})
    front = keras.Model(model.inputs, model.get_layer("leaky_relu_2").output)
    later = features()
    later[:, 9:] += 5

    def seen(x):
        return ops.convert_to_numpy(front([x, LENGTHS * 0 + 16]))

    np.testing.assert_array_equal(seen(later)[:, :9], seen(features())[:, :9])
    assert not np.allclose(seen(later)[:, 9:], seen(features())[:, 9:])


@pytest.mark.sample(1, elsewhere=0)
def test_the_question_of_40_by_80_in_6_classes():
    model = build("cnn_lstm_parallel", SequenceTask(channels=80, classes=6))
    assert fixed_steps(model) == 40
    slopes = {layer.negative_slope for layer in model.layers if isinstance(layer, keras.layers.LeakyReLU)}
    assert slopes == {0.33}
    assert model.get_layer("both").output.shape == (None, 10 * 20 * 64 + 64)
    assert model.output_shape == (None, 6)
    assert fixed_steps(build("lstm", TASK)) is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: build("lstn", TASK), "did you mean 'lstm'"),
        (lambda: build("lstm", TASK, layers=0), "`layers` must be a positive integer, received 0"),
        (lambda: build("cnn_lstm_parallel", TASK, steps=0), "positive integer"),
        (lambda: SequenceTask(0, 4), "at least 1 channel"),
        (lambda: SequenceTask(2, 4, mean=(1.0,), variance=(1.0,)), "2 values"),
        (lambda: SequenceTask(2, 4, mean=(1.0, 1.0)), "variance"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
