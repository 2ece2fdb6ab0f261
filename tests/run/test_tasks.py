"""Every kind of task, from examples to a score: what a model gives, what is minimised, what is counted."""

import math
from typing import get_args

import numpy as np
import pytest
from compiling import compiled
from hypothesis import given, settings, strategies as st
from tiers import few

from training.batches.batches import Batches
from training.batches.errors import InvalidPipeline
from training.batches.splitting import train_validation_split
from training.batches.statistics import check_labelled, class_weights, target_statistics
from training.batches.windows import Windows
from training.config import load
from training.datasets import Examples, Spec, Task
from training.datasets.targets import TARGETS
from training.run.metrics import METRICS, plain_name, stored_name
from training.run.tasks import TASKS, compile_arguments, guessing, model_task, score
from zoo.losses import StandardizedMeanSquaredError
from zoo.models import SequenceTask, build

ABOUT = {
    "name": "made_up",
    "features": "values",
    "licence": "none",
    "citation": "nobody",
    "homepage": "https://example.org",
    "split_rule": "none",
    "lengths": (1, 9),
    "counts": {"train": 8, "test": 2},
}
VOCABULARY = ("", "[UNK]", *"abcde")


def values(lengths, channels=2, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(length, channels)).astype("float32") for length in lengths]


def text(lengths, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(2, len(VOCABULARY), length, dtype="int32") for length in lengths]


def made(kind, lengths=(3, 5, 5, 2, 7, 4, 1, 6)):
    """A spec and examples of a kind."""
    random = np.random.default_rng(1)
    n = len(lengths)
    if kind == "classification":
        spec = Spec(**ABOUT, channels=2, classes=("a", "b", "c"))
        return spec, Examples(values(lengths), random.integers(0, 3, n))
    if kind == "labelling":
        labels = [random.integers(-1, 3, length) for length in lengths]
        labels[0][0] = 0
        return Spec(**ABOUT, channels=2, classes=("a", "b", "c"), task="labelling"), Examples(values(lengths), labels)
    if kind == "regression":
        spec = Spec(**ABOUT, channels=2, classes=(), task="regression", outputs=("p", "q"))
        return spec, Examples(values(lengths), (10 + 5 * random.normal(size=(n, 2))).astype("float32"))
    if kind == "forecasting":
        spec = Spec(**ABOUT, channels=2, classes=(), task="forecasting", outputs=("p", "q"), horizon=3)
        return spec, Examples(values(lengths), random.normal(size=(n, 3, 2)).astype("float32"))
    if kind == "text":
        spec = Spec(**ABOUT, channels=1, classes=("a", "b"), text=True)
        return spec, Examples(text(lengths), random.integers(0, 2, n), vocabulary=VOCABULARY)
    spec = Spec(**ABOUT, channels=1, classes=(), task="language_model", text=True)
    return spec, Examples(text(lengths), vocabulary=VOCABULARY)


KINDS = ["classification", "labelling", "regression", "forecasting", "text"]


@pytest.mark.parametrize("name", few(["lstm", "gru", "irnn", "tcn"], ["lstm"]))
@pytest.mark.parametrize("kind", few(KINDS, ["labelling", "forecasting"]))
def test_every_kind_is_trained_and_scored_as_keras_scores_it(kind, name):
    spec, examples = made(kind)
    task = model_task(spec, examples, embedding=4)
    model = build(name, task, **({"filters": 4, "levels": 1} if name == "tcn" else {"units": 4}))
    compiled(model, optimizer="adam", **compile_arguments(task))
    batches = Batches(examples, batch_size=8, buckets=1, shuffle=False)
    batch = batches[0]
    keras_loss, keras_metric = model.test_on_batch(*batch)
    found = score(
        task, iter([(np.asarray(model.predict_on_batch(batch[0])), *batch[1:], *(() if len(batch) > 2 else (None,)))])
    )
    assert found.loss == pytest.approx(float(keras_loss), rel=1e-5)
    metric = found.metrics["mean_absolute_error" if spec.outputs else "accuracy"]
    assert metric == pytest.approx(float(keras_metric), rel=1e-5)
    before = found.loss
    for _ in range(30):
        model.train_on_batch(*batch)
    assert float(model.test_on_batch(*batch)[0]) < before


