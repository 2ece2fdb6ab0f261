"""Checkpoints: whole or not there; and a run that goes on from one ends as if it had never stopped."""

import errno
import json

import keras
import numpy as np
import pytest

from training.config import load
from training.run import checkpoints, loop
from training.run.checkpoints import CannotResume, Checkpoint, CheckpointNotWritten, Checkpoints


def saved(folder, *epochs):
    kept = Checkpoints(folder)
    for number in epochs:
        kept.save(Checkpoint(number, {"epoch": number}, {"kernel": np.full(3, number, "float32")}))
    return kept


def test_the_last_two_are_kept(tmp_path):
    kept = saved(tmp_path, 1, 2, 3)
    assert [path.name[:12] for path in sorted(tmp_path.iterdir())] == ["epoch-000002", "epoch-000003"]
    latest = kept.latest()
    assert (latest.epochs, latest.facts) == (3, {"epoch": 3})
    np.testing.assert_array_equal(latest.arrays["kernel"], np.full(3, 3, "float32"))
    assert Checkpoints(tmp_path / "empty").latest() is None


@pytest.mark.parametrize("damage", [lambda content: content[:-7], lambda content: b"", lambda content: content + b"x"])
def test_a_damaged_one_is_passed_over(tmp_path, damage):
    kept = saved(tmp_path, 1, 2)
    newest = max(tmp_path.iterdir())
    newest.write_bytes(damage(newest.read_bytes()))
    assert kept.latest().epochs == 1
    flipped = bytearray(min(tmp_path.iterdir()).read_bytes())
    flipped[len(flipped) // 2] ^= 1
    min(tmp_path.iterdir()).write_bytes(flipped)
    assert kept.latest() is None


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    kept = saved(tmp_path, 1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointNotWritten, match="No space left"):
        kept.save(Checkpoint(2, {}, {}))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_kill_left_half_written_is_swept_away(tmp_path):
    (tmp_path / ".epoch-000009-0123456789abcdef.npz.ab12.incomplete").write_bytes(b"half")
    Checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with checkpoints.in_folder("abc"), pytest.raises(CannotResume, match="by another process"):  # noqa: SIM117
        with checkpoints.in_folder("abc"):
            pass


def test_another_configuration_or_other_data_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotResume, match=r"has no mlruns.runs.abc.run\.json here"):
        checkpoints.read_description("abc")
    description = {"config": {"seed": 0}, "data": {"train": "d" * 64}}
    with checkpoints.in_folder("abc") as folder:
        checkpoints.write_description(folder, description)
    checkpoints.check_description("abc", json.loads(json.dumps(description)))
    with pytest.raises(CannotResume, match="another configuration"):
        checkpoints.check_description("abc", description | {"config": {"seed": 1}})
    with pytest.raises(CannotResume, match=r"the train data .* has changed"):
        checkpoints.check_description("abc", description | {"data": {"train": "e" * 64}})


class PowerCut(BaseException):
    pass


def cut(epoch, batch):
    """A callback that raises in the middle of an epoch."""
    now = []
    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda number, logs: now.append(number),
        on_train_batch_end=lambda number, logs: stop() if (now[-1], number) == (epoch, batch) else None,
    )


def stop():
    raise PowerCut


DROPOUT = ["model.dropout=0.3", "model.recurrent_dropout=0.2", "model.head_dropout=0.3"]


SMALL = ["dataset.name=digits_rows", "dataset.batch_size=512", "optimizer.name=rmsprop", "optimizer.learning_rate=0.05"]


@pytest.mark.slow  # `make test` resumes a run that was killed
@pytest.mark.parametrize(
    ("overrides", "cuts"),
    [
        pytest.param([*SMALL, *DROPOUT], ((1, 2),), id="in mid-epoch"),
        pytest.param(
            [*DROPOUT, "model.bidirectional=true", 'dataset.augment=["jitter(0.1)"]'],
            ((0, 1), (2, 3), (4, 2)),
            id="dropout",
        ),
        pytest.param(
            [*SMALL, "model.cell=batch_norm", "model.activation=rrelu", "train.patience=2"],
            ((3, 1),),
            id="batch norm and random slopes",
        ),
    ],
)
def test_a_run_that_was_cut_ends_bit_equal(tmp_path, overrides, cuts, monkeypatch):
    config = load(overrides=["train.epochs=5", "model.units=6", "dataset.batch_size=64", *overrides])
    monkeypatch.setattr(Checkpoints, "is_due", True)
    data = loop.load_data(config)
    whole = loop.run(config, data=data)
    for place in cuts:
        with pytest.raises(PowerCut):
            loop.run(config, [cut(*place)], data, Checkpoints(tmp_path))
    went_on = loop.run(config, data=data, checkpoints=Checkpoints(tmp_path))
    assert went_on.history == whole.history
    assert went_on.best_epoch == whole.best_epoch
    for left, right in zip(whole.model.variables, went_on.model.variables, strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy(), err_msg=left.path)
    assert (went_on.test.loss, went_on.test.accuracy) == (whole.test.loss, whole.test.accuracy)


def test_a_diverged_run_stays_diverged(tmp_path):
    explode = ["optimizer.name=sgd", "optimizer.learning_rate=1e8", "optimizer.clipnorm=none"]
    config = load(overrides=["train.epochs=2", "model.units=4", *explode])
    first = loop.run(config, checkpoints=Checkpoints(tmp_path))
    # After its end there is nothing to train any more.
    again = loop.run(config, [cut(0, 0)], checkpoints=Checkpoints(tmp_path))
    assert (first.outcome, again.outcome) == ("diverged", "diverged")
    assert (again.reason, again.history) == (first.reason, first.history)


def test_checkpoints_of_another_model_are_refused(tmp_path):
    quick = ["train.epochs=1", "dataset.batch_size=128"]
    loop.run(load(overrides=[*quick, "model.units=4"]), checkpoints=Checkpoints(tmp_path))
    with pytest.raises(CannotResume, match="has shape"):
        loop.run(load(overrides=[*quick, "model.units=5"]), checkpoints=Checkpoints(tmp_path))


def test_a_run_of_the_version_before_lacks_keys_and_can_be_resumed() -> None:
    from training.run.checkpoints import _as_kept

    now = {"seed": 0, "dataset": {"name": "digits_rows", "time": []}}
    assert _as_kept(now, {"seed": 0, "dataset": {"name": "digits_rows"}}) == {
        "seed": 0,
        "dataset": {"name": "digits_rows"},
    }
    assert _as_kept(now, {"seed": 1, "dataset": {"name": "digits_rows"}}) != {
        "seed": 1,
        "dataset": {"name": "digits_rows"},
    }
