"""What lies beside the graph, and how a version appears: whole, checked, on disk, never over another."""

import builtins
import errno
import json
import multiprocessing
import os
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo.export
from zoo.export import ExportError, check, export, publish
from zoo.models import SequenceTask, build

TASK = SequenceTask(channels=3, classes=4, mean=(100.0, 2.0, 3.0), variance=(1.0, 4.0, 0.5))
KEPT = {"classes": ["a", "b", "c", "d"]}
FACTS = {
    "name": "speakers",
    "run_id": "3f2a",
    "dataset": {"name": "japanese_vowels", "digest": "abcd", "split_rule": "by speaker", "citation": "Kudo"},
    "metrics": {"test/accuracy": 0.97},
    "config": {"model.units": "5"},
    "git_commit": None,
    "limits": ["nine male speakers", "one | microphone"],
}


def tiny(**arguments):
    return build("irnn", TASK, units=2, **arguments)


@pytest.fixture
def written(monkeypatch):
    """Exports without their slow part: a folder with a file in it, unchecked."""

    def write(model, built, path):
        (path / "saved_model.pb").write_bytes(b"graph")

    monkeypatch.setattr(zoo.export, "write", write)
    for name, value in {"Written": lambda path: None, "check": lambda *a: 0.0, "measure": lambda *a: {}}.items():
        monkeypatch.setattr(check, name, value)
    monkeypatch.setattr(zoo.export, "write_warmup", lambda *a: 0)
    monkeypatch.setattr(zoo.export, "model_card", lambda *a: {})
    monkeypatch.setattr(zoo.export, "write_card", lambda *a: None)
    monkeypatch.setattr(zoo.export, "graph", lambda *a: type("Graph", (), {"signatures": {}, "refused": {}}))


# === Beside the graph ===


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return export(tiny(), KEPT, tmp_path_factory.mktemp("models") / "m", FACTS)


def test_it_says_where_it_is_and_what_was_measured(version):
    assert (version.path.name, version.version) == ("1", 1)
    assert set(version.metrics) == {
        "export/parity_max_abs_difference",
        "export/latency_ms_batch_1",
        "export/latency_ms_batch_32",
        "export/bytes",
    }
    assert version.metrics["export/parity_max_abs_difference"] < 1e-5
    assert all(value > 0 for name, value in version.metrics.items() if "parity" not in name)


def records(version):
    from tensorflow_serving.apis import prediction_log_pb2

    path = version.path / "assets.extra/tf_serving_warmup_requests"
    return [prediction_log_pb2.PredictionLog.FromString(raw.numpy()) for raw in tf.data.TFRecordDataset(str(path))]


def test_warm_up_requests_have_the_answers_that_the_version_gives(version):
    signatures = tf.saved_model.load(str(version.path)).signatures
    asked = []
    for record in records(version):
        if record.HasField("predict_log"):
            request, response = record.predict_log.request, record.predict_log.response
            inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
            found = signatures[request.model_spec.signature_name](**inputs)
            assert set(found) == set(response.outputs)
            for name, proto in response.outputs.items():
                np.testing.assert_array_equal(found[name].numpy(), tf.make_ndarray(proto))
            rows = {len(value) for value in inputs.values()}
            values = inputs["features"].numpy()
            if request.model_spec.signature_name == "serving_default":
                assert abs(values[..., 0].mean() - 100) < 2  # like the training data
        else:
            request, response = record.classify_log.request, record.classify_log.response
            examples = request.input.example_list.examples
            rows = {len(examples)}
            found = signatures["classify"](inputs=tf.constant([example.SerializeToString() for example in examples]))
            for row, scores in zip(response.result.classifications, found["scores"].numpy(), strict=True):
                assert [(c.label, np.float32(c.score)) for c in row.classes] == list(zip("abcd", scores, strict=True))
        assert request.model_spec.name == "speakers"
        asked.append((request.model_spec.signature_name, *rows))
    assert {name for name, _ in asked} == {"serving_default", "serving_padded", "stream_step", "classify"}
    assert len({rows for name, rows in asked if name == "serving_default"}) == 2
    # The second piece of a stream begins where the first one ended.
    first, second = (
        r.predict_log for r in records(version) if r.predict_log.request.model_spec.signature_name == "stream_step"
    )
    assert not np.any(tf.make_ndarray(first.request.inputs["irnn_hidden"]))
    assert second.request.inputs["irnn_hidden"] == first.response.outputs["irnn_hidden"]