@pytest.mark.parametrize(
    "name", ["fcn", "cnn_lstm", "lstm_fcn", "conv_lstm", "deep_conv_lstm", "cnn_lstm_parallel", "mlstm_fcn"]
)
def test_models_of_one_answer_refuse_a_label_a_step_and_take_the_rest(name):
    with pytest.raises(ValueError, match=r"one answer for a sequence.*choose lstm, gru, irnn or tcn"):
        build(name, SequenceTask(channels=3, classes=2, kind="labelling"))
    task = SequenceTask(channels=1, vocabulary=9, embedding=5, kind="forecasting", outputs=2, horizon=3)
    model = build(name, task)
    inputs = {"features": np.ones((2, 50), "int32"), "lengths": np.array([50, 7], "int32")}
    assert np.asarray(model(inputs)).shape == (2, 3, 2)


def test_a_language_model_does_not_read_backwards():
    with pytest.raises(ValueError, match="see the token to predict"):
        build("lstm", SequenceTask(channels=1, vocabulary=9, kind="language_model"), bidirectional=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "clustering"}, "must be one of classification"),
        ({"kind": "labelling"}, "at least 2 classes; received 0"),
        ({"kind": "regression"}, "at least 1 output"),
        ({"kind": "language_model"}, "needs a `vocabulary`"),
        ({"kind": "regression", "outputs": 2, "output_mean": (0.0,)}, "`output_mean` must have 2 values"),
        ({"kind": "regression", "outputs": 1, "output_mean": (0.0,)}, "`output_variance` must have 1 values"),
        ({"kind": "forecasting", "outputs": 1, "horizon": 0}, "at least 1 channel, horizon"),
    ],
)
def test_a_task_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SequenceTask(channels=2, **arguments)


def test_predictions_are_in_the_units_of_the_data_and_the_loss_is_not():
    spec, examples = made("regression")
    mean, variance = target_statistics(examples)
    np.testing.assert_allclose(mean, examples.targets.mean(axis=0), rtol=1e-6)
    task = model_task(spec, examples)
    model = build("lstm", task, units=2)
    for weight in model.get_layer("standardized").weights:
        weight.assign(np.zeros(weight.shape))
    said = np.asarray(model(Batches(examples, 8, buckets=1, shuffle=False)[0][0]))
    np.testing.assert_allclose(said, np.tile(mean, (8, 1)), rtol=1e-5)  # that of a model that knows nothing
    assert float(StandardizedMeanSquaredError(variance)(examples.targets, said)) == pytest.approx(
        guessing(task), rel=1e-5
    )


def test_a_loss_needs_positive_variances():
    with pytest.raises(ValueError, match="must be positive"):
        StandardizedMeanSquaredError([1.0, 0.0])


def test_steps_without_a_label_and_padding_count_for_nothing():
    spec, examples = made("labelling")
    _, labels, weights = Batches(examples, batch_size=8, buckets=1, shuffle=False)[0]
    for row, (given_labels, length) in enumerate(zip(examples.targets, examples.lengths, strict=True)):
        assert weights[row, :length].tolist() == (given_labels >= 0).astype(float).tolist()
        assert not weights[row, length:].any()
        assert labels[row, :length][given_labels >= 0].tolist() == given_labels[given_labels >= 0].tolist()
    logits = np.zeros((*labels.shape, 3))
    found = score(model_task(spec, examples), iter([(logits, labels, weights)]))
    assert found.loss == pytest.approx(math.log(3))
    assert found.confusion.sum() == sum((labels >= 0).sum() for labels in examples.targets)


