"""What a configuration does to the updates: rates, decay, precision, and the gradient norms that are recorded."""

import math
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from training.config.schema import OptimizerSection, TrainSection
from training.run.optimizer import OPTIMIZERS, make_optimizer, precision, take_gradient_norm
from zoo.layers import LSTM
from zoo.schedules import WarmUpThenFall

pytestmark = pytest.mark.any_backend

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(0, 0.1, size=(8, 3)).astype("float32")  # so small that a loss times 2^15 stays within float16
Y = RANDOM.normal(0, 0.1, size=(8, 2)).astype("float32")


def section(**keys):
    return OptimizerSection(**{"name": "sgd", "learning_rate": 0.1, "clipnorm": None} | keys)


def compiled(optimizer, policy="float32"):
    """A linear model of one matrix, its loss the mean of squares, or that of a wider one in another precision."""
    with precision(policy):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])
    model.compile(optimizer, "mse", jit_compile=keras.backend.backend() == "jax")
    return model


class Norms(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(take_gradient_norm(self.model.optimizer))


def fit(model, epochs=2):
    norms = Norms()
    model.fit(X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=[norms])
    return norms.epochs


def by_hand(clipnorm, epochs=2, rate=0.1):
    """The norms of each epoch, in NumPy."""
    kernel, bias, found = np.ones((3, 2)), np.zeros(2), []
    for _ in range(epochs):
        norms = []
        for batch in (slice(0, 4), slice(4, 8)):
            error = 2 * (X[batch] @ kernel + bias - Y[batch]) / Y[batch].size
            of_kernel, of_bias = X[batch].T @ error, error.sum(axis=0)
            norms.append(math.sqrt((of_kernel**2).sum() + (of_bias**2).sum()))
            scale = rate * min(1, clipnorm / norms[-1])
            kernel, bias = kernel - scale * of_kernel, bias - scale * of_bias
        found.append({"mean": np.mean(norms), "max": max(norms)})
    return found


@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-5), ("mixed_float16", 5e-3)])
def test_the_norm_is_that_of_the_whole_unscaled_gradient_before_clipping(policy, tolerance):
    optimizer = make_optimizer(section(clipnorm=0.1), TrainSection(precision=policy), steps_per_epoch=2)
    found = fit(compiled(optimizer, policy))
    for epoch, expected in zip(found, by_hand(0.1), strict=True):
        assert epoch == pytest.approx(expected, rel=tolerance)
    assert found[0]["max"] > 0.1


@pytest.mark.parametrize("name", ["adam", "rmsprop", "sgd"])
@pytest.mark.sample(1)
def test_recording_changes_no_bit(name):
    keys = {"weight_decay": 0.1} | ({"momentum": 0.5} if name in ("sgd", "rmsprop") else {})
    train = TrainSection(epochs=3)
    ours = compiled(make_optimizer(section(name=name, clipnorm=0.1, **keys), train, steps_per_epoch=2))
    plain = OPTIMIZERS[name](0.1, global_clipnorm=0.1, **keys)
    plain.exclude_from_weight_decay(var_names=["bias"])  # matrices decay and nothing else
    theirs = compiled(plain)
    fit(ours, epochs=3)
    theirs.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    for left, right in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(("bad", "largest"), [(np.inf, np.inf), (np.nan, np.nan)])
@pytest.mark.parametrize("place", [0, 1])
def test_a_norm_that_is_not_finite_shows(bad, largest, place):
    optimizer, weight = make_optimizer(section(), TrainSection(), steps_per_epoch=1), keras.Variable([1.0])
    gradients = [3.0, 3.0]
    gradients[place] = bad
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor([gradient])], [weight])
    found = take_gradient_norm(optimizer)
    np.testing.assert_equal([found["mean"], found["max"]], [largest, largest])
    optimizer.apply([ops.convert_to_tensor([4.0])], [weight])
    assert take_gradient_norm(optimizer) == {"mean": 4.0, "max": 4.0}