def test_given_examples_are_what_is_asked(tmp_path):
    given = [np.full((steps, 3), steps, "float32") for steps in (4, 7, 2)]
    made = export(tiny(), KEPT, tmp_path, xla=True, examples={"features": given})
    sent = [
        tf.make_ndarray(r.predict_log.request.inputs["features"]) for r in records(made) if r.HasField("predict_log")
    ]
    np.testing.assert_array_equal(sent[0], given[0][None])
    assert {array.max() for array in sent} <= {2, 4, 7}
    # A server without XLA, the default, would refuse such a request and with it the model.
    asked = {r.predict_log.request.model_spec.signature_name for r in records(made)}
    assert "serving_xla" not in asked
    assert "serving_xla" in tf.saved_model.load(str(made.path)).signatures


def test_without_the_serve_extra_there_are_no_warm_up_requests(tmp_path, monkeypatch, caplog):
    imported = builtins.__import__

    def without(name, *arguments):
        if name.startswith("tensorflow_serving"):
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    path = export(tiny(), KEPT, tmp_path).path
    assert "sequence-zoo[serve]" in caplog.text
    assert sorted(child.name for child in (path / "assets.extra").iterdir()) == ["MODEL_CARD.md", "model_card.json"]


def test_the_card_states_what_is_known_and_what_is_not(version):
    folder = version.path / "assets.extra"
    card, page = json.loads((folder / "model_card.json").read_text()), (folder / "MODEL_CARD.md").read_text()
    assert (card["name"], card["run_id"], card["config"]) == ("speakers", "3f2a", {"model.units": "5"})
    assert card["dataset"]["split"] == "by speaker"
    assert card["dataset"]["citation"] == "Kudo"
    assert card["classes"] == list("abcd")
    for missing in ("git_commit", "licence", "intended_use", "unsuitable_use"):
        assert card[missing] == "unknown"
    assert card["dataset"]["licence"] == "unknown"
    signatures = tf.saved_model.load(str(version.path)).signatures
    assert set(card["signatures"]) == set(signatures)
    assert card["signatures"]["stream_step"]["inputs"]["irnn_hidden"]["shape"] == ["batch", 2]
    assert card["signatures"]["serving_default"]["inputs"]["features"]["shape"] == ["batch", "steps", 3]
    assert card["exported"]["export/parity_max_abs_difference"] == version.metrics["export/parity_max_abs_difference"]
    assert set(card["without"]) == set(version.refused) == {"regress"}
    for text in ("# speakers", "nine male speakers", "one | microphone", "0.97", "## Unsuitable use\n\nunknown"):
        assert text in page
    assert all(f"### `{name}`" in page for name in signatures)


# === Versions ===


def test_versions_count_up_and_nothing_is_overwritten(written, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "mine").write_text("kept")
    assert export(tiny(), KEPT, tmp_path).version == 8
    assert (tmp_path / "7" / "mine").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8"]


def test_an_export_that_lost_the_race_takes_the_next_version(written, tmp_path, monkeypatch):
    flush = publish.flush

    def another_export_finishes(path):
        (tmp_path / "1").mkdir(exist_ok=True)
        (tmp_path / "1" / "theirs").touch()
        flush(path)

    monkeypatch.setattr(publish, "flush", another_export_finishes)
    assert export(tiny(), KEPT, tmp_path).version == 2
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["theirs"]


def test_many_at_once_get_a_version_each(tmp_path):
    barrier = threading.Barrier(8)

    def one(number):
        barrier.wait()
        for _ in range(5):
            with publish.hidden_folder(tmp_path) as hidden:
                (hidden / "saved_model.pb").write_text(str(number))
                publish.publish(hidden, tmp_path)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(1, 41))
    assert sorted((path / "saved_model.pb").read_text() for path in tmp_path.iterdir()) == sorted("01234567" * 5)


