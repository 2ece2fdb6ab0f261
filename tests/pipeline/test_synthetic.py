"""The generated problems: their answers, found again by other means."""

import itertools
import math
import re
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

from training.datasets import DATASETS, FAMILIES, Examples, UnknownDataset, get
from training.datasets.base import Split
from training.datasets.synthetic import InvalidLength, Synthetic
from training.datasets.synthetic.base import distinct_rows
from training.datasets.synthetic.embedded_reber import EmbeddedReber
from training.datasets.synthetic.mackey_glass import integrate

pytestmark = pytest.mark.any_backend

PROBLEMS = sorted(name for name, dataset in DATASETS.items() if isinstance(dataset, Synthetic))
OTHER_LENGTHS = [
    "adding_problem/7",
    "copy_memory/3",
    "embedded_reber/30",
    "mackey_glass/18",
    "parity/16",
    "temporal_order/25",
]
SPLITS: tuple[Split, ...] = ("train", "test")


@cache
def load(name: str, split: Split) -> Examples:
    return get(name).load(split)


def every(name: str) -> list[tuple[Any, Any]]:
    """Sequences and targets of both splits."""
    return [
        pair for split in SPLITS for pair in zip(load(name, split).sequences, load(name, split).targets, strict=True)
    ]


def symbols_of(sequence: np.ndarray[Any, Any], alphabet: str) -> str:
    """The text of a one-hot sequence."""
    assert sequence.shape[1] == len(alphabet)
    assert ((sequence == 1).sum(axis=1) == 1).all()
    assert (sequence.sum(axis=1) == 1).all()
    return "".join(alphabet[symbol] for symbol in sequence.argmax(axis=1))


def test_all_problems_are_listed_and_have_other_lengths() -> None:
    assert [name.split("/")[0] for name in OTHER_LENGTHS] == PROBLEMS
    assert set(PROBLEMS) <= set(FAMILIES)


@pytest.mark.parametrize("name", [*PROBLEMS, *OTHER_LENGTHS])
def test_what_is_loaded_is_what_the_spec_says_and_no_sequence_comes_twice(name: str) -> None:
    dataset = get(name)
    assert dataset.spec.name == name
    assert dataset.is_prepared()
    loaded = [load(name, split) for split in SPLITS]  # load holds counts, channels, targets against the spec
    lengths = np.concatenate([examples.lengths for examples in loaded])
    assert (lengths.min(), lengths.max()) == dataset.spec.lengths
    contents = [sequence.tobytes() for examples in loaded for sequence in examples.sequences]
    assert len(set(contents)) == len(contents) == sum(dataset.spec.counts.values())


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_length_after_the_slash(name: str) -> None:
    usual = get(name)
    assert isinstance(usual, Synthetic)
    assert usual is DATASETS[name]
    same = f"{name}/{usual.usual_length}"
    assert load(same, "test").digest() == load(name, "test").digest()
    assert get(f"{name}/00{usual.shortest}").spec.name == f"{name}/{usual.shortest}"
    with pytest.raises(InvalidLength, match=rf"{name} has length {usual.shortest - 1}, expected at least \d+ \w+"):
        get(f"{name}/{usual.shortest - 1}")
    for wrong in ("", "-30", "1.5", "long", "100/2", "²"):
        with pytest.raises(InvalidLength, match=f"{name} has length '{wrong}', expected a whole number of"):
            get(f"{name}/{wrong}")
    assert InvalidLength.exit_code == 2


def test_a_name_that_is_no_family() -> None:
    with pytest.raises(UnknownDataset, match=r"unknown dataset 'parityy/20'; did you mean 'parity' or 'parity/...'"):
        get("parityy/20")
    with pytest.raises(UnknownDataset, match="unknown dataset 'digits_rows/8'; did you mean 'digits_rows'"):
        get("digits_rows/8")


