"""The gradient check passes right gradients, fails planted wrong ones, and tells kinks from failures."""

import keras
import numpy as np
import pytest
from keras import ops

from zoo.diagnostics import DoublePrecisionRefused, gradient_check
from zoo.layers import LSTM
from zoo.models import SequenceTask, build

X = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
MASK = np.arange(5) < np.array([[5], [2], [4]])


def needs_tensorflow():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.custom_gradient")
    return pytest.importorskip("tensorflow")


def built(layer, shape=(None, 5, 2)):
    layer.build(shape)
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        lambda: LSTM(3, return_sequences=True),
        lambda: LSTM(3, activation="leaky_relu(0.33)", forget_gate_activation="hard_sigmoid", go_backwards=True),
        lambda: LSTM(3, activation="prelu", output_gate_activation="softmax"),
        lambda: keras.layers.GRU(3),
        lambda: keras.layers.Bidirectional(LSTM(2, candidate_activation="elu")),
    ],
)
@pytest.mark.sample(2)
def test_right_gradients_pass_on_every_weight_and_the_input(layer):
    layer = built(layer())
    before = layer.get_weights()
    check = gradient_check(layer, X, samples=5)
    assert check.passed, str(check)
    assert [v.name for v in check.verdicts] == [*(w.path for w in layer.trainable_weights), "input"]
    assert all(v.checked == min(5, w.size) for v, w in zip(check.verdicts, before, strict=False))
    for left, right in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_mask_a_dictionary_of_inputs_and_whole_models_are_taken():
    assert gradient_check(built(LSTM(2)), X, call_arguments={"mask": MASK}, samples=5).passed
    model = build("lstm", SequenceTask(channels=2, classes=3, mean=(0.1, 0.2), variance=(1.0, 2.0)), units=2, layers=2)
    check = gradient_check(model, {"features": X, "lengths": np.array([5, 2, 4], "int32")}, samples=2)
    assert check.passed, str(check)
    assert check.verdicts[-1].name == "input/features"


@keras.saving.register_keras_serializable("tests")
class WrongCube(keras.layers.Layer):
    """x -> (scale * x) ** 3 whose gradient is wrong by `factor` where |x| > `beyond`."""

    def __init__(self, factor=1.01, beyond=0.0, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.beyond = factor, beyond

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="ones")

    def call(self, x):
        import tensorflow as tf

        @tf.custom_gradient
        def cube(y):
            wrong = tf.where(tf.abs(y) > self.beyond, tf.constant(self.factor, y.dtype), tf.ones_like(y))
            return y**3, lambda upstream: upstream * 3 * y**2 * wrong

        return cube(x * self.scale)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "beyond": self.beyond}


@pytest.mark.parametrize("factor", [1.001, 0.0, -1.0])
def test_a_planted_wrong_gradient_fails_and_is_named(factor):
    needs_tensorflow()
    check = gradient_check(built(WrongCube(factor, name="cube"), (None, 4)), np.full((2, 4), 0.7, "float32"))
    assert not check.passed
    assert {v.name: v.outcome for v in check.verdicts} == {"cube/scale": "fail", "input": "fail"}
    assert "gradient of cube/scale is wrong" in check.advice[0]
    assert gradient_check(built(WrongCube(1.0), (None, 4)), np.full((2, 4), 0.7, "float32")).passed


def test_a_wrong_gradient_in_one_weight_of_a_model_leaves_the_layers_above_it_right():
    needs_tensorflow()
    model = keras.Sequential(
        [keras.Input((4,)), WrongCube(1.05, name="cube"), keras.layers.Dense(2, activation="tanh", name="head")]
    )
    check = gradient_check(model, np.linspace(0.2, 0.9, 8, dtype="float32").reshape(2, 4))
    outcomes = {v.name.split("/", 1)[-1]: v.outcome for v in check.verdicts}
    assert outcomes == {
        "cube/scale": "fail",
        "head/kernel": "pass",
        "head/bias": "pass",
        "input": "fail",
    } or outcomes == {
        "scale": "fail",
        "kernel": "pass",
        "bias": "pass",
        "input": "fail",
    }


def test_an_entry_exactly_on_a_kink_is_reported_as_such():
    layer = built(keras.layers.Dense(2, activation="relu", use_bias=False), (None, 3))
    check = gradient_check(layer, np.zeros((1, 3), "float32"))
    kernel, inputs = check.verdicts
    assert check.passed
    assert kernel.outcome == "pass"  # zero inputs: no weight matters, and nothing can be wrong
    assert inputs.outcome == "kinks only"
    assert inputs.kinks == 3


def test_a_kink_that_only_the_larger_step_crosses_is_no_failure():
    layer = built(keras.layers.Dense(1, activation="relu", use_bias=False), (None, 1))
    layer.set_weights([np.ones((1, 1))])
    verdict = gradient_check(layer, np.full((1, 1), 2e-6)).verdicts[-1]
    assert (verdict.outcome, verdict.kinks) == ("kinks only", 1)


def test_a_wrong_gradient_is_not_excused_by_kinks_elsewhere():
    needs_tensorflow()
    layer = keras.Sequential([keras.Input((4,)), WrongCube(1.1), keras.layers.ReLU(), keras.layers.Dense(1)])
    assert not gradient_check(layer, np.array([[0.7, -0.5, 1e-6, 0.0]], "float32")).passed


@keras.saving.register_keras_serializable("tests")
class SingleInside(keras.layers.Dense):
    def call(self, x):
        return ops.cast(super().call(ops.cast(x, "float32")), self.compute_dtype)


@keras.saving.register_keras_serializable("tests")
class SingleOutside(keras.layers.Layer):
    def call(self, x):
        return ops.cast(x, "float32")


class NoConfig(keras.layers.Layer):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def call(self, x):
        return x * self.size


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (SingleInside(2), "changes with a step of 1e-4 in input but not of 1e-11|cannot run in float64"),
        (SingleOutside(), "keeps an output of float32"),
        (NoConfig(2), "cannot run in float64"),
    ],
)
def test_layers_that_cannot_do_float64_are_refused_with_the_reason(layer, reason):
    layer.build((None, 3))
    layer.built = True
    with pytest.raises(DoublePrecisionRefused, match=reason) as raised:
        gradient_check(layer, np.ones((2, 3), "float32"))
    assert raised.value.exit_code == 2


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="received 0 and"):
        gradient_check(built(LSTM(2)), X, samples=0)
    with pytest.raises(ValueError, match="is not built"):
        gradient_check(LSTM(2), X)