def _die_while_writing(directory):
    with publish.hidden_folder(directory) as hidden:
        (hidden / "half").touch()
        os._exit(9)


def test_what_a_killed_export_left_is_removed_and_what_is_under_way_is_not(written, tmp_path):
    killed = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=(tmp_path,))
    killed.start()
    killed.join()
    [left] = tmp_path.iterdir()
    with publish.hidden_folder(tmp_path) as under_way:
        assert not left.exists()
        assert export(tiny(), KEPT, tmp_path).version == 1
        assert under_way.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_full_disk_leaves_no_version(written, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publish.os, "fsync", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export(tiny(), KEPT, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_differs_from_the_model_is_not_published(tmp_path, monkeypatch):
    def corrupted(model, built, path):
        model.set_weights([w + 0.1 for w in model.get_weights()])
        write(model, built, path)

    write = zoo.export.write
    monkeypatch.setattr(zoo.export, "write", corrupted)
    with pytest.raises(ExportError, match="differs from the Keras model"):
        export(tiny(), KEPT, tmp_path / "served")
    assert list((tmp_path / "served").iterdir()) == []


def test_signatures_that_differ_from_each_other_are_not_published(tmp_path, monkeypatch):
    ask = check.Written.ask

    def wrong(written, signature, inputs):
        outputs = ask(written, signature, inputs)
        return {**outputs, "probabilities": outputs["probabilities"] + 0.1} if signature == "stream_step" else outputs

    monkeypatch.setattr(check.Written, "ask", wrong)
    with pytest.raises(ExportError, match=r"called by stream_step in pieces, by 0\.1"):
        export(tiny(), KEPT, tmp_path / "served")
    assert list((tmp_path / "served").iterdir()) == []


# === Mistakes ===


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"classes": ["a", "b"]}, "4 outputs"),
        ({"classes": ["a", "b", "c", "c"]}, "4 outputs"),
        ({"kind": "clustering"}, "'clustering'"),
        ({"kind": "labelling", "classes": list("abcd")}, "the answers to a labelling have the shape"),
        ({"kind": "regression", "outputs": ["x"]}, "4 outputs"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(task, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export(tiny(), task, tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_a_model_that_cannot_be_served_is_refused(tmp_path, monkeypatch):
    text = build("irnn", SequenceTask(channels=1, classes=2, vocabulary=5), units=2)
    with pytest.raises(ExportError, match="vocabulary of 3 different tokens, and the model embeds"):
        export(text, {"classes": ["a", "b"], "vocabulary": ["", "[UNK]", "x"]}, tmp_path)
    with pytest.raises(ExportError, match="'syllables'"):
        export(text, {"classes": ["a", "b"], "vocabulary": ["", "[UNK]", *"xyz"], "tokens": "syllables"}, tmp_path)
    stateful = SequenceTask(channels=1, kind="language_model", vocabulary=5, stateful_batch=2)
    with pytest.raises(ExportError, match="keeps states between batches of 2 rows"):
        export(build("irnn", stateful, units=2), {"kind": "language_model"}, tmp_path)
    with pytest.raises(ExportError, match="inputs `features` and `lengths`"):
        export(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), KEPT, tmp_path)
    with pytest.raises(ExportError, match="at least 2 sequences"):
        export(tiny(), KEPT, tmp_path, examples={"features": [np.ones((2, 3))]})
    with pytest.raises(ExportError, match=r"finite \(steps, 3\)"):
        export(tiny(), KEPT, tmp_path, examples={"features": [np.ones((2, 3)), np.ones((2, 4))]})
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ExportError, match="KERAS_BACKEND=tensorflow"):
        export(tiny(), KEPT, tmp_path)


def test_a_diverged_model_is_refused(tmp_path):
    model = tiny()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    with pytest.raises(ExportError, match="it has diverged"):
        export(model, KEPT, tmp_path)
