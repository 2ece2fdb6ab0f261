"""Every cell of the LSTM family against its equations in NumPy and float64: forward, masks, and two gradients."""

import functools

import keras
import numpy as np
import pytest
from family_oracles import (
    batch_norm,
    central_differences,
    coupled,
    layer_norm,
    lstm_with_zoneout,
    peephole,
    projected,
    unroll,
    variant,
)
from keras import ops
from oracles import ORACLE
from tiers import few

from zoo.activations import ACTIVATIONS
from zoo.layers import (
    BatchNormLSTM,
    CoupledLSTMCell,
    LayerNormLSTMCell,
    LSTMCell,
    PeepholeLSTMCell,
    ProjectionLSTMCell,
    VariantLSTMCell,
    ZoneoutCell,
)
from zoo.layers._gated_cell import GATES
from zoo.layers.variant_lstm import VARIANTS

RNG = np.random.default_rng(0)
BATCH, STEPS, CHANNELS, UNITS = 5, 6, 3, 4
X = RNG.normal(size=(BATCH, STEPS, CHANNELS))

MASKS = {
    "none": np.ones((BATCH, STEPS), bool),
    "right": np.arange(STEPS) < np.array([[6], [3], [1], [5], [4]]),
    "left": np.arange(STEPS) >= np.array([[0], [3], [5], [1], [2]]),
    "holes": np.array([[1, 0, 1, 0, 1, 1], [0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 1, 1], [1] * 6], bool),
    "a whole row": np.arange(STEPS) < np.array([[6], [0], [2], [6], [1]]),
}

CELLS = {
    "layer norm": (functools.partial(LayerNormLSTMCell, UNITS), layer_norm),
    "peephole": (functools.partial(PeepholeLSTMCell, UNITS), peephole),
    "coupled": (functools.partial(CoupledLSTMCell, UNITS), coupled),
    "projection": (functools.partial(ProjectionLSTMCell, UNITS, 2), projected),
    **{name: (functools.partial(VariantLSTMCell, name, UNITS), variant(name)) for name in VARIANTS},
    "zoneout": (lambda **kwargs: ZoneoutCell(LSTMCell(UNITS, **kwargs), 0.3, 0.6), lstm_with_zoneout(0.3, 0.6)),
}


def nudge(layer):
    """Weights far from what an initialiser gives: gains of 1, biases and peepholes of 0 would hide a mistake."""
    layer.build((None, None, CHANNELS))
    weights = [w for w in layer.weights if w.trainable]
    for w in weights:
        w.assign(ops.convert_to_numpy(w) + RNG.normal(size=w.shape) * 0.4)
    return {w.name: ops.convert_to_numpy(w).astype("float64") for w in weights}


def zero_states(cell, dtype="float64"):
    sizes = cell.state_size[:-1] if isinstance(cell, ZoneoutCell) else cell.state_size
    return [np.zeros((BATCH, size), dtype) for size in sizes]


# JAX compiles a loop for every call outside a model, so the other backends get one cell of each kind.
SUBSET = ("layer norm", "FGR", "projection", "zoneout")


@pytest.mark.parametrize("name", few(list(CELLS), SUBSET, elsewhere=SUBSET))
@pytest.mark.sample(6, elsewhere=1)
def test_forward_equals_the_equations_under_every_mask(name):
    make, step = CELLS[name]
    layer = keras.layers.RNN(make(), return_sequences=True)
    weights = nudge(layer)
    for mask in MASKS.values():
        found = ops.convert_to_numpy(layer(X.astype("f"), mask=ops.convert_to_tensor(mask)))
        expected = unroll(step, weights, X, zero_states(layer.cell), mask)
        np.testing.assert_allclose(found, expected, atol=5e-6)  # float32 over 6 steps, values up to 5


