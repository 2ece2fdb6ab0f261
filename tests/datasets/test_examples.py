import numpy as np
import pytest

from training.datasets import DATASETS, Examples, InvalidExamples, UnknownDataset, UnknownSplit, get
from training.datasets.base import Dataset, Spec


def ones(steps: int, channels: int = 2) -> np.ndarray:
    return np.ones((steps, channels), np.float32)


def examples(groups: np.ndarray | None = None) -> Examples:
    return Examples([ones(1), ones(3), ones(2)], np.array([0, 1, 0]), groups)


def broken(index: tuple[int, int], value: float) -> np.ndarray:
    sequence = ones(4)
    sequence[index] = value
    return sequence


@pytest.mark.parametrize(
    ("sequences", "labels", "message"),
    [
        ([], np.zeros(0, np.int64), "received 0 sequences"),
        ([ones(2), broken((3, 1), np.nan)], np.array([0, 0]), "sequence 1 holds nan at step 3, channel 1"),
        ([broken((0, 0), np.inf), ones(2)], np.array([0, 0]), "sequence 0 holds inf at step 0, channel 0"),
        ([ones(2), ones(2, 3)], np.array([0, 0]), "sequence 1 has 3 channels, expected 2"),
        ([ones(2), ones(0)], np.array([0, 0]), r"sequence 1 has shape \(0, 2\)"),
        ([ones(2), np.ones(4, np.float32)], np.array([0, 0]), r"sequence 1 has shape \(4,\)"),
        ([np.ones((2, 2))], np.array([0]), r"sequence 0 is ndarray \(float64\)"),
        ([[[1.0]]], np.array([0]), "sequence 0 is list"),
        ([np.float32(1)], np.array([0]), "sequence 0 is float32"),
        ([ones(2), ones(2)], np.array([0, -1]), "label of example 1 is -1"),
        ([ones(2), ones(2)], np.array([0]), r"labels are int64 \[1\], expected int64 \[2\]"),
        ([ones(2)], np.array([0.0]), "labels are float64"),
        ([ones(2)], [0], "labels of example 0 are int"),
    ],
)
def test_unusable_examples_are_refused_by_index(sequences: list, labels: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidExamples, match=message):
        Examples(sequences, labels)


def test_groups_are_checked_like_labels() -> None:
    with pytest.raises(InvalidExamples, match=r"groups are int64 \[2\], expected int64 \[3\]"):
        examples(groups=np.array([0, 1]))


def test_subset_takes_positions_in_order_and_masks() -> None:
    whole = examples(groups=np.array([5, 6, 7]))
    by_position = whole.subset([2, 1])
    assert by_position.lengths.tolist() == [2, 3]
    assert by_position.labels.tolist() == [0, 1]
    assert by_position.groups is not None
    assert by_position.groups.tolist() == [7, 6]
    by_mask = whole.subset(np.array([True, False, True]))
    assert by_mask.lengths.tolist() == [1, 2]
    with pytest.raises(IndexError):
        whole.subset([3])
    with pytest.raises(InvalidExamples, match="received 0 sequences"):
        whole.subset([])


def test_digest_is_the_same_everywhere() -> None:
    # Typed from one run: a change here means that every run tracked so far names its data differently.
    assert examples().digest() == "28b33f7293bdc78447d0a30b78705b86c415c354f558a62436c1f479006f3e17"


def test_digest_sees_every_change() -> None:
    changed_value = Examples([broken((0, 0), 2.0)[:1], ones(3), ones(2)], np.array([0, 1, 0]))
    changed_label = Examples([ones(1), ones(3), ones(2)], np.array([0, 1, 1]))
    moved_step = Examples([ones(2), ones(2), ones(2)], np.array([0, 1, 0]))
    same_bytes = Examples([ones(1, 4), ones(1, 4), ones(1, 4)], np.array([0, 1, 0]))
    variants = [
        examples(),
        examples(groups=np.array([0, 1, 0])),
        examples(groups=np.array([0, 1, 1])),
        examples().subset([2, 1, 0]),
        changed_value,
        changed_label,
        moved_step,
        same_bytes,
    ]
    assert len({variant.digest() for variant in variants}) == len(variants)


class Pretended(Dataset):
    """A dataset whose spec says two examples of classes a and b, 1 to 3 steps."""

    def __init__(self, content: Examples) -> None:
        self.spec = Spec(
            name="pretended",
            features="",
            channels=2,
            classes=("a", "b"),
            lengths=(1, 3),
            counts={"train": 2, "test": 2},
            licence="",
            citation="",
            homepage="",
            split_rule="",
        )
        self.content = content

    def _read(self, split: str) -> Examples:
        return self.content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Examples([ones(1)], np.array([0])), "read 1 examples, expected 2"),
        (Examples([ones(1, 3)] * 2, np.array([0, 1])), "read 3 channels, expected 2"),
        (Examples([ones(1), ones(4)], np.array([0, 1])), "sequence 1 has 4 steps, expected 1 to 3"),
        (Examples([ones(1), ones(3)], np.array([0, 2])), "label of example 1 is 2, expected 0 to 1"),
    ],
)
def test_load_holds_the_data_against_the_spec(content: Examples, message: str) -> None:
    with pytest.raises(InvalidExamples, match=message):
        Pretended(content).load("train")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownDataset, match="did you mean 'japanese_vowels'"):
        get("japanese_vowel")
    with pytest.raises(UnknownSplit, match="digits_rows: unknown split 'tests'; did you mean 'test'"):
        DATASETS["digits_rows"].load("tests")  # type: ignore[arg-type]
    assert UnknownDataset.exit_code == UnknownSplit.exit_code == 2


def test_a_subset_has_a_digest_of_its_own() -> None:
    examples = Examples([np.full((2, 1), value, "float32") for value in range(3)], np.array([0, 1, 0]))
    examples.digest()  # kept once it is known
    assert examples.subset([0, 1]).digest() != examples.digest()
    assert examples.subset([0, 1, 2]).digest() == examples.digest()
