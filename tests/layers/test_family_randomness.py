"""Zoneout's draws, and the statistics that batch normalisation keeps for each step."""

import keras
import numpy as np
import pytest
from family_oracles import batch_norm
from keras import ops
from tiers import few

from zoo.layers import CELLS, BatchNormLSTM, LayerNormLSTMCell, LSTMCell, ZoneoutCell
from zoo.layers.zoneout import _next
from zoo.models.cells import recurrent_layer

RNG = np.random.default_rng(0)
ROWS, STEPS, UNITS = 40, 12, 50


def counting_cell():
    """A cell whose state grows by 1 at every step, so that a step zoned out shows as a difference of 0."""
    return keras.layers.SimpleRNNCell(
        UNITS, "linear", kernel_initializer="zeros", recurrent_initializer="identity", bias_initializer="ones"
    )


def counting_lstm():
    """c grows by 1 at every step and h is the new c: gates held open by their biases, nothing from x and h."""
    return LSTMCell(
        UNITS,
        activation="linear",
        recurrent_activation="hard_sigmoid",
        kernel_initializer="zeros",
        recurrent_initializer="zeros",
        bias_initializer=open_gates,
        unit_forget_bias=False,
    )


def open_gates(shape, dtype=None):
    return ops.convert_to_tensor(np.repeat([10.0, 10.0, 1.0, 10.0], UNITS), dtype=dtype)


def moves(layer, **kwargs):
    """What each step added, (rows, steps, units): 1, or 0 where it was zoned out."""
    outputs = ops.convert_to_numpy(layer(np.zeros((ROWS, STEPS, 1), "f"), training=True, **kwargs))
    return np.diff(outputs, axis=1, prepend=0)


def check_independent_draws(moved, rate):
    assert set(np.unique(moved)) <= {0.0, 1.0}
    spread = np.sqrt(rate * (1 - rate))
    # Five standard deviations of a mean of independent draws, so that a right implementation fails once in 10^6.
    assert abs(1 - moved.mean() - rate) < 5 * spread / np.sqrt(moved.size)
    for axis in range(3):
        other = tuple(k for k in range(3) if k != axis)
        each = 1 - moved.mean(axis=other)
        assert np.abs(each - rate).max() < 5 * spread / np.sqrt(moved.size / moved.shape[axis])
        a = np.take(moved, range(moved.shape[axis] - 1), axis) - (1 - rate)
        b = np.take(moved, range(1, moved.shape[axis]), axis) - (1 - rate)
        assert abs((a * b).mean()) < 5 * spread**2 / np.sqrt(a.size), f"neighbours along axis {axis} depend"


@pytest.mark.any_backend
def test_zoneout_of_h_draws_anew_for_every_unit_row_and_step():
    layer = keras.layers.RNN(ZoneoutCell(counting_cell(), 0.3, seed=1), return_sequences=True)
    first = moves(layer)
    check_independent_draws(first, 0.3)
    second = moves(layer)
    check_independent_draws(second, 0.3)
    assert abs(((first - 0.7) * (second - 0.7)).mean()) < 5 * 0.21 / np.sqrt(first.size)
    np.testing.assert_array_equal(
        moves(keras.layers.RNN(ZoneoutCell(counting_cell(), 0.3, seed=1), return_sequences=True)), first
    )


def test_zoneout_of_c_is_independent_of_that_of_h():
    layer = keras.layers.RNN(ZoneoutCell(counting_lstm(), 0.0, 0.4, seed=1), return_sequences=True)
    moved = moves(layer)[:, 1:]  # h is c of the step before plus 1, so h's first move is always 1
    check_independent_draws(moved, 0.4)
    both = ZoneoutCell(counting_lstm(), 0.5, 0.5, seed=1)
    zeros = [np.zeros((ROWS, UNITS), "f")] * 2
    _, (h, c, _) = both(np.zeros((ROWS, 1), "f"), [*zeros, np.zeros((ROWS, 2), "f")], training=True)
    h, c = ops.convert_to_numpy(h), ops.convert_to_numpy(c)
    assert abs(((h - 0.5) * (c - 0.5)).mean()) < 5 * 0.25 / np.sqrt(h.size)


