"""NaN and overflow planted at known places of random models are named; healthy models get no finding."""

import keras
import numpy as np
import pytest
from keras import ops
from oracles import ORACLE

from zoo.diagnostics import find_non_finite
from zoo.layers import (
    LSTM,
    BatchNormLSTM,
    CoupledLSTMCell,
    LayerNormLSTMCell,
    LSTMCell,
    PeepholeLSTMCell,
    ProjectionLSTMCell,
    VariantLSTMCell,
    ZoneoutCell,
)

ACTIVATIONS = ["tanh", "relu", "leaky_relu", "relu6", "softsign", "elu"]
STEPS, CHANNELS, ROWS = 5, 3, 4

CELLS = {
    "zoo cell": LSTMCell,
    "layer norm": LayerNormLSTMCell,
    "peephole": PeepholeLSTMCell,
    "coupled": CoupledLSTMCell,
    "projection": lambda units, *a: ProjectionLSTMCell(units, 2, *a),
    "no input gate": lambda units, *a: VariantLSTMCell("NIG", units, *a),
    "full gate recurrence": lambda units, *a: VariantLSTMCell("FGR", units, *a),
    "zoneout": lambda units, *a: ZoneoutCell(LSTMCell(units, *a), 0.1, 0.2),
    "Keras": keras.layers.LSTMCell,
    "stack": lambda units, *a: [
        PeepholeLSTMCell(units, *a, name="low"),
        ZoneoutCell(LSTMCell(3, *a), 0.2, name="high"),
    ],
}
PARTS = LSTMCell.parts
KINDS = ("LSTM", "batch norm", *CELLS)


def recurrent(kind, units, activations, **arguments):
    if kind == "LSTM":
        return LSTM(units, *activations, **arguments)
    if kind == "batch norm":
        return BatchNormLSTM(units, *activations, max_steps=5, **arguments)
    return keras.layers.RNN(CELLS[kind](units, *activations), **arguments)


