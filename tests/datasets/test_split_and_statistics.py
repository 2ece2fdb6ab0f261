import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from training.batches.buckets import bucket_boundaries
from training.batches.errors import InvalidPipeline
from training.batches.splitting import train_validation_split
from training.batches.statistics import channel_statistics
from training.datasets.base import Examples


def numbered(labels: list[int], groups: list[int] | None = None) -> Examples:
    """Examples that carry their own number as their only value."""
    sequences = [np.full((1, 1), number, np.float32) for number in range(len(labels))]
    return Examples(sequences, np.array(labels, np.int64), None if groups is None else np.array(groups, np.int64))


def numbers(examples: Examples) -> list[int]:
    return [int(sequence[0, 0]) for sequence in examples.sequences]


labels_with_a_pair = st.lists(st.integers(0, 4), min_size=2, max_size=60).filter(
    lambda labels: max(np.bincount(labels)) >= 2
)


@given(labels=labels_with_a_pair, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**31))
def test_stratified_split(labels: list[int], fraction: float, seed: int) -> None:
    whole = numbered(labels)
    train, validation = train_validation_split(whole, fraction, seed)
    assert sorted(numbers(train) + numbers(validation)) == list(range(len(labels)))
    assert numbers(train) == sorted(numbers(train))
    for label, count in enumerate(np.bincount(labels)):
        aside = int((validation.labels == label).sum())
        if count == 1:
            assert aside == 0
        elif count > 1:
            assert 1 <= aside < count
            # Rounding moves a class by at most half an example, the bounds by less than one.
            assert abs(aside - fraction * count) < 1
    again, _ = train_validation_split(whole, fraction, seed)
    assert numbers(again) == numbers(train)


def test_another_seed_is_another_split() -> None:
    whole = numbered([0, 1] * 50)
    splits = {tuple(numbers(train_validation_split(whole, 0.2, seed)[1])) for seed in range(5)}
    assert len(splits) == 5


@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), min_size=2, max_size=60),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 2**31),
)
def test_grouped_split(rows: list[tuple[int, int]], fraction: float, seed: int) -> None:
    labels, groups = (list(column) for column in zip(*rows, strict=True))
    try:
        train, validation = train_validation_split(numbered(labels, groups), fraction, seed)
    except InvalidPipeline:
        # Allowed only where no group can leave: each holds all of some class.
        for group in set(groups):
            others = {label for label, other in rows if other != group}
            assert others != set(labels)
        return
    assert sorted(numbers(train) + numbers(validation)) == list(range(len(rows)))
    assert not set(train.groups.tolist()) & set(validation.groups.tolist())
    assert set(train.labels.tolist()) == set(labels)


def test_grouped_split_reaches_the_fraction_with_every_class() -> None:
    # Ten speakers, each with ten examples of both classes.
    groups = np.repeat(np.arange(10), 20).tolist()
    train, validation = train_validation_split(numbered([0, 1] * 100, groups), 0.3, seed=4)
    assert len(validation) == 60
    assert set(validation.labels.tolist()) == {0, 1}
    assert len(train) == 140


def test_grouped_split_keeps_every_class_where_groups_are_pure() -> None:
    # A speaker a class, two speakers each: a random fifth of the groups would miss classes.
    labels = np.repeat(np.arange(4), 10).tolist()
    groups = np.repeat(np.arange(8), 5).tolist()
    for seed in range(5):
        train, validation = train_validation_split(numbered(labels, groups), 0.2, seed)
        assert set(validation.labels.tolist()) == set(train.labels.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_is_refused(fraction: float) -> None:
    with pytest.raises(InvalidPipeline, match="expected more than 0 and less than 1"):
        train_validation_split(numbered([0, 0]), fraction, seed=0)


def test_nothing_to_spare_is_refused() -> None:
    with pytest.raises(InvalidPipeline, match="no example of 3 can be spared"):
        train_validation_split(numbered([0, 1, 2]), 0.5, seed=0)
    with pytest.raises(InvalidPipeline, match="no example of 4 can be spared"):
        train_validation_split(numbered([0, 0, 1, 1], groups=[7, 7, 7, 7]), 0.5, seed=0)


def test_statistics_equal_numpy_over_the_valid_steps() -> None:
    generator = np.random.default_rng(3)
    sequences = [generator.normal([1, -20], [2, 0.1], (steps, 2)).astype(np.float32) for steps in (1, 9, 30)]
    mean, variance = channel_statistics(Examples(sequences, np.zeros(3, np.int64)))
    steps = np.concatenate(sequences).astype(np.float64)
    assert mean.dtype == variance.dtype == np.float32
    # Both sides sum in float64; what is left is the rounding of the result to float32 (6e-8).
    np.testing.assert_allclose(mean, steps.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(variance, steps.var(axis=0), rtol=1e-7)


def test_statistics_survive_a_large_offset() -> None:
    # In float32 the sum of squares of these values has no digit left for a variance of 0.25.
    steps = (10_000 + np.tile([0.0, 1.0], 5_000))[:, None].astype(np.float32)
    mean, variance = channel_statistics(Examples([steps], np.array([0])))
    assert mean[0] == np.float32(10_000.5)
    # float64 sums of exact values; only the cast to float32 (6e-8) remains.
    np.testing.assert_allclose(variance, [0.25], rtol=1e-7)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7, 1e-20])
