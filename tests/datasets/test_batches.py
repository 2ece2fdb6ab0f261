import keras
import numpy as np
import pytest
from hypothesis import given, strategies as st

from training.batches.batches import Batches
from training.batches.errors import InvalidPipeline
from training.datasets.base import Examples


def marked(lengths: list[int]) -> Examples:
    """Example number k holds k + 1 + step / 1000 in its first channel: every value tells where it belongs."""
    sequences = []
    for number, steps in enumerate(lengths):
        first = number + 1 + np.arange(steps) / 1000
        sequences.append(np.stack([first, -first], axis=1).astype(np.float32))
    return Examples(sequences, np.arange(len(lengths)))


def order(batches: Batches) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


lengths_of_examples = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(
    lengths=lengths_of_examples,
    batch_size=st.integers(1, 20),
    buckets=st.integers(1, 6),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 100),
    shuffle=st.booleans(),
    max_length=st.none() | st.integers(1, 50),
)
def test_every_example_once_and_padding_zero(
    lengths: list[int],
    batch_size: int,
    buckets: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    max_length: int | None,
) -> None:
    examples = marked(lengths)
    batches = Batches(examples, batch_size, buckets, seed, shuffle, max_length)
    batches.epoch = epoch
    kept = np.minimum(lengths, max_length or max(lengths))
    seen: list[int] = []
    served = 0
    for inputs, labels in batches:
        features = inputs["features"]
        assert features.dtype == np.float32
        assert inputs["lengths"].dtype == labels.dtype == np.int32
        assert 1 <= len(labels) <= batch_size
        assert features.shape == (len(labels), features.shape[1], 2)
        assert features.shape[1] in batches.boundaries
        for row, length, label in zip(features, inputs["lengths"], labels, strict=True):
            assert length == kept[label]
            np.testing.assert_array_equal(row[:length], examples.sequences[label][:length])
            assert not row[length:].any()
        seen += labels.tolist()
        served += features.shape[0] * features.shape[1]
    assert sorted(seen) == list(range(len(lengths)))
    assert batches.padding_share == pytest.approx(1 - kept.sum() / served, abs=1e-12)
    assert batches.cropped_share == pytest.approx(1 - kept.sum() / sum(lengths), abs=1e-12)


@given(lengths=lengths_of_examples, seed=st.integers(0, 2**31), epochs=st.integers(1, 5))
def test_order_depends_on_seed_and_epoch_alone(lengths: list[int], seed: int, epochs: int) -> None:
    lived_through = Batches(marked(lengths), batch_size=4, seed=seed)
    for epoch in range(epochs + 1):
        lived_through.epoch = epoch
        list(lived_through)
    resumed = Batches(marked(lengths), batch_size=4, seed=seed)
    resumed.epoch = epochs
    assert order(resumed) == order(lived_through)
    assert len(resumed) == len(Batches(marked(lengths), batch_size=4, seed=seed))


def test_epochs_and_seeds_differ() -> None:
    batches = Batches(marked([3] * 40), batch_size=8, seed=1)
    first = order(batches)
    batches.epoch = 1
    assert order(batches) != first
    assert order(Batches(marked([3] * 40), batch_size=8, seed=2)) != first


def test_a_drawn_seed_is_kept() -> None:
    drawn = Batches(marked([3] * 40), batch_size=8)
    assert order(Batches(marked([3] * 40), batch_size=8, seed=drawn.seed)) == order(drawn)
    assert drawn.seed != Batches(marked([3] * 40), batch_size=8).seed


def test_without_shuffle_the_order_stays() -> None:
    batches = Batches(marked([3, 9, 3, 9, 3]), batch_size=2, buckets=2, shuffle=False)
    assert order(batches) == [[0, 2], [4], [1, 3]]
    batches.epoch = 1
    assert order(batches) == [[0, 2], [4], [1, 3]]


def test_buckets_save_padding() -> None:
    lengths = list(range(7, 30)) * 4
    shares = [Batches(marked(lengths), 16, buckets, seed=0).padding_share for buckets in (1, 2, 4, 8)]
    assert shares == sorted(shares, reverse=True)
    assert shares[2] < shares[0] / 3


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"batch_size": 4, "max_length": 0}])
def test_arguments_below_one_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(InvalidPipeline, match="expected 1 or more"):
        Batches(marked([3]), **arguments)


class Recorded(Batches):
    """Batches that remember what was asked for in which epoch."""

    def __getitem__(self, index: int) -> tuple:
        before = self.epoch
        batch = super().__getitem__(index)
        # TensorFlow reads ahead in a thread, which may be overtaken by the next epoch; that reading is thrown away.
        if self.epoch == before:
            self.served.append((before, tuple(batch[1].tolist())))
        return batch


@pytest.mark.any_backend
def test_keras_trains_on_the_batches_of_the_epoch_that_is_set() -> None:
    examples = marked([2, 3, 5, 8, 2, 3, 5, 8, 4])
    recorded = Recorded(examples, batch_size=2, buckets=1, seed=5)
    recorded.served = []
    features = keras.Input((None, 2), name="features")
    lengths = keras.Input((1,), dtype="float32", name="lengths")
    pooled = keras.layers.GlobalAveragePooling1D()(features)
    output = keras.layers.Dense(9)(keras.layers.Concatenate()([pooled, lengths]))
    model = keras.Model({"features": features, "lengths": lengths}, output)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    follow = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(recorded, "epoch", epoch))
    model.fit(recorded, initial_epoch=2, epochs=5, verbose=0, shuffle=False, callbacks=[follow])
    for epoch in range(2, 5):
        alone = Batches(examples, batch_size=2, buckets=1, seed=5)
        alone.epoch = epoch
        # A set: Keras looks at some batches more than once, to learn their shapes and to read ahead.
        assert {labels for at, labels in recorded.served if at == epoch} == {tuple(labels) for labels in order(alone)}
