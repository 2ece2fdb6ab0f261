"""Export: the same answers, from a process that knows nothing of this project."""

import functools
import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo import export as export_module
from zoo.activations import ACTIVATIONS
from zoo.export import ExportError, export
from zoo.export_ops import ALLOWED, operations, refused_operations
from zoo.models import MODELS, SequenceTask, build

TASK = SequenceTask(channels=3, classes=4, mean=(1.0, 2.0, 3.0), variance=(1.0, 4.0, 0.5))
CLASSES = ("a", "b", "c", "é")
FORMS = [
    *((name, {}) for name in MODELS),
    ("lstm", {"layers": 2, "bidirectional": True, "dropout": 0.1, "recurrent_dropout": 0.1}),
    ("lstm", {"activation": "rrelu", "candidate_activation": "prelu"}),
    ("cnn_lstm", {"causal": True}),
]
SMALL = {"conv_lstm": {"filters": 3}, "fcn": {"filters": 4}, "tcn": {"filters": 4}}
LENGTHS = np.array([50, 3, 1, 20], "int32")


def features():
    return np.random.default_rng(0).normal(2, 2, size=(4, 50, 3)).astype("float32")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One model of each form: name -> (Keras model, folder)."""
    made = {}
    for name, arguments in FORMS:
        model = build(name, TASK, **(SMALL.get(name, {"units": 5}) | arguments))
        made[f"{name} {arguments}"] = (model, export(model, CLASSES, tmp_path_factory.mktemp(name) / "served"))
    return made


load = functools.cache(tf.saved_model.load)


def signature(path, name="serving_padded"):
    function = load(str(path)).signatures[name]
    return lambda **feeds: {k: v.numpy() for k, v in function(**{k: tf.constant(v) for k, v in feeds.items()}).items()}


def test_a_process_without_the_zoo_gives_the_same_probabilities(exported, tmp_path):
    np.savez(tmp_path / "in.npz", features=features(), lengths=LENGTHS)
    (tmp_path / "paths.json").write_text(json.dumps({key: str(path) for key, (_, path) in exported.items()}))
    script = """
        import json, sys
        sys.modules["zoo"] = sys.modules["training"] = None  # importing either now raises
        import numpy as np
        import tensorflow as tf

        folder = sys.argv[1]
        inputs = {key: tf.constant(value) for key, value in np.load(folder + "/in.npz").items()}
        for number, path in enumerate(json.load(open(folder + "/paths.json")).values()):
            served = tf.saved_model.load(path)
            outputs = served.signatures["serving_padded"](**inputs)
            np.savez(f"{folder}/{number}.npz", **{k: np.array(v.numpy().tolist()) for k, v in outputs.items()})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True, timeout=300)
    for number, (model, _) in enumerate(exported.values()):
        found = np.load(tmp_path / f"{number}.npz")
        logits = model({"features": features(), "lengths": LENGTHS}, training=False)
        np.testing.assert_allclose(found["probabilities"], tf.nn.softmax(logits), atol=1e-6)  # same operations
        np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
        np.testing.assert_array_equal(found["class_id"], np.argmax(logits, -1))
        assert found["label"].tolist() == [CLASSES[k].encode() for k in np.argmax(logits, -1)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 64])
def test_batch_and_time_are_dynamic(exported, batch, steps):
    for model, path in exported.values():
        x = np.random.default_rng(1).normal(size=(batch, steps, 3)).astype("float32")
        found = signature(path, "serving_default")(features=x)
        assert found["probabilities"].shape == (batch, 4)
        expected = model({"features": x, "lengths": np.full(batch, steps, "int32")})
        np.testing.assert_allclose(found["logits"], expected, atol=1e-5)  # same operations, fused differently


def test_a_bad_row_spoils_no_other_and_padding_does_not_matter(exported):
    for _, path in exported.values():
        ask = signature(path)
        good = ask(features=features(), lengths=LENGTHS)
        x, lengths = features(), LENGTHS.copy()
        x[1, 3:] = np.nan  # padding
        x[2, 0, 1] = np.inf  # a value that counts
        lengths[3] = 51
        found = ask(features=x, lengths=lengths)
        for row in (0, 1):
            np.testing.assert_array_equal(found["logits"][row], good["logits"][row])
        for row in (2, 3):
            assert np.isnan(found["probabilities"][row]).all()
            assert (found["class_id"][row], found["label"][row]) == (-1, b"")
        assert ask(features=features(), lengths=np.int32([50, 0, -1, 20]))["class_id"].tolist()[1:3] == [-1, -1]


