"""The training loop: seeded, honest about divergence, and shy of the test split."""

import itertools

import keras
import numpy as np
import pytest

from training import datasets
from training.batches.batches import Batches
from training.config import load
from training.run import loop, state, tf_input
from training.run.tasks import model_task
from training.run.tf_input import feed

QUICK = ["train.epochs=3", "model.units=8", "dataset.batch_size=32"]


def quick(*overrides):
    return load(overrides=[*QUICK, *overrides])


def test_a_run_ends_with_the_weights_of_its_best_epoch():
    result = loop.run(quick("dataset.name=digits_rows", "train.epochs=4", "optimizer.learning_rate=0.05"))
    assert result.outcome == "finished"
    losses = [row["validation/loss"] for row in result.history]
    assert result.best_epoch == int(np.argmin(losses))
    assert result.validation.loss == pytest.approx(min(losses), rel=1e-4)  # float32 there, float64 here
    assert result.test.confusion.sum() == 359
    assert np.trace(result.test.confusion) / 359 == pytest.approx(result.test.accuracy)
    assert result.sequences_per_second > 0


def test_the_same_seed_gives_the_same_run_and_another_another():
    first, again, other = (loop.run(quick(f"seed={seed}")) for seed in (1, 1, 2))
    assert first.history == again.history
    for left, right in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    assert first.history != other.history


def test_the_test_split_is_read_once_after_training_in_which_each_epoch_has_its_own_order(monkeypatch):
    events, planned = [], []
    dataset = datasets.get("japanese_vowels")
    read = type(dataset).load
    monkeypatch.setattr(
        type(dataset), "load", lambda self, split, *rest: events.append(split) or read(self, split, *rest)
    )
    plan = Batches.plan
    monkeypatch.setattr(Batches, "plan", lambda self, epoch: planned.append((self.seed, epoch)) or plan(self, epoch))
    trained = keras.callbacks.LambdaCallback(on_train_end=lambda logs: events.append("trained"))
    loop.run(quick("seed=7"), callbacks=[trained])
    assert events == ["train", "trained", "test"]
    assert {epoch for seed, epoch in planned if seed == 7} >= {0, 1, 2}
    batches = Batches(loop.load_data(quick()).train, 32, seed=7)
    assert [part.tolist() for part in batches.plan(0)] != [part.tolist() for part in batches.plan(1)]


@pytest.mark.parametrize("cause", ["exploding", "nan"])
def test_divergence_is_an_outcome_that_says_what_to_try(cause):
    config = quick("optimizer.name=sgd", "optimizer.learning_rate=1e8", "optimizer.clipnorm=none")
    poison = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model_of(poison).layers[-1].bias.assign(np.full(9, np.nan))
    )
    callbacks = [poison] if cause == "nan" else []
    result = loop.run(quick() if callbacks else config, callbacks=callbacks)
    assert result.outcome == "diverged"
    assert ("optimizer.clipnorm" in result.reason) == (cause == "exploding")  # the other run clips already
    assert ("nan" in result.reason) == (cause == "nan")
    assert (result.validation, result.test, result.best_epoch) == (None, None, None)
    assert len(result.history) == 1


def test_a_spike_is_no_divergence():
    judge = state.StopOnDivergence(guessing=2.0)
    judge.set_model(keras.Sequential())
    judge.on_train_batch_end(0, {"loss": 1e6})
    judge.on_epoch_end(0, {"val_loss": 199.0})
    assert judge.reason is None
    judge.on_epoch_end(1, {"val_loss": 201.0})
    assert "validation loss reached 201" in judge.reason
    assert judge.model.stop_training
    other = state.StopOnDivergence(guessing=2.0)
    other.set_model(keras.Sequential())
    other.on_train_batch_end(0, {"loss": 2.1e6})
    assert "training loss reached 2.1e+06" in other.reason


def model_of(callback):
    return callback.model


def test_a_fixed_time_axis_crops_and_says_how_much():
    result = loop.run(quick("model.name=cnn_lstm_parallel", "model.steps=10", "model.filters=2", "train.epochs=1"))
    lengths = loop.load_data(quick()).train.lengths
    assert result.cropped_share == pytest.approx(1 - np.minimum(lengths, 10).sum() / lengths.sum())
    assert result.cropped_share > 0.1


def test_every_bucket_is_fed_whatever_comes_first():
    examples = loop.load_data(quick()).train
    batches = Batches(examples, 16, seed=0)
    dataset, steps = feed(batches)
    fed = [(inputs["features"].shape[1], len(labels)) for inputs, labels in itertools.islice(dataset, steps)]
    assert {steps for steps, _ in fed} == set(batches.boundaries)
    assert sum(count for _, count in fed) == len(examples)


@pytest.mark.parametrize("same_order", [False, True])
@pytest.mark.parametrize("call_bytes", [1, 10_000, 2**20], ids=["one at a time", "some", "an epoch"])
def test_what_is_fed_is_what_the_batches_are(call_bytes, same_order, monkeypatch):
    monkeypatch.setattr(tf_input, "_CALL_BYTES", call_bytes)
    examples = loop.load_data(quick()).train
    batches = Batches(examples, 32, seed=0, max_length=20, class_weights=np.linspace(0.5, 2.0, 9, dtype="float32"))
    batches.epoch = 3
    dataset, steps = feed(batches, same_order)
    for place, fed in enumerate(itertools.islice(dataset, 2 * steps)):
        expected = batches.batch(3 + (not same_order) * (place // steps), place % steps)
        for left, right in zip(keras.tree.flatten(fed), keras.tree.flatten(expected), strict=True):
            np.testing.assert_array_equal(left, right)
            assert left.dtype.name == right.dtype.name


def test_scores_are_those_of_numpy():
    data = loop.load_data(quick())
    task = model_task(data.spec, data.train)
    model = loop.build_model(quick(), task)
    scores = loop.evaluate(model, task, loop.Batches(data.validation, batch_size=7, shuffle=False))
    right, losses = 0, []
    for sequence, label in zip(data.validation.sequences, data.validation.labels, strict=True):
        logits = np.float64(model({"features": sequence[None], "lengths": np.int32([len(sequence)])}))[0]
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        right += logits.argmax() == label
    assert scores.accuracy == pytest.approx(right / len(data.validation))
    assert scores.loss == pytest.approx(np.mean(losses), abs=1e-5)  # float32 logits in another batch shape
