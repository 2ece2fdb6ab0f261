"""The `lstm` model of every cell: padding, training, saving, export, half precision, and what it refuses."""

import functools

import keras
import numpy as np
import pytest
from compiling import compiled
from keras import ops
from tiers import few

from zoo import layers
from zoo.models import SequenceTask, build
from zoo.models.cells import CELLS

TASK = SequenceTask(channels=3, classes=4, mean=(1.0, 2.0, 3.0), variance=(1.0, 4.0, 0.5))
BOTH = {"bidirectional": True}
TWO = {"layers": 2, **BOTH}
DROPOUT = {"dropout": 0.2, "recurrent_dropout": 0.2}
ZONEOUT = {"zoneout_h": 0.1, "zoneout_c": 0.2}
FORMS = {
    **{name: {"cell": name} for name in CELLS},
    "layer_norm, all": {"cell": "layer_norm", "chrono_steps": 20.0, **BOTH, **DROPOUT, **ZONEOUT},
    "batch_norm, all": {"cell": "batch_norm", "chrono_steps": 20.0, "max_steps": 6, **BOTH, **DROPOUT},
    "lstm, zoneout": {"cell": "lstm", "cell_clip": 3.0, "activation": "relu", **ZONEOUT},
    "projection, zoneout": {"cell": "projection", "projection": 2, **TWO, **ZONEOUT},
    "cifg, dropout": {"cell": "cifg", "hidden_activation": "prelu", **DROPOUT},
}
# JAX compiles a loop for every layer of a test, so the other backends take each class once and what wraps it.
EVERYWHERE = ("peephole", "coupled", "fgr", *(form for form in FORMS if "," in form))
# What make test takes: everything that a cell can have at once.
QUICK = ("layer_norm, all",)
every_form = pytest.mark.parametrize("form", few(list(FORMS), QUICK))
every_form_here_and_some_elsewhere = pytest.mark.parametrize("form", few(list(FORMS), QUICK, elsewhere=EVERYWHERE))
LENGTHS = np.array([10, 3, 1, 7], "int32")


def features():
    return np.random.default_rng(0).normal(2, 2, size=(4, 10, 3)).astype("float32")


def logits(model, x=None):
    inputs = {"features": features() if x is None else x, "lengths": LENGTHS}
    return ops.convert_to_numpy(model({key: ops.convert_to_tensor(value) for key, value in inputs.items()}))


def untrained(form):
    return build("lstm", TASK, units=5, **FORMS[form])


