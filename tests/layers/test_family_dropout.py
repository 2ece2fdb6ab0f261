"""Dropout and missing biases in the LSTM family: Keras's draws where Keras has the cell, and what each mask is of."""

import keras
import numpy as np
import pytest
from keras import ops
from tiers import few

from zoo import layers
from zoo.models.cells import recurrent_layer

X = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
MASK = np.arange(6) < np.array([[6], [2], [0], [5]])
UNITS = 5

FAMILY = (*layers.CELLS, "LSTMCell")
# JAX compiles a loop for every call outside a model, so the other backends get one of each kind.
EVERYWHERE = ("layer_norm", "projection", "batch_norm", "LSTMCell")
every_cell = pytest.mark.parametrize("name", few(FAMILY, EVERYWHERE, elsewhere=EVERYWHERE))


def layer_of(name, **arguments):
    if name == "LSTMCell":
        layer = keras.layers.RNN(layers.LSTMCell(UNITS, **arguments), return_sequences=True)
    else:
        layer = recurrent_layer(name, UNITS, return_sequences=True, **arguments)
    layer.build((None, None, 3))
    return layer


def outputs(layer, training=True):
    return ops.convert_to_numpy(layer(X, mask=ops.convert_to_tensor(MASK), training=training))


@pytest.mark.any_backend
@pytest.mark.parametrize("rates", [(0.3, 0.0), (0.0, 0.4), (0.3, 0.4)])
@pytest.mark.parametrize("name", ["np", "LSTMCell", "lstm", "LSTMCell, 1"])
@pytest.mark.sample(6, elsewhere=2)
def test_draws_what_keras_draws(name, rates):
    """The variant without peepholes is the plain LSTM, and so has the same draws from the same seed."""
    name, _, implementation = name.partition(", ")
    arguments = {"dropout": rates[0], "recurrent_dropout": rates[1], "seed": 7}
    arguments |= {"implementation": int(implementation)} if implementation else {}
    theirs = keras.layers.RNN(keras.layers.LSTMCell(UNITS, **arguments), return_sequences=True)
    ours = layer_of(name, **arguments)
    theirs.build((None, None, 3))
    ours.set_weights(theirs.get_weights())
    for _ in range(2):  # the second batch draws anew
        np.testing.assert_allclose(outputs(ours), outputs(theirs), atol=1e-6)  # the same float32 operations


def masks_by_gate(cell, step_input, rate):
    """The same for every row, other for every gate and for x and h, and not 0 or 1."""
    width = step_input.shape[-1]
    values = np.random.default_rng(width).uniform(0.5, 2, size=(cell.dropout_mask_count, width))
    return [ops.ones_like(step_input) * ops.cast(row, step_input.dtype) for row in values]


def scaled(kernel, masks):
    """The kernel that does without a mask what `kernel` does with it: each block has rows scaled by its own mask."""
    blocks = np.split(kernel, len(masks), axis=1)
    rows = [ops.convert_to_numpy(mask)[0][:, None] for mask in masks]
    return np.concatenate([block * row for block, row in zip(blocks, rows, strict=True)], axis=1)


@every_cell
@pytest.mark.parametrize("rates", few({"x": (0.5, 0.0), "x and h": (0.5, 0.5)}, ["x and h"]))
@pytest.mark.sample(1, elsewhere=0)
def test_masks_are_of_what_meets_the_kernels_and_hold_for_the_whole_sequence(name, rates, monkeypatch):
    dropping = layer_of(name, dropout=rates[0], recurrent_dropout=rates[1])
    cell, plain = dropping.cell, layer_of(name)
    monkeypatch.setattr(type(cell), "_create_dropout_mask", masks_by_gate)
    plain.set_weights(dropping.get_weights())
    for kernel, width, rate in [("kernel", 3, rates[0]), ("recurrent_kernel", cell.output_size, rates[1])]:
        masks = masks_by_gate(cell, ops.ones((1, width)), rate) if rate else [ops.ones((1, width))]
        weight = getattr(plain.cell, kernel)
        weight.assign(scaled(ops.convert_to_numpy(weight), masks))
    found, expected = outputs(dropping), outputs(plain)
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32; statistics of two rows enlarge its rounding
    undropped = layer_of(name)
    undropped.set_weights(dropping.get_weights())
    np.testing.assert_allclose(outputs(dropping, training=False), outputs(undropped, training=False), atol=1e-6)
    assert np.abs(found - outputs(undropped)).max() > 1e-2


@every_cell
@pytest.mark.sample(3, elsewhere=1)
def test_each_sequence_draws_once_and_inference_never(name, monkeypatch):
    layer, drawn = layer_of(name, dropout=0.5, recurrent_dropout=0.5), []
    create = type(layer.cell)._create_dropout_mask
    monkeypatch.setattr(
        type(layer.cell), "_create_dropout_mask", lambda cell, *given: drawn.append(given[1:]) or create(cell, *given)
    )
    outputs(layer, training=False)
    assert drawn == []
    first = outputs(layer)
    assert drawn == [(0.5,), (0.5,)]  # for x and for h, whatever the number of steps
    assert layer.cell.drawn is None
    assert (np.abs(outputs(layer) - first) > 1e-6).any()


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", [layers.PeepholeLSTMCell, layers.LSTMCell])
def test_a_cell_called_outside_a_layer_drops_too(kind):
    cell = kind(UNITS, dropout=0.5, seed=1)
    states = [np.zeros((4, UNITS), "float32")] * 2
    plain, _ = cell(X[:, 0], states)
    dropped, _ = cell(X[:, 0], states, training=True)
    again, _ = cell(X[:, 0], states, training=True)
    assert not np.allclose(ops.convert_to_numpy(dropped), ops.convert_to_numpy(plain))
    np.testing.assert_array_equal(ops.convert_to_numpy(again), ops.convert_to_numpy(dropped))
    cell.dropout = 0.0
    undropped, _ = cell(X[:, 0], states, training=True)
    np.testing.assert_allclose(ops.convert_to_numpy(undropped), ops.convert_to_numpy(plain), atol=1e-6)


def test_a_frozen_batch_norm_still_drops():
    layer = layer_of("batch_norm", dropout=0.5)
    outputs(layer)
    layer.trainable = False
    assert (np.abs(outputs(layer) - outputs(layer, training=False)) > 1e-4).any()


@every_cell
def test_without_a_bias_it_is_what_it_is_with_a_bias_of_zero(name):
    without, zero = layer_of(name, use_bias=False), layer_of(name, unit_forget_bias=False)
    assert not [w for w in without.weights if w.name == "bias"]
    assert without.cell.get_config()["use_bias"] is False
    others = [w for w in zero.weights if w.name != "bias"]
    for weight, other in zip(without.weights, others, strict=True):
        other.assign(ops.convert_to_numpy(weight))
    np.testing.assert_allclose(outputs(without), outputs(zero), atol=1e-6)  # one float32 addition of zero