def random_model(rng, kind, unbounded):
    """A stack of one to three LSTMs, the first of `kind`, some bidirectional; the mask is an input.

    `unbounded`: no activation of the first one hides an infinity, as a sigmoid does.
    """
    features, mask = keras.Input((STEPS, CHANNELS)), keras.Input((STEPS,), dtype="bool")
    x, count = features, int(rng.integers(1, 4))
    for index in range(count):
        activations = str(rng.choice(ACTIVATIONS)), str(rng.choice(["sigmoid", "hard_sigmoid"]))
        if index == 0 and unbounded:
            activations = "leaky_relu", "leaky_relu"
        layer = recurrent(
            kind if index == 0 else str(rng.choice(KINDS)),
            int(rng.integers(2, 7)),
            activations,
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
    """Path, layer and innermost cell of every LSTM."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Bidirectional):
            yield from cells(f"{layer.name}/{layer.forward_layer.name}", layer.forward_layer)
            yield from cells(f"{layer.name}/{layer.backward_layer.name}", layer.backward_layer)
        elif isinstance(layer, keras.layers.RNN):
            yield from cells(layer.name, layer)


def cells(path, layer):
    stacked = isinstance(layer.cell, keras.layers.StackedRNNCells)
    for cell in layer.cell.cells if stacked else [layer.cell]:
        yield f"{path}/{cell.name}" if stacked else path, layer, getattr(cell, "cell", cell)


def batch(rng):
    mask = np.arange(STEPS) < rng.integers(3, STEPS + 1, size=(ROWS, 1))
    return rng.normal(size=(ROWS, STEPS, CHANNELS)).astype("float32"), mask


def kernel_gates(cell):
    return getattr(cell, "kernel_gates", PARTS[:4])


@pytest.mark.parametrize("kind", [kind for kind in CELLS if kind not in ("Keras", "stack")])
def test_a_cell_says_of_each_of_its_weights_which_parts_it_feeds(kind):
    cell = CELLS[kind](4, "prelu")
    cell.build((None, CHANNELS))
    core = cell.cell if kind == "zoneout" else cell
    for weight in core.weights:
        parts = core.columns_of(weight)
        assert set(parts) <= set(PARTS)
        assert len(parts) == 1 or len(parts) * 4 == weight.shape[-1], weight.name
    assert core.columns_of(core.candidate_slope) == ("candidate",)


def plant_in_weight(rng, model):
    """One NaN in a kernel, a recurrent kernel or a bias, anywhere."""
    found = list(lstms(model))
    name, layer, cell = found[rng.integers(len(found))]
    weight = (cell.kernel, cell.recurrent_kernel, cell.bias)[rng.integers(3)]
    unit, gate = int(rng.integers(cell.units)), int(rng.integers(len(kernel_gates(cell))))
    values = np.array(ops.convert_to_numpy(weight))
    values.reshape(-1, len(kernel_gates(cell)) * cell.units)[0, gate * cell.units + unit] = np.nan
    weight.assign(values)
    x, mask = batch(rng)
    # Masks end on the right, so reading backwards starts at the longest row's last step.
    step = int(mask.sum(1).max()) - 1 if layer.go_backwards else 0
    return (x, mask), ("weight", name, kernel_gates(cell)[gate], step, unit)


def plant_in_input(rng, model):
    x, mask = batch(rng)
    row = int(rng.integers(ROWS))
    step, channel = int(rng.integers(mask[row].sum())), int(rng.integers(CHANNELS))
    x[row, step, channel] = np.nan
    x[~mask] = np.inf  # in the padding, where no one reads it
    return (x, mask), ("input", "0", "features", step, channel)


def plant_in_step(rng, model):
    """A finite input and weights with an infinite product for one unit of one gate of the first layer at one step."""
    found = [(name, cell) for name, _, cell in lstms(model) if cell.kernel.shape[0] == CHANNELS and "/high" not in name]
    first = [entry for entry in found if entry[0].split("/")[0] == found[0][0].split("/")[0]]
    name, chosen = first[rng.integers(len(first))]
    unit, gate = int(rng.integers(chosen.units)), int(rng.integers(len(kernel_gates(chosen))))
    for _, cell in found:
        kernel = np.array(ops.convert_to_numpy(cell.kernel))
        kernel[0] = 0
        if cell is chosen:
            kernel[0, gate * cell.units + unit] = 100
        cell.kernel.assign(kernel)
    x, mask = batch(rng)
    row = int(rng.integers(ROWS))
    step = int(rng.integers(mask[row].sum()))
    x[row, step, 0] = 3e37
    if isinstance(chosen, LayerNormLSTMCell):  # it spreads what is not finite over all gates before the first of them
        gate, unit = 0, 0
    return (x, mask), ("value", name, kernel_gates(chosen)[gate], step, unit)


PLANTS = (plant_in_input, plant_in_weight, plant_in_step)


def misnamed(seed, kind, plant):
    """Plant in a model that is healthy otherwise; what was found and expected, where they differ."""
    rng = np.random.default_rng(seed)
    model = random_model(rng, kind, unbounded=plant is plant_in_step)
    healthy = list(batch(rng))
    assert find_non_finite(model, healthy) is None
    inputs, expected = plant(rng, model)
    found = find_non_finite(model, list(inputs))
    got = found and (found.origin, found.layer, found.part, found.step, found.unit)
    return [] if got == expected else [(seed, kind, got, expected)]


# Each kind of cell comes first twice, with two of the plants. The first three have one of each plant.
@pytest.mark.any_backend
@pytest.mark.parametrize("models", [3, pytest.param(2 * len(KINDS), marks=pytest.mark.slow)])
@pytest.mark.sample(1, elsewhere=0)
def test_planted_nan_is_named_in_at_least_19_of_20_models_and_healthy_ones_are_left_alone(models):
    wrong = []
    for seed in range(models):
        plant = PLANTS[(seed + seed // len(KINDS)) % len(PLANTS)]
        wrong += misnamed(seed, KINDS[seed % len(KINDS)], plant)
    assert len(wrong) <= 0.05 * models, wrong


@pytest.mark.any_backend
def test_statistics_of_a_step_are_read_at_that_step():
    layer = BatchNormLSTM(2, max_steps=6, name="lstm")
    layer.build((None, STEPS, CHANNELS))
    layer.cell.steps_seen.assign(6)
    mean = np.zeros((6, 8), "float32")
    mean[3, 5] = np.nan
    layer.cell.moving_mean["recurrent"].assign(mean)
    x, mask = np.ones((2, STEPS, CHANNELS), "float32"), np.array([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], bool)
    found = find_non_finite(layer, x, {"mask": mask})
    # The fourth valid step: the first row has none, the second row's is at position 4.
    assert (found.origin, found.part, found.step, found.row, found.unit) == ("weight", "candidate", 4, 1, 1)
    assert found.weight == "recurrent_moving_mean[3, 5]"


@pytest.mark.parametrize(
    ("cell", "weight", "column", "expected"),
    [
        (lambda: PeepholeLSTMCell(3), "peephole", 7, ("output_gate", 1)),
        (lambda: VariantLSTMCell("NFG", 3), "peephole", 4, ("output_gate", 1)),
        (lambda: VariantLSTMCell("FGR", 3), "gate_recurrent_kernel", 5, ("forget_gate", 2)),
        (lambda: CoupledLSTMCell(3), "kernel", 4, ("candidate", 1)),
        (lambda: LayerNormLSTMCell(3), "recurrent_gain", 11, ("output_gate", 2)),
        (lambda: LayerNormLSTMCell(3), "cell_norm_bias", 2, ("hidden_state", 2)),
        (lambda: ProjectionLSTMCell(3, 12), "projection_kernel", 7, ("hidden_state", 7)),
        (lambda: LSTMCell(3, candidate_activation="prelu"), "candidate_slope", 1, ("candidate", 1)),
        (lambda: LSTMCell(3, hidden_activation="prelu"), "hidden_slope", 1, ("hidden_state", 1)),
        (lambda: ZoneoutCell(PeepholeLSTMCell(3), 0.1), "peephole", 0, ("input_gate", 0)),
    ],
)
def test_every_weight_of_the_family_belongs_to_a_gate(cell, weight, column, expected):
    layer = keras.layers.RNN(cell(), name="rnn")
    layer.build((None, STEPS, CHANNELS))
    variable = next(variable for variable in layer.weights if variable.name == weight)
    values = np.array(ops.convert_to_numpy(variable))
    values[..., column] = np.inf
    variable.assign(values)
    found = find_non_finite(layer, np.ones((1, STEPS, CHANNELS), "float32"))
    assert (found.origin, found.layer, found.part, found.unit) == ("weight", "rnn", *expected)


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


@pytest.mark.any_backend
def test_a_gru_is_searched_step_by_step_after_its_weights():
    layer = keras.layers.GRU(2, name="gru", return_sequences=True)
    layer.build((None, STEPS, CHANNELS))
    x = np.ones((2, STEPS, CHANNELS), "float32")
    kernel, recurrent, bias = layer.get_weights()
    recurrent[1, 0] = np.nan
    layer.set_weights([kernel, recurrent, bias])
    found = find_non_finite(layer, x)
    assert (found.origin, found.layer, found.weight) == ("weight", "gru", "recurrent_kernel[1, 0]")
    grown = keras.layers.GRU(2, activation="linear", name="gru")
    grown.build((None, STEPS, CHANNELS))
    grown.set_weights([np.where(np.arange(6) < 4, 0, 1e20).astype("float32") + 0 * kernel, 0 * kernel[:2], 0 * bias])
    x[1, 3] = 1e20
    found = find_non_finite(grown, x)
    assert (found.origin, found.part, found.step, found.row) == ("value", "hidden_state", 3, 1)