def test_a_token_that_occurs_twice_has_one_gradient():
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, ops.sum(keras.layers.Embedding(4, 2)(inputs), axis=(1, 2)))
    optimizer = make_optimizer(section(), TrainSection(), steps_per_epoch=1)
    model.compile(optimizer, lambda _, y: ops.mean(y), jit_compile=keras.backend.backend() == "jax")
    norms = Norms()
    model.fit(np.int32([[1, 1, 2]]), np.zeros(1), verbose=0, callbacks=[norms])
    assert norms.epochs[0]["max"] == pytest.approx(math.sqrt(2 * (2**2 + 1)))  # two columns, rows 1 and 2


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_saved_model_has_an_optimizer_of_keras_with_its_state(policy, tmp_path):
    train = TrainSection(precision=policy)
    keys = {"name": "adam", "schedule": "cosine", "warmup_epochs": 1.5}
    model = compiled(make_optimizer(section(**keys), train, steps_per_epoch=2), policy)
    fit(model)
    model.save(tmp_path / "m.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = keras.models.load_model(tmp_path / "m.keras")
    inner = getattr(loaded.optimizer, "inner_optimizer", loaded.optimizer)
    assert type(inner) is type(keras.optimizers.Adam())
    assert int(inner.iterations) == 4
    ours = [variable for variable in model.optimizer.variables if not variable.name.startswith("gradient_norm")]
    for left, right in zip(ours, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())
    model.save_weights(tmp_path / "m.weights.h5")
    again = compiled(make_optimizer(section(**keys), train, steps_per_epoch=2), policy)
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "m.weights.h5")
    assert int(again.optimizer.iterations) == 4


def test_an_optimizer_that_records_nothing_is_refused():
    with pytest.raises(TypeError, match="expected an optimizer made by make_optimizer, received"):
        take_gradient_norm(keras.optimizers.SGD())


def test_clipping_by_value_bounds_every_entry_whatever_the_engine():
    model = keras.Sequential([keras.Input((5, 3)), LSTM(2), keras.layers.Dense(1)])
    keys = section(learning_rate=1.0, clipvalue=1e-3)
    optimizer = make_optimizer(keys, TrainSection(), steps_per_epoch=1)
    model.compile(optimizer, "mse", jit_compile=keras.backend.backend() == "jax")
    before = model.get_weights()
    model.fit(np.ones((4, 5, 3), "float32"), np.ones((4, 1), "float32"), verbose=0)
    moves = [np.abs(new - old).max() for new, old in zip(model.get_weights(), before, strict=True)]
    assert max(moves) == pytest.approx(1e-3, rel=1e-3)  # of float32 weights of size 1
    assert take_gradient_norm(optimizer)["max"] > 1e-2


# === Learning rates ===


@pytest.mark.parametrize(
    ("schedule", "falls"),
    [
        ("constant", lambda done: 1.0),
        ("cosine", lambda done: 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2),
        ("linear", lambda done: 1 - 0.95 * done),
        ("exponential", lambda done: 0.05**done),
    ],
)
@pytest.mark.parametrize("warmup", [0.0, 1.5])
def test_rates_are_those_of_the_formulas(schedule, falls, warmup):
    left = {} if schedule == "constant" else {"final_share": 0.05}
    keys = section(learning_rate=0.2, schedule=schedule, warmup_epochs=warmup, **left)
    optimizer = make_optimizer(keys, TrainSection(epochs=10), steps_per_epoch=4)
    rising = int(warmup * 4)
    for step in (0, 1, 5, 6, 7, 20, 39, 40, 99):
        optimizer.iterations.assign(step)
        share = (step + 1) / rising if step < rising else falls(min(1, (step - rising) / (40 - rising)))
        assert float(ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(0.2 * share, rel=1e-5)


def test_what_is_left_at_the_end_is_a_hundredth_unless_said():
    optimizer = make_optimizer(section(schedule="linear"), TrainSection(epochs=2), steps_per_epoch=3)
    optimizer.iterations.assign(6)
    assert float(ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": "steps"}, "`shape` must be one of constant, cosine, linear, exponential; received 'steps'"),
        ({"warmup_steps": 9}, "less than `steps`, received 9 of 9"),
        ({"shape": "exponential", "final_share": 0.0}, "more than 0 for an exponential"),
        ({"final_share": 1.0}, "less than 1, received 1.0"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmUpThenFall(0.1, steps=9, **arguments)


def test_precision_is_put_back_after_an_error():
    with pytest.raises(RuntimeError), precision("mixed_bfloat16"):
        raise RuntimeError
    assert keras.config.dtype_policy().name == "float32"