def test_the_data_is_the_same_for_ever() -> None:
    # Typed from the first release: another value means that earlier figures stand for other data.
    digests = {name: [load(name, split).digest()[:16] for split in SPLITS] for name in [*PROBLEMS, *OTHER_LENGTHS]}
    assert digests == {
        "adding_problem": ["955c0bbb05ab214f", "2d231d795e07aed9"],
        "copy_memory": ["37a83e810f1b08f7", "b6f14f754afa7a63"],
        "embedded_reber": ["fc2478ed7c2612e3", "9ea28dfa38bbc337"],
        "mackey_glass": ["b0a53106678d9cc4", "90e9f5bfa3635ff2"],
        "parity": ["390fce26cd318c7d", "2b5e7e0f3c317b34"],
        "temporal_order": ["8b9474f69c50ccc5", "ca3fe1cc69d31a7a"],
        "adding_problem/7": ["bf606a5303871f93", "3fbd62b389f9b441"],
        "copy_memory/3": ["bfc0c28e878207c1", "f5a029f56a04452d"],
        "embedded_reber/30": ["0bfdafefab820334", "6f97bcc6762982a8"],
        "mackey_glass/18": ["e57f6c6d408be1bc", "4a22ecadaa3c6812"],
        "parity/16": ["e0f5dc1b1be7ddc9", "eb5499db76acda1c"],
        "temporal_order/25": ["34f65a61f137fac6", "185636bad7fe14a2"],
    }


@pytest.mark.parametrize("name", ["adding_problem", "adding_problem/7"])
def test_adding_problem(name: str) -> None:
    sums = []
    for sequence, target in every(name):
        first, second = np.flatnonzero(sequence[:, 1])
        assert sequence[[first, second], 1].tolist() == [1, 1]
        assert first < len(sequence) // 2 <= second
        assert target == np.float32(sequence[first, 0]) + np.float32(sequence[second, 0])
        sums.append(float(target[0]))
    [reference] = get(name).spec.references
    assert reference.value == pytest.approx(1 / 6)
    # 6000 sums: the mean of (sum - 1)^2 has a standard deviation of 0.0026.
    assert np.mean((np.array(sums) - 1) ** 2) == pytest.approx(reference.value, abs=0.01)


@pytest.mark.parametrize(("name", "delay"), [("copy_memory", 100), ("copy_memory/3", 3)])
def test_copy_memory(name: str, delay: int) -> None:
    memories = []
    for sequence, labels in every(name):
        symbols = symbols_of(sequence, "01234567_!")
        memory = symbols[:10]
        assert re.fullmatch("[0-7]{10}", memory)
        assert symbols == memory + "_" * (delay - 1) + "!" + "_" * 10
        assert "".join("01234567_"[label] for label in labels) == "_" * (delay + 10) + memory
        memories.append(memory)
    np.testing.assert_allclose(np.bincount(list(map(int, "".join(memories)))) / (10 * len(memories)), 1 / 8, atol=0.01)
    [reference] = get(name).spec.references
    assert reference.value == pytest.approx(10 * math.log(8) / (delay + 20))


@pytest.mark.parametrize(
    ("name", "first", "second", "lengths"),
    [("temporal_order", (10, 20), (50, 60), (100, 110)), ("temporal_order/25", (2, 5), (12, 15), (25, 27))],
)
def test_temporal_order(name: str, first: tuple[int, int], second: tuple[int, int], lengths: tuple[int, int]) -> None:
    seen = []
    for sequence, label in every(name):
        symbols = symbols_of(sequence, "EBabcdXY")
        start, one, middle, other = re.fullmatch("(E[a-d]+)([XY])([a-d]+)([XY])[a-d]+B", symbols).groups()
        assert get(name).spec.classes[label] == one + other
        seen.append((len(start), len(start + one + middle), len(symbols), label, *np.bincount(sequence.argmax(1))[2:6]))
    table = np.array(seen)
    for column, (low, high) in zip(table.T, [first, second, lengths, (0, 3)], strict=False):
        assert set(column) == set(range(low, high + 1))
    shares = table[:, 4:].sum(axis=0) / table[:, 4:].sum()
    np.testing.assert_allclose(shares, 1 / 4, atol=0.01)


AFTER_X = "(?:XT*VP)*(?:S|XT*VV)"
REBER = f"B(?:TS*X{AFTER_X}|PT*V(?:V|P{AFTER_X}))E"


@pytest.mark.parametrize("name", ["embedded_reber", "embedded_reber/30"])
def test_embedded_reber(name: str) -> None:
    inner = set()
    figures = []
    for sequence, label in every(name):
        string = symbols_of(sequence, "BTPSXVE")
        # The whole string must be grammatical once its last symbol but one is put right.
        assert re.fullmatch(f"B([TP]){REBER}\\1E", string[:-2] + string[1] + "E"), string
        assert label == bool(re.fullmatch(f"B([TP]){REBER}\\1E", string))
        assert string[-2] in "TP"
        inner.add(string[2:-2])
        figures.append((label, string[1] == "T", string[-2] == "T", len(string)))
    assert len(inner) == len(figures)
    # Neither end alone says anything about the class.
    table = np.array(figures)
    np.testing.assert_allclose(table[:, :3].mean(axis=0), 1 / 2, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(table[:, :3].T), np.eye(3), atol=0.05)