@pytest.mark.parametrize(
    "mask", [pytest.param(m, id=k, marks=[pytest.mark.any_backend] * (k == "holes")) for k, m in MASKS.items()]
)
@pytest.mark.sample(1, elsewhere=0)
def test_batch_norm_in_training_equals_the_equations(mask):
    layer = BatchNormLSTM(UNITS, max_steps=4, return_sequences=True)
    weights = nudge(layer)
    found = ops.convert_to_numpy(layer(X.astype("f"), mask=ops.convert_to_tensor(mask), training=True))
    # Statistics of two rows divide by small variances, which enlarges float32's rounding.
    np.testing.assert_allclose(found, batch_norm(weights, X, mask)[0], atol=5e-5)


def by_letter(first):
    """Five activations for the letters of the equations; over all `first` each letter has had each."""
    return {letter: list(ACTIVATIONS)[(first + 4 * k) % len(ACTIVATIONS)] for k, letter in enumerate("ifgoh")}


def arguments(names, gates):
    return {f"{gate}_activation": names[letter] for gate, letter in zip(GATES, "ifgoh", strict=True) if gate in gates}


SMALL, SMALL_MASK = 0.5 * X[:, :3], MASKS["holes"][:, :3]
GROWN = 1e-4  # float32 over 3 steps, in which unbounded gates multiply states up to a few hundred


WITH_GATES = [name for name in CELLS if name != "zoneout"]  # its cell has the gates
PAIRS = [(name, first) for name in WITH_GATES for first in range(len(ACTIVATIONS))]
# Each set of activations in one cell, and each cell with one set or more.
ONE_EACH = [f"{WITH_GATES[first % len(WITH_GATES)]}, {first}" for first in range(len(ACTIVATIONS))]


@pytest.mark.parametrize("pair", few({f"{name}, {first}": (name, first) for name, first in PAIRS}, ONE_EACH))
@pytest.mark.sample(5)
def test_every_activation_in_every_gate(pair):
    name, first = pair
    (make, step), names = CELLS[name], by_letter(first)
    layer = keras.layers.RNN(make(**arguments(names, make().gates)), return_sequences=True)
    weights = slopes_as_published(layer)
    step = functools.partial(step, a={letter: ORACLE[chosen] for letter, chosen in names.items()})
    expected = unroll(step, weights, SMALL, zero_states(layer.cell), SMALL_MASK)
    found = ops.convert_to_numpy(layer(SMALL.astype("f"), mask=ops.convert_to_tensor(SMALL_MASK)))
    np.testing.assert_allclose(found, expected, rtol=GROWN, atol=GROWN)


@pytest.mark.parametrize("first", few(range(len(ACTIVATIONS)), range(0, len(ACTIVATIONS), 5)))
def test_every_activation_in_every_gate_of_batch_norm(first):
    names = by_letter(first)
    functions = {letter: ORACLE[chosen] for letter, chosen in names.items()}
    mean = (1 / 8 + 1 / 3) / 2  # in training the random slope has to be drawn from one number
    given = {gate: f"rrelu({mean}, {mean})" if a == "rrelu" else a for gate, a in arguments(names, GATES).items()}
    layer = BatchNormLSTM(UNITS, max_steps=3, epsilon=0.1, return_sequences=True, **given)
    expected, _ = batch_norm(slopes_as_published(layer), SMALL, SMALL_MASK, epsilon=0.1, a=functions)
    found = ops.convert_to_numpy(layer(SMALL.astype("f"), mask=ops.convert_to_tensor(SMALL_MASK), training=True))
    np.testing.assert_allclose(found, expected, rtol=GROWN, atol=GROWN)


def slopes_as_published(layer):
    """Weights moved as by `nudge`, but what activations learn left where the published function has it."""
    weights = nudge(layer)
    learned = {f"{gate}_{parameter}": start for gate in GATES for parameter, start in (("slope", 0.25), ("beta", 1.0))}
    for w in layer.trainable_weights:
        if w.name in learned:
            w.assign(np.full(w.shape, learned[w.name]))
    return weights