@functools.cache
def trained(form):
    """A model after one step, so that no weight and no statistic is where it started."""
    model = compiled(
        untrained(form),
        optimizer=keras.optimizers.Adam(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )
    before = model.get_weights()
    history = model.fit({"features": features(), "lengths": LENGTHS}, np.arange(4), batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(moved), [w.path for w, m in zip(model.weights, moved, strict=True) if not m]
    return model


@every_form_here_and_some_elsewhere
@pytest.mark.sample(1, elsewhere=0)
def test_trains_saves_and_never_sees_the_padding(form, tmp_path):
    model = trained(form)
    expected = logits(model)
    poisoned = features()
    for row, length in enumerate(LENGTHS):
        poisoned[row, length:] = np.nan
    np.testing.assert_array_equal(logits(model, poisoned), expected)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(logits(keras.models.load_model(tmp_path / "m.keras")), expected)
    model.save_weights(tmp_path / "m.weights.h5")
    never_called = untrained(form)
    never_called.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(logits(never_called), expected)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(logits(clone), expected)


@every_form_here_and_some_elsewhere
@pytest.mark.sample(1, elsewhere=0)
def test_half_precision_stays_near(form):
    model = trained(form)  # kept for other tests: not to be made in half precision
    policy = "mixed_float16" if "norm" in form else "mixed_bfloat16"  # float16 is what a sum of squares overflows
    keras.config.set_dtype_policy(policy)
    half = untrained(form)
    half.set_weights(model.get_weights())
    found = logits(half)
    assert found.dtype == np.float32
    # bfloat16 has 8 bits; ten steps of states of size 1, weighted by a dense layer of five units
    np.testing.assert_allclose(found, logits(model), atol=0.15)


# Not on the other backends: a SavedModel is TensorFlow's, and zoo.export says so.
@every_form
@pytest.mark.sample(1)
def test_what_is_exported_answers_as_the_model_does(form, tmp_path):
    import tensorflow as tf

    from zoo.export import export
    from zoo.export.operations import operations

    model = trained(form)
    path = export(model, {"classes": ["a", "b", "c", "d"]}, tmp_path).path
    served = tf.saved_model.load(str(path)).signatures["serving_padded"]
    found = served(features=tf.constant(features()), lengths=tf.constant(LENGTHS))
    np.testing.assert_allclose(found["logits"], logits(model), atol=1e-5)  # same operations, fused differently
    assert not {op for op in operations(path) if "Random" in op}


def test_arguments_reach_the_cells():
    zoned = build("lstm", TASK, units=5, cell="peephole", chrono_steps=50.0, **TWO, **DROPOUT, **ZONEOUT)
    for name in ("bidirectional_1", "bidirectional_2"):
        both = zoned.get_layer(name)
        for layer in (both.forward_layer, both.backward_layer):
            assert layer.cell.rates == (0.1, 0.2)
            inner = layer.cell.cell
            assert isinstance(inner, layers.PeepholeLSTMCell)
            assert (inner.dropout, inner.recurrent_dropout) == (0.2, 0.2)
            bias = ops.convert_to_numpy(inner.bias)
            np.testing.assert_array_equal(bias[:5], -bias[5:10])
            assert 0 <= bias[5:10].min() <= bias[5:10].max() <= np.log(49)
    clipped = build("lstm", TASK, cell_clip=2.0, engine="reference").get_layer("lstm_1")
    assert (clipped.cell_clip, clipped.engine) == (2.0, "reference")
    assert build("lstm", TASK, cell="batch_norm", max_steps=7).get_layer("lstm_1").cell.max_steps == 7
    assert build("lstm", TASK, cell="projection", units=7).get_layer("lstm_1").cell.projection == 4
    assert build("lstm", TASK, cell="projection", projection=3).get_layer("lstm_1").output.shape == (None, 3)
    assert build("lstm", TASK, cell="fgr").get_layer("lstm_1").cell.variant == "FGR"
    for name, blocks in (("lstm", 4), ("coupled", 3), ("batch_norm", 4)):
        cell = build("lstm", TASK, cell=name, units=5, identity_recurrent=0.5).get_layer("lstm_1").cell
        found = ops.convert_to_numpy(cell.recurrent_kernel)
        np.testing.assert_array_equal(found, np.tile(0.5 * np.eye(5, dtype="float32"), blocks))


lstm = functools.partial(build, "lstm", TASK)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lstm(cell="layernorm"), "unknown cell 'layernorm'; did you mean 'layer_norm'"),
        (lambda: lstm(cell="NIG"), "unknown cell 'NIG'.* Valid: batch_norm, cifg, .*nig"),
        (lambda: lstm(cell="layer_norm", engine="reference"), "'layer_norm' has no `engine`.* has it: 'lstm'"),
        (lambda: lstm(cell="np", cell_clip=3.0), "'np' has no `cell_clip`, received 3.0.* has it: 'lstm'"),
        (lambda: lstm(cell="lstm", projection=3), "'lstm' has no `projection`.* has it: 'projection'"),
        (lambda: lstm(cell="coupled", max_steps=3), "'coupled' has no `max_steps`.* has it: 'batch_norm'"),
        (lambda: lstm(zoneout_h=0.1, engine="reference"), "'lstm' with zoneout has no `engine`"),
        (lambda: lstm(cell="batch_norm", zoneout_c=0.1), "'batch_norm' has its own loop.*zoneout_c=0.1"),
        (lambda: lstm(zoneout_h=1.5), r"`zoneout_h` .* in \[0, 1\]; received 1.5"),
        (lambda: lstm(chrono_steps=1), "`max_steps` must be a number of steps greater than 2, received 1"),
        (lambda: lstm(cell="coupled", chrono_steps=9), "has only input_gate, candidate, output_gate"),
        (lambda: lstm(cell="projection", units=4, identity_recurrent=1.0), "without square blocks"),
        (lambda: lstm(identity_recurrent=float("nan")), "`gain` must be a finite number"),
        (lambda: lstm(cell="coupled", forget_gate_activation="relu"), "no activation for forget_gate"),
        (lambda: lstm(cell="projection", projection=0), "`projection` must be a positive integer, received 0"),
        (lambda: lstm(cell="peephole", dropout=1.0), r"`dropout` .* \[0, 1\); received 1.0"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.cell=layernorm"], "unknown cell 'layernorm'; did you mean 'layer_norm'\\? Valid: batch_norm, "),
        (["model.cell=layer_norm", "model.engine=reference"], "'layer_norm' has no `engine`"),
        (["model.cel=np"], "did you mean 'model.cell'"),
        (["model.cell=3"], "'model.cell': input should be a valid string; received 3"),
    ],
)
def test_a_configuration_is_refused_by_the_same_words(overrides, message):
    from training.config import ConfigError, load
    from training.train import check_model

    with pytest.raises(ConfigError, match=message):
        check_model(load(overrides=overrides))
    assert check_model(load(overrides=["model.cell=layer_norm", "model.chrono_steps=29"])).model.cell == "layer_norm"
