import numpy as np
import pytest

from training.batches import augmentation
from training.batches.batches import Batches
from training.batches.errors import InvalidPipeline
from training.datasets import Examples


def examples():
    random = np.random.default_rng(0)
    sequences = [(random.normal(size=(n, 2)) * [1, 10] + 5).astype("float32") for n in (4, 9, 6, 20)]
    return Examples(sequences, np.array([0, 1, 0, 1]))


@pytest.mark.parametrize("name", sorted(augmentation.AUGMENTATIONS))
def test_real_steps_change_and_padding_stays_zero(name):
    train = examples()
    plain = Batches(train, 4, buckets=1, shuffle=False)[0][0]
    chain = augmentation.chain([f"{name}(0.5)"], train)
    changed = Batches(train, 4, buckets=1, shuffle=False, seed=3, augment=chain)[0][0]
    assert changed["features"].dtype == np.float32
    valid = np.arange(20) < plain["lengths"][:, None]
    assert not changed["features"][~valid].any()
    assert (changed["features"][valid] != plain["features"][valid]).any()


def test_the_same_seed_epoch_and_batch_give_the_same_and_others_do_not():
    train = examples()
    chain = augmentation.chain(["jitter(0.1)", "scale(0.1)", "time_mask(0.5)"], train)

    def features(seed, epoch, index=0):
        batches = Batches(train, 4, buckets=1, shuffle=False, seed=seed, augment=chain)
        batches.epoch = epoch
        return batches[index][0]["features"]

    np.testing.assert_array_equal(features(1, 2), features(1, 2))
    assert (features(1, 2) != features(1, 3)).any()
    assert (features(1, 2) != features(2, 2)).any()


def test_jitter_is_in_units_of_each_channel():
    features = np.zeros((200, 50, 2), np.float32)
    lengths = np.full(200, 50)
    noise = augmentation.jitter(0.1, np.zeros(2, "float32"), np.array([1.0, 10.0], "float32"))
    deviation = noise(features, lengths, np.random.default_rng(0)).std(axis=(0, 1))
    np.testing.assert_allclose(deviation, [0.1, 1.0], rtol=0.05)


def test_a_time_mask_hides_one_run_within_the_sequence():
    lengths = np.random.default_rng(0).integers(1, 30, 500)
    features = np.ones((500, 30, 1), np.float32)
    mask = augmentation.time_mask(0.4, np.full(1, 7, "float32"), np.ones(1, "float32"))
    hidden = mask(features, lengths, np.random.default_rng(1))[:, :, 0] == 7
    assert (hidden.sum(axis=1) <= 0.4 * lengths + 1e-9).all()
    assert hidden.sum() > 1000
    assert not hidden[np.arange(30) >= lengths[:, None]].any()
    runs = np.diff(np.pad(hidden, ((0, 0), (1, 1))).astype(int), axis=1)
    assert (np.abs(runs).sum(axis=1) <= 2).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jitter", r"has no share, a number from 0 on; write it as jitter\(0.1\)"),
        ("jitter(x)", r"'jitter\(x\)' has no share, a number from 0 on; write it as jitter\(0.1\)"),
        ("warp(0.1)", "unknown augmentation 'warp'"),
        ("scale(-1)", "a number from 0 on"),
    ],
)
def test_what_is_not_understood_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        augmentation.get(text)


def test_text_is_not_augmented():
    text = Examples([np.array([2, 3], "int32")], np.array([0]), vocabulary=("", "[UNK]", "a", "b"))
    with pytest.raises(InvalidPipeline, match="text cannot be augmented"):
        Batches(text, 1, augment=augmentation.jitter(0.1, np.zeros(1), np.ones(1)))