def test_inner_strings_are_equally_likely() -> None:
    class Short(EmbeddedReber):
        shortest = 9

    drawn = Short(13)._draw(np.random.RandomState(0), 16000)
    strings = ["".join("BTPSXVE"[symbol] for symbol in row if symbol >= 0) for row in drawn]
    every = {"".join(moves) for moves in itertools.product("TPSXV", repeat=7)}
    every = {moves for moves in every if re.fullmatch(REBER, f"B{moves}E")}
    counts = Counter(string for string in strings if len(string) == 7)
    assert set(counts) == every
    assert {len(string) for string in strings} == {7, 8}
    assert sum(counts.values()) == pytest.approx(8000, rel=0.03)
    # Some 727 each, with a standard deviation of 26.
    np.testing.assert_allclose(list(counts.values()), 8000 / len(every), atol=100)


@pytest.mark.parametrize("name", ["parity", "parity/16"])
def test_parity(name: str) -> None:
    pairs = every(name)
    for sequence, labels in pairs:
        state = 0
        for bit, label in zip(sequence[:, 0].astype(int).tolist(), labels.tolist(), strict=True):
            assert bit in (0, 1)
            state ^= bit
            assert label == state
    labels = np.array([labels for _, labels in pairs])
    np.testing.assert_allclose(labels.mean(axis=0), 1 / 2, atol=0.03)


def test_mackey_glass_is_exact_while_the_delayed_value_is_constant() -> None:
    history = np.array([0.5, 1.1, 1.3])
    time = np.arange(18)[:, None]
    rest = 2 * history / (1 + history**10)
    np.testing.assert_allclose(integrate(history, 17), rest + (history - rest) * np.exp(-time / 10), rtol=1e-9)


def test_mackey_glass_converges_with_the_fourth_power_of_the_step() -> None:
    history = np.array([1.1, 1.2, 1.3])
    coarse, usual, fine = (integrate(history, 100, substeps)[-1] for substeps in (5, 10, 40))
    assert np.abs(usual - fine).max() < 1e-6
    assert np.abs(coarse - fine).max() / np.abs(usual - fine).max() == pytest.approx(16, rel=0.3)


@pytest.mark.parametrize(("name", "steps"), [("mackey_glass", 100), ("mackey_glass/18", 18)])
def test_mackey_glass_windows(name: str, steps: int) -> None:
    whole = np.array([np.concatenate(pair)[:, 0] for pair in every(name)], float)
    assert whole.shape == (3000, steps + 84)
    # The equation itself: central differences of step 1 have an error of x'''/6.
    x, delayed = whole[:, 18:-1], whole[:, 1:-18]
    slopes = (whole[:, 19:] - whole[:, 17:-2]) / 2
    np.testing.assert_allclose(slopes, 0.2 * delayed / (1 + delayed**10) - 0.1 * x, atol=0.01)
    # Every window shows the attractor, none has come to rest.
    assert whole.min() > 0.2
    assert whole.max() < 1.4
    assert np.ptp(whole, axis=1).min() > 0.4
    # Test windows are no near copies of training windows: root mean square differences to the nearest, where values
    # vary by 0.23. Windows cut from one long trajectory have 0.0014 at the first percentile, 0.011 at the median.
    train, test = whole[:2000], whole[2000:]
    squares = (train**2).sum(axis=1) + (test**2).sum(axis=1)[:, None] - 2 * test @ train.T
    nearest = np.sqrt(squares.min(axis=1) / whole.shape[1])
    assert np.percentile(nearest, 1) > 5e-4
    assert np.median(nearest) > 5e-3


def test_distinct_rows_keep_the_order_of_the_draw() -> None:
    draws = iter([[3, 1, 3], [1], [2]])
    asked = []

    def draw(count: int) -> np.ndarray[Any, Any]:
        asked.append(count)
        return np.array(next(draws))[:, None]

    assert distinct_rows(draw, 3)[:, 0].tolist() == [3, 1, 2]
    assert asked == [3, 1, 1]