def gradients_of(layer, x, mask, upstream, training):
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = ops.sum(layer(x, mask=mask, training=training) * upstream)
    variables = layer.trainable_weights
    found = tape.gradient(loss, [x, *[v.value for v in variables]])
    return [g.numpy() for g in found], [v.name for v in variables]


@pytest.mark.parametrize("mask", ["none", "left", "holes", "a whole row"])
def test_gradient_of_layer_norm(mask):
    layer = keras.layers.RNN(LayerNormLSTMCell(2, dtype="float64"), return_sequences=True, dtype="float64")
    weights, x = nudge(layer), X[:, :4].copy()
    check_gradient(
        layer,
        x,
        MASKS[mask][:, :4],
        weights,
        lambda: unroll(layer_norm, weights, x, zero_states(layer.cell), MASKS[mask][:, :4]),
    )


@pytest.mark.parametrize("name", few([name for name in CELLS if name != "layer norm"], SUBSET[1:]))
def test_gradient_of_every_other_cell(name):
    make, step = CELLS[name]
    layer = keras.layers.RNN(make(dtype="float64"), return_sequences=True, dtype="float64")
    weights, x, mask = nudge(layer), X[:, :4].copy(), MASKS["holes"][:, :4]
    check_gradient(layer, x, mask, weights, lambda: unroll(step, weights, x, zero_states(layer.cell), mask))


@pytest.mark.parametrize("mask", ["none", "left", "holes", "a whole row"])
@pytest.mark.sample(2)
def test_gradient_of_batch_norm_goes_through_the_statistics(mask):
    layer = BatchNormLSTM(2, max_steps=2, return_sequences=True, dtype="float64")
    weights, x = nudge(layer), X[:, :4].copy()
    check_gradient(
        layer, x, MASKS[mask][:, :4], weights, lambda: batch_norm(weights, x, MASKS[mask][:, :4])[0], training=True
    )


def check_gradient(layer, x, mask, weights, forward, training=False):
    upstream = RNG.normal(size=(BATCH, 4, layer.compute_output_shape(x.shape)[-1]))
    found, names = gradients_of(layer, x, ops.convert_to_tensor(mask), upstream, training)
    expected = central_differences(lambda: float((forward() * upstream).sum()), [x, *(weights[name] for name in names)])
    for name, a, b in zip(["x", *names], found, expected, strict=True):
        # float64; differences of step 1e-5 are good to about 1e-10 of the third derivative, and to 1e-11 / 1e-5.
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5, err_msg=name)


def test_gradient_inside_a_compiled_function_is_the_same():
    import tensorflow as tf

    layer = BatchNormLSTM(2, max_steps=8, return_sequences=True, dtype="float64")
    nudge(layer)
    upstream, mask = RNG.normal(size=(BATCH, STEPS, 2)), tf.constant(MASKS["holes"])

    @tf.function(input_signature=[tf.TensorSpec((None, None, CHANNELS), tf.float64)])
    def compiled(x):
        with tf.GradientTape() as tape:
            loss = ops.sum(layer(x, mask=mask, training=True) * upstream)
        return tape.gradient(loss, [v.value for v in layer.trainable_weights])

    eager = gradients_of(layer, X, mask, upstream, True)[0][1:]
    for a, b in zip(compiled(X), eager, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)  # the same float64 sums in another order


def test_what_stands_in_the_padding_does_not_matter():
    layer = BatchNormLSTM(UNITS, max_steps=4)
    mask, spoiled = ops.convert_to_tensor(MASKS["holes"]), X.astype("f")
    clean = ops.convert_to_numpy(layer(spoiled, mask=mask, training=True))
    spoiled[~MASKS["holes"]] = np.nan
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(spoiled, mask=mask, training=True)), clean)
    found, _ = gradients_of(layer, spoiled, mask, 1.0, True)
    assert all(np.isfinite(gradient).all() for gradient in found)