def test_a_constant_channel_has_variance_one(value: float) -> None:
    sequences = [np.full((steps, 1), value, np.float32) for steps in (3, 1000)]
    mean, variance = channel_statistics(Examples(sequences, np.zeros(2, np.int64)))
    # A float64 mean of equal float32 values: exact up to the cast.
    np.testing.assert_allclose(mean, [value], rtol=1e-7)
    assert variance.tolist() == [1.0]


def test_a_small_unit_is_not_taken_for_constant() -> None:
    microvolts = np.array([[1e-6], [3e-6]], np.float32)
    _, variance = channel_statistics(Examples([microvolts], np.array([0])))
    np.testing.assert_allclose(variance, [1e-12], rtol=1e-6)  # the inputs are rounded to float32


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_a_variance_outside_float32_names_the_channel(scale: float) -> None:
    steps = np.array([[1, 1], [2, 3]], np.float32) * np.array([1, scale], np.float32)
    with pytest.raises(InvalidPipeline, match="variance of channel 1 is 1e"):
        channel_statistics(Examples([steps], np.array([0])))


@given(lengths=st.lists(st.integers(1, 500), min_size=1, max_size=80), buckets=st.integers(1, 8))
def test_boundaries(lengths: list[int], buckets: int) -> None:
    boundaries = bucket_boundaries(lengths, buckets)
    assert list(boundaries) == sorted(set(boundaries))
    assert boundaries[-1] == max(lengths)
    assert len(boundaries) <= buckets
    assert set(boundaries) <= set(lengths)


def padded_steps(lengths: list[int], boundaries: tuple[int, ...]) -> int:
    return sum(min(boundary for boundary in boundaries if boundary >= length) for length in lengths)


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30), buckets=st.integers(1, 4))
def test_no_other_boundaries_waste_less(lengths: list[int], buckets: int) -> None:
    shorter = sorted(set(lengths) - {max(lengths)})
    every_choice = ((*some, max(lengths)) for size in range(buckets) for some in itertools.combinations(shorter, size))
    least = min(padded_steps(lengths, choice) for choice in every_choice)
    assert padded_steps(lengths, bucket_boundaries(lengths, buckets)) == least


def test_a_few_long_sequences_do_not_pad_the_rest() -> None:
    # Equally full buckets would be 100, 100, 100, 1000.
    assert bucket_boundaries([50] * 10 + [100] * 85 + [1000] * 5, 4) == (50, 100, 1000)


def test_thousands_of_different_lengths_are_bounded_work() -> None:
    boundaries = bucket_boundaries(range(1, 20_001), 4)
    # The best of all is four equal parts; candidates lie 78 apart.
    np.testing.assert_allclose(boundaries, [5000, 10_000, 15_000, 20_000], atol=79)


def test_no_lengths_and_no_buckets_are_refused() -> None:
    with pytest.raises(InvalidPipeline, match="received 4 buckets for 0 lengths"):
        bucket_boundaries([], 4)
    with pytest.raises(InvalidPipeline, match="received 0 buckets for 1 lengths"):
        bucket_boundaries([3], 0)
