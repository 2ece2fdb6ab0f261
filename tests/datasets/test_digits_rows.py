import numpy as np
from sklearn.datasets import load_digits

from training.datasets import get


def test_the_split_is_fixed_for_ever() -> None:
    # Typed from the first release: another value means that earlier figures stand for another test split.
    assert (
        get("digits_rows").load("test").digest() == "466478afb043af340863ce3dd374475f5b4f8d548cabfed23699d149b84d6d32"
    )
    assert (
        get("digits_rows").load("train").digest() == "12790b9b7286e7f3609a67ea8aae6434bd4d57e564ea785116638171ab6b81b1"
    )


def test_both_splits_together_are_the_whole_data() -> None:
    train, test = get("digits_rows").load("train"), get("digits_rows").load("test")
    images = sorted(image.tobytes() for image in train.sequences + test.sequences)
    assert images == sorted(image.astype(np.float32).tobytes() for image in load_digits().images)
    everything = np.bincount(load_digits().target)
    np.testing.assert_array_equal(np.bincount(test.labels), np.round(everything / 5))


def test_a_step_is_a_row_from_the_top() -> None:
    digits, train = load_digits(), get("digits_rows").load("train")
    # Every image is different, so the first training image is found by its content.
    (position,) = [index for index, image in enumerate(digits.images) if (image == train.sequences[0]).all()]
    np.testing.assert_array_equal(train.sequences[0][1], digits.data[position, 8:16])
    assert train.labels[0] == digits.target[position]