@pytest.mark.any_backend
def test_masked_steps_hold_and_the_draws_after_them_are_fresh():
    mask = np.ones((ROWS, STEPS), bool)
    mask[: ROWS // 2, 3:6] = False
    layer = keras.layers.RNN(ZoneoutCell(counting_cell(), 0.3, seed=1), return_sequences=True)
    moved = moves(layer, mask=ops.convert_to_tensor(mask))
    assert not moved[: ROWS // 2, 3:6].any()
    check_independent_draws(moved[ROWS // 2 :], 0.3)
    check_independent_draws(moved[: ROWS // 2, 6:], 0.3)


def test_the_limits_of_zoneout():
    x = RNG.normal(size=(3, 4, 2)).astype("f")
    cell = LSTMCell(5)
    frozen = keras.layers.RNN(ZoneoutCell(LSTMCell(5), 1.0, 1.0))
    for training in (False, True):
        assert not ops.convert_to_numpy(frozen(x, training=training)).any()
    free, plain = keras.layers.RNN(ZoneoutCell(cell)), keras.layers.RNN(cell)
    found, expected = ops.convert_to_numpy(free(x, training=True)), ops.convert_to_numpy(plain(x))
    np.testing.assert_allclose(found, expected, atol=1e-6)  # the same float32 operations, compiled differently


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_the_step_counter_counts_in_every_precision(kind):
    for now, after in [((0, 0), (1, 0)), ((254, 7), (255, 7)), ((255, 7), (0, 8)), ((255, 255), (0, 0))]:
        counted = _next(ops.convert_to_tensor([now], dtype=kind))
        assert ops.convert_to_numpy(ops.cast(counted, "float32")).tolist() == [list(map(float, after))]


@pytest.mark.any_backend
def test_a_wrapped_cell_keeps_its_own_dropout_once_a_sequence():
    class Recording(keras.layers.LSTMCell):
        def get_dropout_mask(self, step_input):
            masks.append(super().get_dropout_mask(step_input))
            return masks[-1]

    masks = []
    layer = keras.layers.RNN(ZoneoutCell(Recording(3, dropout=0.5), 0.1))
    layer(np.ones((2, 5, 4), "f"))
    assert masks == []  # nothing is drawn at inference
    layer(np.ones((2, 5, 4), "f"), training=True)
    assert len({id(mask) for mask in masks}) == 1
    assert layer.cell.cell._dropout_mask is None
    assert layer.cell.drawn is None


# === Nothing is drawn at inference ===


def drawing(name, **arguments):
    """A layer over the cell `name`, with random slopes and both kinds of dropout."""
    return recurrent_layer(name, 4, activation="rrelu", dropout=0.5, recurrent_dropout=0.5, **arguments)


HOUSES = {
    "alone": drawing,
    "in Keras's loop": lambda name: keras.layers.RNN(drawing(name).cell),
    "stacked": lambda name: keras.layers.RNN([drawing(name).cell, drawing(name).cell]),
    "zoned out": lambda name: drawing(name, zoneout_h=0.3, zoneout_c=0.3),
    "bidirectional": lambda name: keras.layers.Bidirectional(drawing(name)),
    "over time": lambda name: keras.layers.TimeDistributed(drawing(name)),
}
PLACES = {
    f"{name}, {house}": (name, house)
    for name in CELLS
    for house in HOUSES
    if name != "batch_norm" or house in ("alone", "bidirectional", "over time")  # its cell needs its own loop
}
QUICK = [place for place, (name, _) in PLACES.items() if name == "lstm"]


@pytest.mark.any_backend
@pytest.mark.parametrize("place", few(list(PLACES), [*QUICK, "layer_norm, stacked"], elsewhere=QUICK))
@pytest.mark.sample(6, elsewhere=1)
def test_inference_moves_no_seed_and_no_statistic_and_training_does(place):
    name, house = PLACES[place]
    layer, x = HOUSES[house](name), np.ones((2, 3, 2, 4) if house == "over time" else (2, 3, 4), "f")
    first = ops.convert_to_numpy(layer(x))
    before = [ops.convert_to_numpy(variable.value).copy() for variable in layer.variables]
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), first)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), value, variable.path)
    if keras.backend.backend() == "tensorflow":
        assert not {op for op in operations_of(layer, x) if "Random" in op or "Assign" in op}
    layer(x, training=True)
    seeds = [index for index, variable in enumerate(layer.variables) if "seed_generator" in variable.path]
    assert seeds
    for index in seeds:
        assert (ops.convert_to_numpy(layer.variables[index].value) != before[index]).any()


def operations_of(layer, x):
    """The types of all operations in the graph of a layer at inference."""
    import tensorflow as tf

    graph = tf.function(lambda x: layer(x, training=False)).get_concrete_function(tf.constant(x)).graph.as_graph_def()
    return {
        node.op for part in (graph, *graph.library.function) for node in getattr(part, "node", None) or part.node_def
    }


@pytest.mark.any_backend
def test_random_slopes_are_drawn_once_a_sequence():
    """With the gates open, c grows by slope * -1 at every step: equal steps show one slope for the sequence."""
    cell = LayerNormLSTMCell(4, "linear", "hard_sigmoid", candidate_activation="rrelu(0.1, 0.9)", seed=1)
    layer = keras.layers.RNN(cell, return_state=True)
    layer.build((None, None, 1))
    for w in cell.weights:
        w.assign(np.zeros(w.shape))
    cell.bias.assign(np.repeat([10.0, 10.0, -1.0, 10.0], 4))
    totals = [ops.convert_to_numpy(layer(np.zeros((3, n, 1), "f"), training=True)[2]) for n in (1, 5)]
    assert len(np.unique(totals[1].round(4))) == 12
    assert -totals[1].max() >= 0.5
    assert -totals[1].min() <= 4.5
    assert not np.allclose(totals[0] * 5, totals[1], atol=0.05)  # another sequence, another slope
    mean = ops.convert_to_numpy(layer(np.zeros((3, 5, 1), "f"))[2])
    np.testing.assert_allclose(mean, -2.5, atol=1e-5)  # float32 sums of 0.5


# === Batch normalisation's statistics ===


def trained_on(batches, max_steps, momentum=0.7):
    """The layer after these (x, mask), its weights by name, and the moving averages NumPy expects."""
    layer = BatchNormLSTM(4, max_steps=max_steps, momentum=momentum, return_sequences=True)
    layer.build((None, None, 3))
    weights = {w.name: ops.convert_to_numpy(w).astype("float64") for w in layer.trainable_weights}
    widths = {"input": 16, "recurrent": 16, "cell": 4}
    expected = [{name: (np.zeros(width), np.ones(width)) for name, width in widths.items()} for _ in range(max_steps)]
    for x, mask in batches:
        layer(x.astype("f"), mask=ops.convert_to_tensor(mask), training=True)
        _, found = batch_norm(weights, x, mask)
        for average, batch in zip(expected, found, strict=False):
            for name in widths:
                average[name] = tuple(
                    momentum * old + (1 - momentum) * new for old, new in zip(average[name], batch[name], strict=True)
                )
    return layer, weights, expected


def batches_of(number, steps=6):
    for _ in range(number):
        mask = RNG.random((8, steps)) < 0.7
        mask[0] = True
        yield RNG.normal(size=(8, steps, 3)), mask


@pytest.mark.parametrize("max_steps", [pytest.param(4, marks=pytest.mark.any_backend), 9])
@pytest.mark.sample(1, elsewhere=0)
def test_moving_averages_are_numpys_and_inference_uses_them(max_steps):
    layer, weights, expected = trained_on(batches_of(3), max_steps)
    for name, (means, variances) in {
        name: zip(*(average[name] for average in expected), strict=True) for name in ("input", "recurrent", "cell")
    }.items():
        # float32 statistics of few rows
        np.testing.assert_allclose(ops.convert_to_numpy(layer.cell.moving_mean[name]), means, atol=1e-5)
        np.testing.assert_allclose(ops.convert_to_numpy(layer.cell.moving_variance[name]), variances, atol=1e-5)
    assert int(layer.cell.steps_seen) == min(max_steps, 6)
    # More steps than statistics, or than training reached: the last ones.
    x, mask = RNG.normal(size=(5, 11, 3)), RNG.random((5, 11)) < 0.8
    moments = [expected[min(t, max_steps - 1, 5)] for t in range(11)]
    before = [ops.convert_to_numpy(w) for w in layer.non_trainable_weights]
    found = ops.convert_to_numpy(layer(x.astype("f"), mask=ops.convert_to_tensor(mask)))
    np.testing.assert_allclose(found, batch_norm(weights, x, mask, moments)[0], atol=1e-5)  # float32
    for old, new in zip(before, layer.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(new), old)


def test_an_empty_batch_moves_nothing_and_a_frozen_layer_neither():
    x = RNG.normal(size=(4, 6, 3)).astype("f")
    layer = BatchNormLSTM(4, max_steps=6)
    layer(x, mask=ops.zeros((4, 6), dtype="bool"), training=True)
    layer.trainable = False
    frozen = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_array_equal(frozen, ops.convert_to_numpy(layer(x)))
    assert int(layer.cell.steps_seen) == 0
    assert not ops.convert_to_numpy(layer.cell.moving_mean["input"]).any()


def test_left_and_right_padding_and_both_directions_agree():
    x, lengths = RNG.normal(size=(4, 6, 3)).astype("f"), [6, 2, 4, 5]
    right = np.arange(6) < np.array(lengths)[:, None]
    shifted = np.stack([np.roll(row, 6 - n, axis=0) for row, n in zip(x, lengths, strict=True)])
    reversed_rows = np.stack([np.concatenate([row[:n][::-1], row[n:]]) for row, n in zip(x, lengths, strict=True)])
    layer = BatchNormLSTM(4, max_steps=6)
    backward = BatchNormLSTM(4, max_steps=6, go_backwards=True)
    expected = ops.convert_to_numpy(layer(x, mask=ops.convert_to_tensor(right), training=True))
    backward.build((None, None, 3))
    backward.set_weights(layer.get_weights())
    for found in (
        layer(shifted, mask=ops.convert_to_tensor(right[:, ::-1].copy()), training=True),
        backward(reversed_rows, mask=ops.convert_to_tensor(right), training=True),
    ):
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-5)  # float32, another order


def test_states_go_in_and_out_of_batch_norm():
    x = RNG.normal(size=(4, 6, 3)).astype("f")
    layer = BatchNormLSTM(4, max_steps=1, return_sequences=True, return_state=True)
    whole, h, c = layer(x)
    _, *states = layer(x[:, :2])
    rest, h_again, c_again = layer(x[:, 2:], initial_state=states)
    for a, b in [(whole[:, 2:], rest), (h, h_again), (c, c_again)]:
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-6)  # float32
    zeroed = BatchNormLSTM(4, max_steps=1, return_sequences=True, zero_output_for_mask=True)
    mask = np.ones((4, 6), bool)
    mask[1, 2:4] = False
    out = ops.convert_to_numpy(zeroed(x, mask=ops.convert_to_tensor(mask)))
    assert not out[~mask].any()
    assert out[mask].any(axis=-1).all()
