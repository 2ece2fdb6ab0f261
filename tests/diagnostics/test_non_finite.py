"""NaN and overflow planted at known places of random models are named; healthy models get no finding."""

import keras
import numpy as np
import pytest
from keras import ops
from oracles import ORACLE

from zoo.diagnostics import find_non_finite
from zoo.diagnostics.replay import PARTS
from zoo.layers import LSTM

ACTIVATIONS = ["tanh", "relu", "leaky_relu", "relu6", "softsign", "elu"]
STEPS, CHANNELS, ROWS = 12, 3, 4


def random_model(rng):
    """A stack of one to three zoo LSTMs, some bidirectional; the mask is an input."""
    features, mask = keras.Input((STEPS, CHANNELS)), keras.Input((STEPS,), dtype="bool")
    x, count = features, int(rng.integers(1, 4))
    for index in range(count):
        layer = LSTM(
            int(rng.integers(2, 7)),
            activation=str(rng.choice(ACTIVATIONS)),
            recurrent_activation=str(rng.choice(["sigmoid", "hard_sigmoid"])),
            return_sequences=index < count - 1 or bool(rng.integers(2)),
            go_backwards=bool(rng.integers(2)),
            name=f"lstm_{index}",
        )
        if rng.integers(2):
            layer.go_backwards = False
            layer = keras.layers.Bidirectional(layer, name=f"both_{index}")
        x = layer(x, mask=mask)
    return keras.Model([features, mask], keras.layers.Dense(2)(x))


def lstms(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Bidirectional):
            yield f"{layer.name}/{layer.forward_layer.name}", layer.forward_layer
            yield f"{layer.name}/{layer.backward_layer.name}", layer.backward_layer
        elif isinstance(layer, LSTM):
            yield layer.name, layer


def batch(rng):
    mask = np.arange(STEPS) < rng.integers(3, STEPS + 1, size=(ROWS, 1))
    return rng.normal(size=(ROWS, STEPS, CHANNELS)).astype("float32"), mask


def plant_in_weight(rng, model):
    name, layer = list(lstms(model))[rng.integers(len(list(lstms(model))))]
    weights = layer.get_weights()
    which, unit, gate = int(rng.integers(3)), int(rng.integers(layer.units)), int(rng.integers(4))
    weights[which].reshape(-1, 4 * layer.units)[0, gate * layer.units + unit] = np.nan
    layer.set_weights(weights)
    x, mask = batch(rng)
    # Masks end on the right, so reading backwards starts at the longest row's last step.
    step = int(mask.sum(1).max()) - 1 if layer.go_backwards else 0
    return (x, mask), ("weight", name, PARTS[gate], step, unit)


def plant_in_input(rng, model):
    x, mask = batch(rng)
    row = int(rng.integers(ROWS))
    step, channel = int(rng.integers(mask[row].sum())), int(rng.integers(CHANNELS))
    x[row, step, channel] = np.nan
    x[~mask] = np.inf  # in the padding, where no one reads it
    return (x, mask), ("input", "0", "features", step, channel)


@pytest.mark.any_backend
def test_planted_nan_is_named_in_at_least_19_of_20_models_and_healthy_ones_are_left_alone():
    models = 20 if keras.backend.backend() != "jax" else 3  # JAX compiles every one of them
    named, wrong = 0, []
    for seed in range(models):
        rng = np.random.default_rng(seed)
        model = random_model(rng)
        assert find_non_finite(model, list(batch(rng))) is None
        inputs, expected = (plant_in_weight if seed % 2 else plant_in_input)(rng, model)
        found = find_non_finite(model, list(inputs))
        got = found and (found.origin, found.layer, found.part, found.step, found.unit)
        named += got == expected
        wrong += [] if got == expected else [(seed, got, expected)]
    assert named >= 0.95 * models, wrong


def overflow_oracle(x, kernel, recurrent_kernel, bias):
    """First (step, part) that is not finite in float32, from the equations alone: sigmoid gates, relu candidate."""
    units = recurrent_kernel.shape[0]
    h = c = np.zeros((len(x), units), "float32")
    for step in range(x.shape[1]):
        z = x[:, step] @ kernel + h @ recurrent_kernel + bias
        i, f, o = (ORACLE["sigmoid"](z[:, gate * units : (gate + 1) * units]) for gate in (0, 1, 3))
        g = ORACLE["relu"](z[:, 2 * units : 3 * units])
        c = f * c + i * g
        h = o * ORACLE["relu"](c)
        for part, values in zip(PARTS, (i, f, g, o, c, h), strict=True):
            if not np.isfinite(values).all():
                return step, part
    return None


@pytest.mark.any_backend
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_an_overflow_is_found_at_the_step_and_gate_that_the_equations_say():
    steps_found = set()
    for seed in range(10 if keras.backend.backend() != "jax" else 3):
        rng = np.random.default_rng(seed)
        layer = LSTM(3, activation="relu", name="lstm", return_sequences=True)
        model = keras.Sequential([keras.Input((30, 2)), layer, keras.layers.Dense(1)])
        kernel, recurrent = (np.abs(weight) for weight in layer.get_weights()[:2])
        bias = layer.get_weights()[2]
        recurrent[:, 6:9] *= 10.0 ** rng.uniform(1.5, 5)
        layer.set_weights([kernel, recurrent, bias])
        x = np.abs(rng.normal(size=(2, 30, 2))).astype("float32")
        expected = overflow_oracle(x, kernel, recurrent, bias)
        found = find_non_finite(model, x)
        assert expected is not None
        assert found is not None
        assert (found.step, found.part, found.layer, found.origin) == (*expected, "lstm", "value")
        steps_found.add(found.step)
    assert len(steps_found) > 2  # the steps differ, so that a constant answer would fail


@pytest.mark.any_backend
def test_an_infinity_that_later_activations_hide_is_found():
    layer = LSTM(2, candidate_activation="relu", name="lstm")  # tanh of an infinite cell state is 1
    layer.build((None, 4, 2))
    layer.set_weights([np.full_like(weight, 3e38) for weight in layer.get_weights()])
    x = np.ones((1, 4, 2), "float32")
    assert np.isfinite(ops.convert_to_numpy(layer(x))).all()
    layer.set_weights([np.full_like(weight, 1e38) for weight in layer.get_weights()])
    found = find_non_finite(layer, np.full((1, 4, 2), 2.0, "float32"))
    assert found is not None
    assert (found.part, found.step, found.value) == ("candidate", 0, np.inf)


def test_other_layers_are_searched_too():
    model = keras.Sequential(
        [keras.Input((4, 2)), keras.layers.Dense(3, name="first"), LSTM(2), keras.layers.Dense(1, name="head")]
    )
    kernel, bias = model.get_layer("head").get_weights()
    kernel[1, 0] = np.inf
    model.get_layer("head").set_weights([kernel, bias])
    found = find_non_finite(model, np.ones((2, 4, 2), "float32"))
    assert (found.origin, found.layer, found.weight) == ("weight", "head", "kernel[1, 0]")
    model.get_layer("first").set_weights([np.full((2, 3), 3e38), np.zeros(3)])
    found = find_non_finite(model, np.full((2, 4, 2), 9.0, "float32"))
    assert (found.origin, found.layer, found.step, found.row, found.unit) == ("value", "first", 0, 0, 0)
    assert "overflowed" in str(found)
    assert "inf in output of first (step 0, row 0, unit 0)" in str(found)