def test_labels_so_sparse_that_nothing_is_scored_are_refused_before_training():
    sparse = Examples(values([3, 3, 3]), [np.array(labels) for labels in ([-1, -1, 1], [-1] * 3, [-1] * 3)])
    check_labelled(sparse, "validation", None)
    for part, longest in ((sparse.subset(np.arange(3) > 0), None), (sparse, 2)):
        with pytest.raises(InvalidPipeline, match=r"for validation has a label.*label steps of more sequences"):
            check_labelled(part, "validation", longest)
    for kind in ("classification", "regression", "text"):
        check_labelled(made(kind)[1], "validation", None)


def test_class_weights_make_every_class_weigh_the_same():
    _, examples = made("classification")
    weights = class_weights(examples, 4)
    assert weights[3] == 0
    given_weights = [Batches(examples, 3, class_weights=weights, seed=0)[i] for i in range(4)]
    total = np.zeros(4)
    for _, labels, weight in given_weights:
        np.add.at(total, labels, weight)
    present = np.unique(examples.labels)
    np.testing.assert_allclose(total[present], total[present[0]], rtol=1e-5)
    _, labelled = made("labelling")
    found = class_weights(labelled, 3)
    steps = np.concatenate(labelled.targets)
    counts = np.bincount(steps[steps >= 0], minlength=3)
    np.testing.assert_allclose(found * counts, counts.sum() / 3, rtol=1e-5)


class TestWindows:
    def test_streams_are_the_text_and_what_follows_it(self):
        tokens = np.arange(2, 97, dtype="int32")
        whole = Examples([tokens[:40], tokens[40:]], vocabulary=("", "[UNK]", *(str(k) for k in range(95))))
        windows = Windows(whole, batch_size=4, steps=10)
        items = [windows[index] for index in range(len(windows))]
        features = np.concatenate([inputs["features"] for inputs, _ in items], axis=1)
        following = np.concatenate([targets for _, targets in items], axis=1)
        assert features.shape == (4, 94 // 4)
        np.testing.assert_array_equal(following, features + 1)  # the token after it, also across documents
        np.testing.assert_array_equal(features.ravel(), tokens[: 4 * 23])
        assert [inputs["features"].shape[1] for inputs, _ in items] == [10, 10, 3]
        assert windows.cropped_share == pytest.approx(2 / 94)

    def test_a_stateful_model_goes_on_where_it_stopped(self):
        spec, examples = made("language_model", lengths=(61,))
        task = model_task(spec, examples, embedding=3)
        windows = Windows(examples, batch_size=2, steps=7)
        carried = build("lstm", SequenceTask(**{**vars(task), "stateful_batch": 2}), units=5)
        whole = build("lstm", task, units=5)
        for ours, theirs in zip(whole.trainable_variables, carried.trainable_variables, strict=True):
            ours.assign(theirs)
        parts = [np.asarray(carried.predict_on_batch(windows[index][0])) for index in range(len(windows))]
        features = np.concatenate([windows[index][0]["features"] for index in range(len(windows))], axis=1)
        lengths = np.full(2, features.shape[1], "int32")
        expected = np.asarray(whole.predict_on_batch({"features": features, "lengths": lengths}))
        np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("batch_size", "steps"), [(0, 5), (4, 0), (99, 5)])
    def test_what_cannot_be_cut_is_refused(self, batch_size, steps):
        _, examples = made("language_model")
        with pytest.raises(ValueError, match="expected 1 or more of each"):
            Windows(examples, batch_size, steps)

    def test_values_are_no_text(self):
        with pytest.raises(ValueError, match="trained on text"):
            Windows(made("classification")[1], 2, 3)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(1, 9), min_size=6, max_size=20),
    fraction=st.floats(0.1, 0.6),
    grouped=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_no_sample_and_no_label_crosses_a_split(kind, lengths, fraction, grouped, seed):
    _, examples = made(kind, tuple(lengths))
    groups = np.random.default_rng(seed).permutation(np.arange(len(lengths)) % 3) if grouped else None
    # Each sequence carries its own number, and so does what is predicted of it.
    marked = [sequence.copy() for sequence in examples.sequences]
    for number, sequence in enumerate(marked):
        sequence[0] = 2 + number % 5 if examples.vocabulary else number
    examples = Examples(marked, examples.targets, groups, examples.vocabulary)
    try:
        train, validation = train_validation_split(examples, fraction, seed)
    except ValueError:
        return  # nothing can be spared, and it says so
    identity = {id(sequence): number for number, sequence in enumerate(marked)}
    parts = [[identity[id(sequence)] for sequence in part.sequences] for part in (train, validation)]
    assert not set(parts[0]) & set(parts[1])
    assert sorted(parts[0] + parts[1]) == list(range(len(lengths)))
    for part, members in zip((train, validation), parts, strict=True):
        for place, member in enumerate(members):
            np.testing.assert_array_equal(part.targets[place], examples.targets[member])
            if groups is not None:
                assert part.groups[place] == groups[member]
    if groups is not None:
        assert not set(train.groups.tolist()) & set(validation.groups.tolist())


