"""Export: the same answers, for every kind of task, from a process that knows nothing of this project."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from exported_forms import (
    CAUSAL,
    CLASSES,
    FORMS,
    LENGTHS,
    OF_EACH_KIND,
    TEXTS,
    Exported,
    features,
    load,
    signature,
    tokens,
)
from tiers import few

from zoo.export.operations import operations
from zoo.models import MODELS


def test_every_model_is_exported_here():
    assert {form.split(" of ")[0] for form in FORMS} == set(MODELS)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("served"))


@pytest.fixture(params=few(list(FORMS), OF_EACH_KIND))
def form(request, exported):
    return exported[request.param]


@pytest.fixture(params=[form for form, (kind, _) in FORMS.items() if kind in ("words", "characters")])
def of_text(request, exported):
    return exported[request.param]


@pytest.fixture(
    params=few(
        [form for form, (kind, _) in FORMS.items() if kind not in ("words", "characters")],
        ["lstm", "cnn_lstm", "conv_lstm", "gru"],
    )
)
def of_numbers(request, exported):
    return exported[request.param]


def inputs_of(form):
    """Signature and inputs of four rows of different lengths."""
    if "vocabulary" in form.task:
        return "serving_default", {"text": np.array([text.encode() for text in TEXTS], object)}
    return "serving_padded", {"features": features(), "lengths": LENGTHS}


def model_inputs(form):
    _, inputs = inputs_of(form)
    if "features" in inputs:
        return inputs
    rows = tokens(form, TEXTS)
    lengths = np.array([len(row) for row in rows], "int32")
    padded = np.zeros((len(rows), lengths.max()), "int32")
    for row, filled in zip(rows, padded, strict=True):
        filled[: len(row)] = row
    return {"features": padded, "lengths": lengths}


def assert_answers(form, found, output, lengths):
    """`found` is what a server gives where the Keras model gives `output`."""
    output = np.array(output)
    if form.kind in ("regression", "forecasting"):
        assert {key: value.dtype for key, value in found.items()} == {"predictions": "f4"}
        np.testing.assert_allclose(found["predictions"], output, atol=1e-5, rtol=1e-6)
        return
    names = form.task["vocabulary" if form.kind == "language_model" else "classes"]
    dtypes = {key: value.dtype for key, value in found.items()}
    assert dtypes == {"logits": "f4", "probabilities": "f4", "class_id": "i8", "label": object}
    # One row, or the steps of one row that are there.
    rows = [np.s_[k, :length] if output.ndim == 3 else np.s_[k] for k, length in enumerate(lengths)]
    for row in rows:
        np.testing.assert_allclose(found["probabilities"][row], tf.nn.softmax(output[row]), atol=1e-6)
        np.testing.assert_allclose(found["logits"][row], output[row], atol=1e-5)  # same operations, fused differently
        best = np.argmax(output[row], -1)
        np.testing.assert_array_equal(found["class_id"][row], best)
        assert np.array_equal(found["label"][row], np.array([name.encode() for name in names], object)[best])
    if output.ndim == 3:
        for k, length in enumerate(lengths):
            assert np.isnan(found["probabilities"][k, length:]).all()
            assert (found["class_id"][k, length:] == -1).all()
            assert (found["label"][k, length:] == b"").all()


@pytest.mark.parametrize(
    "names",
    [pytest.param(["lstm", "gru of words"], id="two"), pytest.param(OF_EACH_KIND, id="all", marks=pytest.mark.slow)],
)
def test_tensorflows_c_library_alone_gives_the_models_answers(exported, tmp_path, names):
    """The loader and the session are those of TensorFlow Serving; neither TensorFlow's Python nor Keras is there."""
    for number, form in enumerate(exported[name] for name in names):
        name, inputs = inputs_of(form)
        np.savez(tmp_path / f"in{number}.npz", **{k: v.tolist() if v.dtype == object else v for k, v in inputs.items()})
        (tmp_path / f"{number}.json").write_text(json.dumps({"path": str(form.result.path), "signature": name}))
    script = """
        import json, sys
        for name in ("zoo", "training", "keras", "tensorflow.python"):
            sys.modules[name] = None  # importing it now raises
        import numpy as np
        from serving.runtime import capi
        from serving.runtime.capi_model import CapiModel
        from serving.runtime.options import Options

        for number in range(int(sys.argv[2])):
            asked = json.load(open(f"{sys.argv[1]}/{number}.json"))
            inputs = dict(np.load(f"{sys.argv[1]}/in{number}.npz"))
            model = CapiModel(capi.library(), __import__("pathlib").Path(asked["path"]), Options())
            feeds = {k: v.astype(object) if v.dtype.kind == "S" else v for k, v in inputs.items()}
            outputs = model.run(asked["signature"], feeds)
            np.savez(f"{sys.argv[1]}/out{number}.npz", **{k: v.astype("S") if v.dtype == object else v
                                                          for k, v in outputs.items()})
            model.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(len(names))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for number, form in enumerate(exported[name] for name in names):
        found = dict(np.load(tmp_path / f"out{number}.npz"))
        found = {k: v.astype(object) if v.dtype.kind == "S" else v for k, v in found.items()}
        inputs = model_inputs(form)
        assert_answers(form, found, form.model(inputs, training=False), inputs["lengths"])


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 2), (1, 64)])
@pytest.mark.sample(2)
def test_batch_and_time_are_dynamic(of_numbers, batch, steps):
    x = np.random.default_rng(1).normal(size=(batch, steps, 3)).astype("float32")
    lengths = np.full(batch, steps, "int32")
    found = signature(of_numbers.result.path)(features=x)
    assert_answers(of_numbers, found, of_numbers.model({"features": x, "lengths": lengths}), lengths)


def test_a_bad_row_spoils_no_other_and_padding_does_not_matter(of_numbers):
    ask = signature(of_numbers.result.path, "serving_padded")
    value = "predictions" if "outputs" in of_numbers.task else "probabilities"
    good = ask(features=features(), lengths=LENGTHS)
    x, lengths = features(), LENGTHS.copy()
    x[1, 3:] = np.nan  # padding
    x[2, 0, 1] = np.inf  # a value that counts
    lengths[3] = 51
    found = ask(features=x, lengths=lengths)
    np.testing.assert_array_equal(found[value][:2], good[value][:2])
    assert np.isnan(found[value][2:]).all()
    if value == "probabilities":
        assert (found["class_id"][2:] == -1).all()
        assert (found["label"][2:] == b"").all()
    answered = ask(features=features(), lengths=np.int32([50, 0, -1, 20]))[value]
    assert np.isfinite(answered.reshape(4, -1)).any(axis=1).tolist() == [True, False, False, True]


def test_wrong_shapes_fail_the_request(exported):
    ask = signature(exported["lstm"].result.path, "serving_padded")
    with pytest.raises(tf.errors.InvalidArgumentError, match="one value for each row"):
        ask(features=features(), lengths=LENGTHS[:1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one time step"):
        ask(features=features()[:, :0], lengths=LENGTHS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="one value for each row"):
        signature(exported["lstm"].result.path, "stream_step")(
            features=features(), lstm_1_hidden=np.zeros((1, 5), "f4"), lstm_1_cell=np.zeros((1, 5), "f4")
        )


# === Text ===


def test_texts_without_a_token_are_rows_without_an_answer(of_text):
    ask = signature(of_text.result.path)
    nothing = "" if of_text.kind == "language_model" else " ?!\n"
    found = ask(text=[nothing, "good"])
    assert np.isnan(found["probabilities"][0]).all()
    assert np.all(found["class_id"][0] == -1)
    assert np.all(found["label"][0] == b"")
    assert np.isfinite(found["probabilities"][1]).all()
    assert np.isnan(ask(text=[nothing])["probabilities"]).all()
    np.testing.assert_allclose(ask(text=["good"])["logits"][0], found["logits"][1], atol=1e-6)


# === Classify, Regress, XLA ===


def example(values):
    listed = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Example(features=tf.train.Features(feature={"features": listed})).SerializeToString()


def test_classify_and_regress_take_examples(exported):
    rows = [row[:length] for row, length in zip(features(), LENGTHS, strict=True)]
    # No values, values of no whole step, and one that is not finite: rows without an answer.
    bad = [example([]), example([1.0] * 5), example([1.0, np.nan, 1.0])]
    inputs = np.array([*(example(row.ravel()) for row in rows), *bad], object)
    for name, key, value, other in (
        ("lstm", "scores", "probabilities", "classify"),
        ("irnn", "outputs", "predictions", "regress"),
    ):
        wanted = signature(exported[name].result.path, "serving_padded")(features=features(), lengths=LENGTHS)[value]
        found = signature(exported[name].result.path, other)(inputs=inputs)
        np.testing.assert_allclose(found[key][:4].reshape(wanted.shape), wanted, atol=1e-6)
        assert np.isnan(found[key][4:]).all()
        assert signature(exported[name].result.path, other)(inputs=inputs[4:5])[key].shape[0] == 1
    classes = signature(exported["lstm"].result.path, "classify")(inputs=inputs)["classes"]
    assert classes.tolist() == [[name.encode() for name in CLASSES]] * 7
    assert found["outputs"].shape == (7,)


def test_classify_takes_examples_of_text(exported):
    path = exported["gru of words"].result.path
    wanted = signature(path)(text=[*TEXTS, ""])["probabilities"]
    texts = [tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()])) for text in TEXTS]
    rows = [tf.train.Example(features=tf.train.Features(feature={"text": text})) for text in texts]
    inputs = np.array([row.SerializeToString() for row in [*rows, tf.train.Example()]], object)
    np.testing.assert_array_equal(signature(path, "classify")(inputs=inputs)["scores"], wanted)


def test_xla_compiles_the_same_model(exported):
    path = exported["lstm"].result.path
    found, wanted = signature(path, "serving_xla")(features=features()), signature(path)(features=features())
    np.testing.assert_allclose(found["logits"], wanted["logits"], atol=1e-6)
    np.testing.assert_array_equal(found["label"], wanted["label"])
    compiled = graph_of(path)
    assert any(node.attr["_XlaMustCompile"].b for node in compiled if "_XlaMustCompile" in node.attr)


def graph_of(path):
    from tensorflow.core.protobuf import saved_model_pb2

    [meta] = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    return [*meta.graph_def.node, *(node for f in meta.graph_def.library.function for node in f.node_def)]


def test_what_a_model_has_and_what_it_lacks(form):
    """Every signature of the contract is there, or there is a reason."""
    there = set(load(str(form.result.path)).signatures)
    names = {"serving_default", "serving_padded", "stream_step", "classify", "regress"}
    assert names <= there | set(form.result.refused)
    assert not there & set(form.result.refused)
    assert all(len(reason) > 10 for reason in form.result.refused.values())


@pytest.mark.slow
def test_reasons_name_the_layer(exported):
    reasons = {name: exported[name].result.refused for name in FORMS}
    assert {name for name in FORMS if "stream_step" not in reasons[name]} == set(CAUSAL)
    assert "'convolution_1' (Conv2D)" in reasons["deep_conv_lstm"]["stream_step"]
    assert "'block_1_convolution' (Conv1D) sees later steps" in reasons["fcn"]["stream_step"]
    assert "fixed number of steps" in reasons["cnn_lstm_parallel"]["stream_step"]
    assert "6 numbers" in reasons["cnn_lstm"]["regress"]
    assert "XLA" in reasons["gru of words"]["serving_xla"]


# === Streams of the written models; each rule has its own test in test_export_streaming.py ===


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.sample(4)
def test_pieces_give_what_the_whole_gives(exported, name, seed):
    form = exported[name]
    rng, step = np.random.default_rng(seed), signature(form.result.path, "stream_step")
    specs = load(str(form.result.path)).signatures["stream_step"].structured_input_signature[1]
    if "vocabulary" in form.task:  # rows of different lengths in every piece
        cut = list if form.kind == "language_model" else str.split
        rows, key = [cut(text) for text in TEXTS], "text"
    else:
        rows, key = list(features()[:, :30]), "features"
    cuts = [sorted(rng.choice(range(1, len(row)), 2 if len(row) > 2 else 0, replace=False)) for row in rows]
    if key == "features":
        cuts = [cuts[0]] * len(rows)
    states = {k: np.zeros((len(rows), *spec.shape[1:]), "f4") for k, spec in specs.items() if k != key}
    whole = signature(form.result.path)(**{key: TEXTS if key == "text" else np.stack(rows)})
    value = "predictions" if "predictions" in whole else "probabilities"
    last = [[] for _ in rows]
    for piece in range(3):
        parts = [
            row[start:end]
            for row, (start, end) in zip(
                rows,
                [([0, *c, len(r)] + [len(r)] * 2)[piece : piece + 2] for r, c in zip(rows, cuts, strict=True)],
                strict=True,
            )
        ]
        between = "" if form.kind == "language_model" else " "
        asked = [between.join(part) for part in parts] if key == "text" else np.stack(parts)
        answer = step(**{key: asked}, **states)
        states = {k: answer[k] for k in states}
        for row, part in enumerate(parts):
            if form.kind in ("labelling", "language_model"):
                last[row].extend(answer[value][row, : len(part)])
            elif len(part):  # an empty piece is answered by NaN and changes nothing
                last[row] = answer[value][row]
            else:
                assert np.isnan(answer[value][row]).all()
    for row, found in enumerate(last):
        wanted = whole[value][row]
        wanted = wanted[: len(rows[row])] if form.kind in ("labelling", "language_model") else wanted
        np.testing.assert_allclose(np.array(found), wanted, atol=1e-6)


def test_a_piece_that_is_not_finite_leaves_the_stream_where_it_was(exported):
    step = signature(exported["lstm"].result.path, "stream_step")
    states = {f"lstm_1_{k}": np.random.default_rng(0).normal(size=(4, 5)).astype("f4") for k in ("hidden", "cell")}
    x = features()[:, :4]
    good = step(features=x, **states)
    x[1, 2, 0] = np.nan
    found = step(features=x, **states)
    assert found["class_id"][1] == -1
    for name, before in states.items():
        np.testing.assert_array_equal(found[name][1], before[1])
        np.testing.assert_array_equal(found[name][[0, 2, 3]], good[name][[0, 2, 3]])


# === Graphs ===


def test_a_server_keeps_no_state_and_draws_nothing(form):
    assert not {op for op in operations(form.result.path) if "Random" in op}