def test_outputs_have_the_promised_types(exported):
    for _, path in exported.values():
        found = signature(path)(features=features(), lengths=LENGTHS)
        types = {key: value.dtype for key, value in found.items()}
        assert types == {"logits": "f4", "probabilities": "f4", "class_id": "i8", "label": object}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["cnn_lstm", "cnn_lstm_parallel"])
def test_half_precision_models_serve_float32(policy, name, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = build(name, TASK, units=5)
    found = signature(export(model, CLASSES, tmp_path))(features=features(), lengths=LENGTHS)
    assert found["probabilities"].dtype == np.float32
    assert np.isfinite(found["probabilities"]).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_uses_stock_operations_only(activation, tmp_path):
    model = build("lstm", TASK, units=2, activation=activation, recurrent_activation=activation)
    export_module._write(model, CLASSES, tmp_path / "written")  # some such gates diverge, which export would refuse
    assert refused_operations(tmp_path / "written") == []


def test_the_list_holds_nothing_that_a_server_refuses():
    assert not ALLOWED & {"PyFunc", "EagerPyFunc", "XlaCallModule", "CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"}


def test_a_server_keeps_no_state_and_draws_nothing(exported):
    for _, path in exported.values():
        assert not {op for op in operations(path) if "Random" in op}


def test_a_python_function_in_the_graph_is_refused_by_name(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Callback(keras.layers.Layer):
        def call(self, x):
            return tf.ensure_shape(tf.numpy_function(lambda v: v, [x], tf.float32), x.shape)

    model = build("lstm", TASK, units=2)
    bad = keras.Model(model.input, Callback()(model.output))
    with pytest.raises(ExportError, match="PyFunc"):
        export(bad, CLASSES, tmp_path / "served")
    assert list((tmp_path / "served").iterdir()) == []


def test_versions_count_up_and_nothing_is_overwritten(tmp_path):
    model = build("lstm", TASK, units=2)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "mine").write_text("kept")
    assert export(model, CLASSES, tmp_path).name == "8"
    assert (tmp_path / "7" / "mine").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8"]
    card = json.loads((tmp_path / "8/assets.extra/model_card.json").read_text())
    assert card["classes"] == list(CLASSES)
    assert card["parity_max_abs_difference"] < 1e-5


def test_an_export_that_lost_the_race_takes_the_next_version(tmp_path, monkeypatch):
    flush = export_module._flush

    def another_export_finishes(path):
        (tmp_path / "1").mkdir(exist_ok=True)
        (tmp_path / "1" / "theirs").touch()
        flush(path)

    monkeypatch.setattr(export_module, "_flush", another_export_finishes)
    assert export(build("lstm", TASK, units=2), CLASSES, tmp_path).name == "2"
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["theirs"]


def test_what_differs_from_the_model_is_not_published(tmp_path, monkeypatch):
    model = build("lstm", TASK, units=2)
    write = export_module._write

    def corrupted(model, classes, path):
        write(model, classes, path)
        model.set_weights([w + 0.1 for w in model.get_weights()])

    monkeypatch.setattr(export_module, "_write", corrupted)
    with pytest.raises(ExportError, match="differs from the Keras model"):
        export(model, CLASSES, tmp_path / "served")
    assert list((tmp_path / "served").iterdir()) == []


def test_mistakes_are_named(tmp_path, monkeypatch):
    model = build("lstm", TASK, units=2)
    with pytest.raises(ExportError, match="4 outputs"):
        export(model, ("a", "b"), tmp_path)
    with pytest.raises(ExportError, match="4 outputs"):
        export(model, ("a", "b", "c", "c"), tmp_path)
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    with pytest.raises(ExportError, match="it has diverged"):
        export(model, CLASSES, tmp_path)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ExportError, match="KERAS_BACKEND=tensorflow"):
        export(model, CLASSES, tmp_path)