@pytest.fixture(scope="module")
def models():
    return {
        (kind, name): build(name, model_task(*made(kind), embedding=3), **arguments)
        for kind in KINDS
        for name, arguments in {
            "lstm": {"units": 3, "bidirectional": True},
            "gru": {"units": 3},
            "tcn": {"filters": 3, "levels": 2},
        }.items()
    }


@settings(max_examples=30)
@given(
    kind=st.sampled_from(KINDS),
    name=st.sampled_from(["lstm", "gru", "tcn"]),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    further=st.integers(0, 6),
    seed=st.integers(0, 100),
)
def test_padded_and_cut_inputs_give_the_same_outputs(models, kind, name, lengths, further, seed):
    model, longest = models[kind, name], max(lengths)
    sequences = (text if kind == "text" else values)(lengths, seed=seed)
    rubbish = np.random.default_rng(seed)
    shape = (len(lengths), longest + further, *sequences[0].shape[1:])
    padded = (
        rubbish.integers(0, 7, shape).astype("int32")
        if kind == "text"
        else rubbish.normal(size=shape).astype("float32")
    )
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    together = np.asarray(model({"features": padded, "lengths": np.array(lengths, "int32")}))
    for row, sequence in enumerate(sequences):
        alone = np.asarray(model({"features": sequence[None], "lengths": np.array([len(sequence)], "int32")}))[0]
        found = together[row, : len(sequence)] if kind == "labelling" else together[row]
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


def test_every_kind_of_task_is_known_by_its_targets_and_its_metric():
    assert list(TASKS) == list(TARGETS) == list(get_args(Task))
    for kind, task in TASKS.items():
        spec, examples = made(kind)
        assert examples.kind is TARGETS[kind]
        assert METRICS[task.metric.name] is task.metric
        assert task.metric.name in score_of_zeros(model_task(spec, examples), examples).metrics


def score_of_zeros(task, examples):
    batches = TASKS[task.kind].batches_in_order(load(overrides=["dataset.batch_size=2"]), examples, None)
    build_shape = {"classification": (task.classes,), "regression": (task.outputs,)}
    found = []
    for inputs, targets, *weights in (batches[index] for index in range(len(batches))):
        rows, steps = len(inputs["lengths"]), inputs["features"].shape[1]
        shape = build_shape.get(task.kind) or {
            "labelling": (steps, task.classes),
            "forecasting": (task.horizon, task.outputs),
            "language_model": (steps, task.vocabulary),
        }.get(task.kind)
        found.append((np.zeros((rows, *shape), "float32"), targets, weights[0] if weights else None))
    return score(task, iter(found))


def test_metrics_are_sorted_for_mlflow_and_come_back():
    names = [
        "train/loss",
        "validation/accuracy",
        "within/lstm/cell_peak",
        "best_validation/loss",
        "seconds",
        "test/loss",
    ]
    stored = [stored_name(name) for name in names]
    assert sorted(stored) == stored
    assert [plain_name(name) for name in stored] == names
    assert [plain_name(name) for name in names] == names  # as runs of before have them
