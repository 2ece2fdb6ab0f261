"""Data of your own as arrays and `.ts` files, data to forecast, and how a dataset is found."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_datasets import loaded, long_file, named, sequences, write

from training.datasets import UnknownDataset, find
from training.datasets.own import InvalidData, InvalidRequest, dataset
from training.datasets.ts_format import MalformedTs

# === Arrays ===


def arrays(count: int = 10, steps: int = 4, channels: int = 2) -> Any:
    return np.arange(count * steps * channels, dtype="float32").reshape(count, steps, channels)


def saved(folder: Path, **given: Any) -> Path:
    np.savez(folder / "data.npz", **given)
    return folder / "data.npz"


def test_arrays_with_integer_labels(tmp_path: Path) -> None:
    own = loaded(saved(tmp_path, x=arrays(), y=np.array([7, -1] * 5)))
    assert (own.spec.task, own.spec.classes) == ("classification", ("-1", "7"))
    assert own.spec.lengths == (4, 4)


def test_arrays_with_lengths_groups_and_classes(tmp_path: Path) -> None:
    x = arrays()
    lengths = np.arange(10) % 4 + 1
    for index, length in enumerate(lengths):
        x[index, length:] = np.nan  # what is behind the end of a sequence is not read
    own = loaded(saved(tmp_path, x=x, y=[1, 0] * 5, lengths=lengths, groups=list("aabbccddee"), classes=["no", "yes"]))
    assert own.spec.classes == ("no", "yes")
    assert own.spec.lengths == (1, 4)
    test = own.load("test")
    assert test.groups is not None
    assert len(set(test.groups.tolist())) == 1
    index = int(test.sequences[0][0, 0]) // 8
    assert test.sequences[0].tolist() == x[index, : lengths[index]].tolist()
    assert named(own, "test")[0] == ("yes", "no")[index % 2]


@pytest.mark.parametrize(
    ("y", "task", "outputs"),
    [
        (np.linspace(0, 1, 10), "regression", ("y",)),
        (np.ones((10, 3)), "regression", ("y 0", "y 1", "y 2")),
        (np.arange(40).reshape(10, 4) % 3 - 1, "labelling", ()),
        (np.array([["a", "", "b", "b"]] * 10), "labelling", ()),
        (np.array([b"a", b"b"] * 5), "classification", ()),
        (np.array([True, False] * 5), "classification", ()),
    ],
)
def test_the_kind_of_y_says_the_task(y: Any, task: str, outputs: tuple[str, ...], tmp_path: Path) -> None:
    own = loaded(saved(tmp_path, x=arrays()[:, :, 0], y=y))
    assert (own.spec.task, own.spec.outputs, own.spec.channels) == (task, outputs, 1)
    if task == "labelling":
        assert {part.min() for part in own.load("train").targets} <= {-1, 0}
        assert len(own.spec.classes) == 2


@pytest.mark.parametrize("pattern", ["{}_{}", "{1}_{0}"])
def test_arrays_of_both_splits(pattern: str, tmp_path: Path) -> None:
    given = {}
    for split, labels in (("train", ["a", "b", "b"] * 2), ("test", ["b", "a"])):
        given[pattern.format("X", split)] = arrays(len(labels))
        given[pattern.format("y", split)] = labels
        given[pattern.format("groups", split)] = [f"{split}{index}" for index in range(len(labels))]
    own = loaded(saved(tmp_path, **given))
    assert own.spec.counts == {"train": 6, "test": 2}
    assert named(own, "train") == ["a", "b", "b"] * 2
    assert named(own, "test") == ["b", "a"]
    assert "train and test" in own.spec.split_rule


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": [1, 2]}, "holds y, expected an array x"),
        ({"x": arrays(), "z": [1]}, "an array 'z', expected x, y, lengths, groups, classes"),
        ({"x": arrays(), "x_train": arrays()}, "holds x, x_train, expected x and y, or x_train"),
        ({"x_train": arrays(), "y_train": [1] * 10}, "expected x and y, or x_train, y_train, x_test and y_test"),
        ({"x": arrays(), "X": arrays()}, "holds 'x' twice"),
        ({"x": arrays().ravel()}, r"float32 \[80\], expected numbers \[n, steps, channels\]"),
        ({"x": arrays().astype(str)}, "expected numbers"),
        ({"x": np.where(arrays() == 11, np.nan, arrays()), "y": [1, 2] * 5}, "sequence 1 holds 1 .* step 1, channel 1"),
        ({"x": arrays(), "y": [1, 2]}, r"y of .* is int64 \[2\], expected .* \[10\] or \[10, 4\]"),
        ({"x": arrays(), "y": [1j] * 10}, "complex128"),
        ({"x": arrays(), "y": [np.nan] * 10}, "10 rows are not finite, the first is 0"),
        ({"x": arrays(), "y": ["a", ""] * 5}, "sequence 1 has an empty label"),
        ({"x": arrays(), "y": [1, 2] * 5, "lengths": [4] * 9 + [5]}, "1 are not within 1 to 4.* 5 of sequence 9"),
        ({"x": arrays(), "y": [1, 2] * 5, "lengths": [4.0] * 10}, "expected integers"),
        ({"x": arrays(), "y": [1, 2] * 5, "groups": [0.5] * 10}, "groups .* expected integers or text"),
        ({"x": arrays(), "y": [1, 2] * 5, "classes": ["a", "b"]}, "holds 2, expected one of 2 classes: a, b"),
        ({"x": arrays(), "y": [1, 0] * 5, "classes": ["a", "a"]}, "expected different texts"),
        ({"x": arrays(), "y": ["a", "c"] * 5, "classes": ["a", "b"]}, "holds 'c', expected one of 2"),
        ({"x": arrays(), "y": [b"\xff", b"a"] * 5}, "y of .* holds bytes that are no UTF-8 text"),
        ({"x": np.array([np.zeros(2), np.zeros(3)], object), "y": [1, 2]}, "'x' of .* Python objects.*unpickling runs"),
        ({"x": arrays(2), "y": np.array(["a", None], object)}, "'y' of .* Python objects"),
        (
            {"x_train": arrays(), "y_train": [1, 2] * 5, "x_test": arrays(), "y_test": [0.5] * 10},
            "labels of train are one a sequence, those of test are numbers",
        ),
    ],
)
def test_what_is_wrong_with_arrays_is_named(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=message):
        dataset(saved(tmp_path, **given))


def test_a_damaged_archive_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path, x=np.random.RandomState(0).rand(10, 100), y=[1, 2] * 5)
    content = bytearray(path.read_bytes())
    content[500] ^= 255
    path.write_bytes(content)
    with pytest.raises(InvalidData, match="is damaged"):
        dataset(path)
    path.write_bytes(content[:1000])
    with pytest.raises(InvalidData, match=r"is no \.npz archive"):
        dataset(path)


# === A pair of .ts files ===

HEADER = ("@problemName P", "@classLabel true low high", "@data")


def ts_pair(folder: Path, train: Sequence[str], test: Sequence[str], header: Sequence[str] = HEADER) -> Path:
    write(folder / "P_TEST.ts", *header, *test)
    return write(folder / "P_TRAIN.ts", *header, *train)


def test_a_pair_of_ts_files(tmp_path: Path) -> None:
    train = ts_pair(tmp_path / "p", ["1,?,3:high", "4:low", "5:high"], ["?,7:low", "8,9:high"])
    for path in (train, train.with_name("P_TEST.ts"), train.parent):
        own = loaded(path)
        assert own.spec.classes == ("low", "high")
        assert own.spec.counts == {"train": 3, "test": 2}
        assert sequences(own, "train")[0] == [[1.0], [2.0], [3.0]]
        assert sequences(own, "test")[0] == [[7.0], [7.0]]
        assert named(own, "train") == ["high", "low", "high"]
        assert own.spec.split_rule == "the data's own: P_TRAIN.ts is train, P_TEST.ts is test"
        assert own.notes[0].startswith("missing values are filled")


def test_a_pair_of_ts_files_with_numbers(tmp_path: Path) -> None:
    own = loaded(ts_pair(tmp_path, ["1,2:0.5", "4:1"], ["6,7:2"], ["@targetLabel true", "@data"]))
    assert own.spec.task == "regression"
    assert own.load("train").targets.tolist() == [[0.5], [1.0]]
    assert own.notes == ()


def test_what_is_wrong_with_ts_files_is_named(tmp_path: Path) -> None:
    path = ts_pair(tmp_path / "p", ["1:high", "x:low"], ["2:low"])
    with pytest.raises(MalformedTs, match=r"P_TRAIN.ts, line 5"):
        dataset(path)
    path.with_name("P_TEST.ts").unlink()
    with pytest.raises(InvalidData, match=r"has no P_TEST.ts beside it"):
        dataset(path)
    ts_pair(tmp_path / "p", ["1:high", "2:low"], ["2,3:3,3:low"], ["@classLabel true low high", "@data"])
    with pytest.raises(InvalidData, match="of test has 2 channels, those of train have 1"):
        dataset(path)
    with pytest.raises(InvalidData, match=r"expected a pair named NAME_TRAIN\.ts"):
        dataset(write(tmp_path / "q" / "alone.ts", ""))
    with pytest.raises(InvalidData, match=r"holds 0 files \*_TRAIN\.ts"):
        dataset(tmp_path / "q")


# === Forecasting ===


def test_forecasting_one_series(tmp_path: Path) -> None:
    path = write(tmp_path / "sales.csv", "date,shop,web", *(f"2024-01-{day:02},{day},{-day}" for day in range(1, 31)))
    own = loaded(path, task="forecasting", horizon=2, window=3)
    assert (own.spec.outputs, own.spec.horizon, own.spec.lengths) == (("shop", "web"), 2, (3, 3))
    train, test = own.load("train"), own.load("test")
    assert train.sequences[0].tolist() == [[1, -1], [2, -2], [3, -3]]
    assert train.targets[0].tolist() == [[4, -4], [5, -5]]
    # The last fifth, days 25 to 30, is forecast in test alone, and each of its days is forecast.
    assert (train.targets.max(), test.targets[:, :, 0].min(), test.targets.max()) == (24, 25, 30)
    assert np.diff(test.targets[:, 0, 0]).tolist() == [1.0] * 4
    assert len(train) == 20
    assert train.spans is not None
    assert train.spans[:2].tolist() == [[0, 0, 5], [0, 1, 6]]


def test_the_window_is_four_horizons_unless_said(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "time,x", *(f"{step},{step}" for step in range(100)))
    assert loaded(path, task="forecasting", horizon=5).spec.lengths == (20, 20)


def test_forecasting_many_series(tmp_path: Path) -> None:
    own = loaded(saved(tmp_path, x=arrays(3, 20, 1), y=[1, 2, 1]), task="forecasting", horizon=1, window=4)
    assert own.spec.counts == {"train": 3 * 12, "test": 3 * 4}
    assert own.notes == ("labels are not used: the channels themselves are forecast",)
    train = own.load("train")
    assert (train.targets[:, 0, 0] == [sequence[-1, 0] + 1 for sequence in train.sequences]).all()


def test_forecasting_with_a_split_of_the_data(tmp_path: Path) -> None:
    path = saved(tmp_path, x_train=arrays(2, 10, 1), x_test=-arrays(1, 10, 1))
    own = loaded(path, task="forecasting", horizon=2, window=3)
    assert own.spec.counts == {"train": 2 * 6, "test": 6}
    assert own.load("test").targets.max() <= 0


def test_wrong_requests_to_forecast(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "time,x", *(f"{step},{step}" for step in range(10)))
    with pytest.raises(InvalidRequest, match=r"no labels.*give dataset.task=forecasting and dataset.horizon=STEPS"):
        dataset(path)
    with pytest.raises(InvalidRequest, match="received horizon None"):
        dataset(path, task="forecasting")
    with pytest.raises(InvalidRequest, match="received window 0"):
        dataset(path, task="forecasting", horizon=1, window=0)
    with pytest.raises(
        InvalidData, match=r"series 0 of 1 has 10 steps, of which 3 are test: too few for a window of 12"
    ):
        dataset(path, task="forecasting", horizon=3)
    with pytest.raises(InvalidRequest, match=r"expected them with dataset\.task=forecasting only"):
        dataset(long_file(tmp_path), horizon=3)


# === Asking for it ===


def test_find(tmp_path: Path) -> None:
    path = long_file(tmp_path)
    assert find("digits_rows").spec.name == "digits_rows"
    assert find("digits_rows", str(path)).spec.name == "own:long.csv"
    series = saved(tmp_path, x=arrays())
    assert find("anything", str(series), task="forecasting", horizon=1, window=1).spec.horizon == 1
    with pytest.raises(UnknownDataset):
        find("long.csv")
    for missing in ("nowhere.csv", "nowhere"):
        with pytest.raises(InvalidRequest, match="there is no file or folder") as error:
            find("digits_rows", str(tmp_path / missing))
        assert error.value.exit_code == 2
    with pytest.raises(InvalidRequest, match=r"ends with '\.xls', expected \.ts, \.npz, \.csv, .* or a folder"):
        find("digits_rows", str(write(tmp_path / "x.xls", "")))


def test_what_has_not_changed_is_read_once(tmp_path: Path) -> None:
    path = long_file(tmp_path)
    first = dataset(path)
    assert dataset(path) is first
    path.write_text(path.read_text().replace("down", "left"))
    os.utime(path, ns=(1, 1))  # a clock may be too coarse to tell
    assert dataset(path).spec.classes == ("left", "up")
