"""The generated problems: their answers, found again by other means."""

import hashlib
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
@pytest.mark.sample(6)
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


def content(name: str, split: Split) -> str:
    """The beginning of a SHA-256 of all values, lengths and targets."""
    digest = hashlib.sha256()
    for sequence, target in zip(load(name, split).sequences, load(name, split).targets, strict=True):
        digest.update(str(len(sequence)).encode())
        digest.update(sequence.astype("<f4").tobytes())
        digest.update(np.asarray(target).astype("<f4").tobytes())
    return digest.hexdigest()[:16]


def test_the_data_is_the_same_for_ever() -> None:
    # Typed from the first release: another value means that earlier figures stand for other data.
    assert {name: [content(name, split) for split in SPLITS] for name in [*PROBLEMS, *OTHER_LENGTHS]} == {
        "adding_problem": ["baad528b154edb07", "ced15490d1177108"],
        "copy_memory": ["c88dedfed40ef3c2", "c927b95f92b5ecf4"],
        "embedded_reber": ["d4e0881f7d252d00", "3120dbee20983119"],
        "mackey_glass": ["5df37ec251cf4084", "15173d7d044c0a8d"],
        "parity": ["d4bcec050aef132f", "5e158252238fa768"],
        "temporal_order": ["a6f6487cbc1e4f5b", "3238745e0a45dbf0"],
        "adding_problem/7": ["72dc6db57248c951", "2888aa196e87048c"],
        "copy_memory/3": ["cc514291dd1570fb", "a1464529288e0863"],
        "embedded_reber/30": ["345eed9ef3c37279", "91b517ce5136687b"],
        "mackey_glass/18": ["84d13f4da0e39449", "8013561e0e8e2485"],
        "parity/16": ["70ac2f76db058800", "131bc3b907de3e60"],
        "temporal_order/25": ["2383abf66b8dd715", "d1c6a3a291e8c98f"],
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


@pytest.mark.parametrize(("name", "delay"), [("copy_memory", 20), ("copy_memory/3", 3)])
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
    [("temporal_order/100", (10, 20), (50, 60), (100, 110)), ("temporal_order/25", (2, 5), (12, 15), (25, 27))],
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
    strings = []
    for sequence, labels in every(name):
        string = symbols_of(sequence, "BTPESXV")
        assert re.fullmatch(f"B([TP]){REBER}\\1E", string), string
        strings.append(string)
        # Taken from the automaton of the grammar: where one symbol alone can follow, it is the label.
        for label, symbols in zip(labels, followers(string), strict=True):
            assert symbols == {get(name).spec.classes[label]} if label >= 0 else len(symbols) != 1
        assert (labels >= 0).sum() == 4
    # The outer symbol, which is the only one to be remembered for long, is drawn by a fair coin.
    assert np.mean([string[1] == "T" for string in strings]) == pytest.approx(1 / 2, abs=0.03)


GRAMMAR = {"T": {"S": "T", "X": "X"}, "P": {"T": "P", "V": "V"}, "X": {"X": "P", "S": "E"}, "V": {"P": "X", "V": "E"}}


def followers(string: str) -> list[set[str]]:
    """After each symbol of an embedded string, those that can follow, by walking through the grammar."""
    allowed = [{"T", "P"}, {"B"}, {"T", "P"}]
    state = string[3]
    for symbol in string[4:-3]:
        allowed.append(set(GRAMMAR[state]))
        state = GRAMMAR[state][symbol]
    assert state == "E"
    return [*allowed, {"E"}, {string[1]}, {"E"}, set()]


def test_strings_of_one_length_are_equally_likely() -> None:
    class Short(EmbeddedReber):
        shortest = 9

    drawn = Short(13)._draw(np.random.RandomState(0), 20000)
    strings = ["".join("BTPESXV"[symbol] for symbol in row if symbol >= 0) for row in drawn]
    lengths = Counter(map(len, strings))
    np.testing.assert_allclose([lengths[steps] for steps in range(9, 14)], 4000, rtol=0.05)
    inner = ("".join(moves) for moves in itertools.product("TPSXV", repeat=7))
    longest = {f"B{outer}B{moves}E{outer}E" for moves in inner if re.fullmatch(REBER, f"B{moves}E") for outer in "TP"}
    counts = Counter(string for string in strings if len(string) == 13)
    assert set(counts) == longest
    # Some 182 each, with a standard deviation of 13.
    np.testing.assert_allclose(list(counts.values()), 4000 / len(longest), atol=55)


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
