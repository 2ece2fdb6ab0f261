"""Nothing that validation or test asks for was seen in training, counted step by step, for every task and form."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_datasets import write

from training.batches.batches import InvalidPipeline
from training.config import Config
from training.config.schema import DatasetSection
from training.datasets.base import Examples
from training.run.loop import Data, load_data

# Every step of these files is a number of its own, so that what is shared can be counted whatever cuts it up.


def series_file(folder: Path, steps: int = 200) -> Path:
    return write(folder / "series.csv", "time,x", *(f"{step},{step + 1}" for step in range(steps)))


def panel_file(folder: Path) -> Path:
    rows = [f"{'abc'[i]},{step},{1000 * i + step + 1}" for i in range(3) for step in range(60 + 30 * i)]
    return write(folder / "panel.csv", "id,time,x", *rows)


def labelled_file(folder: Path, label: Callable[[int, int], object], extra: str = "", steps: int = 4) -> Path:
    header = "id,time,x,label" + (",group" if extra else "")
    rows = [
        f"s{i:02},{step},{100 * i + step + 1},{label(i, step)}" + (f",g{i // 4}" if extra else "")
        for i in range(40)
        for step in range(steps)
    ]
    return write(folder / "labelled.csv", header, *rows)


def windows_of_recordings(folder: Path) -> Path:
    """Windows that overlap by half, cut from 10 recordings, without a word about which is from which."""
    recordings = [np.arange(50.0) + 1000 * index + 1 for index in range(10)]
    x = [recording[begin : begin + 10] for recording in recordings for begin in range(0, 41, 5)]
    np.savez(folder / "windows.npz", x=np.array(x), y=np.repeat(["a", "b"] * 5, 9))
    return folder / "windows.npz"


FORMS: dict[str, tuple[Callable[[Path], Path], dict[str, object]]] = {
    "one series": (series_file, {"task": "forecasting", "horizon": 12}),
    "one series, a long horizon": (series_file, {"task": "forecasting", "horizon": 24, "window": 30}),
    "one series, half of it to validate": (
        series_file,
        {"task": "forecasting", "horizon": 1, "validation_fraction": 0.5},
    ),
    "a panel": (panel_file, {"task": "forecasting", "horizon": 5, "window": 7}),
    "classes": (lambda folder: labelled_file(folder, lambda i, _: "ab"[i % 2]), {}),
    "classes and groups": (lambda folder: labelled_file(folder, lambda i, _: "ab"[i % 2], "group"), {}),
    "numbers": (lambda folder: labelled_file(folder, lambda i, _: i + 0.5), {}),
    "labels a step": (lambda folder: labelled_file(folder, lambda i, step: "ab"[(i + step) % 2]), {}),
    "windows of recordings": (windows_of_recordings, {}),
}


def own_data(path: Path, **arguments: object) -> Data:
    return load_data(Config(dataset=DatasetSection(path=str(path), **arguments)))  # type: ignore[arg-type]


def given(examples: Examples) -> set[float]:
    return {float(value) for sequence in examples.sequences for value in sequence[:, 0]}


def asked(examples: Examples) -> set[float]:
    """The steps of which something is asked: those to forecast, else those that are labelled."""
    if examples.spans is not None:
        return {float(value) for value in examples.targets[:, :, 0].ravel()}
    return given(examples)


@pytest.mark.parametrize("form", FORMS)
def test_no_step_that_is_asked_was_seen_in_training(form: str, tmp_path: Path) -> None:
    make, arguments = FORMS[form]
    data = own_data(make(tmp_path), **arguments)
    test = data.dataset.load("test")
    seen = given(data.train) | asked(data.train)
    assert len(seen & asked(data.validation)) == 0
    assert len(seen & asked(test)) == 0
    assert len(asked(data.validation) & asked(test)) == 0
    assert min(len(data.train), len(data.validation), len(test)) > 0


@pytest.mark.parametrize("form", ["classes and groups", "windows of recordings"])
def test_a_group_is_on_one_side(form: str, tmp_path: Path) -> None:
    make, arguments = FORMS[form]
    data = own_data(make(tmp_path), **arguments)
    parts = [data.train, data.validation, data.dataset.load("test")]
    groups = [set(part.groups.tolist()) for part in parts if part.groups is not None]
    assert len(groups) == 3
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_validation_is_the_last_stretch_before_test(tmp_path: Path) -> None:
    data = own_data(series_file(tmp_path), task="forecasting", horizon=10, window=20)
    parts = [data.train, data.validation, data.dataset.load("test")]
    # 200 steps: 40 are test, a fifth of the 160 before them are validation; each side without a gap.
    assert [(min(asked(part)), max(asked(part))) for part in parts] == [(21, 128), (129, 160), (161, 200)]
    # What validation and test are given reaches back.
    assert [min(given(part)) for part in parts] == [1, 109, 141]


def test_each_series_of_a_panel_is_split_alike(tmp_path: Path) -> None:
    data = own_data(panel_file(tmp_path), task="forecasting", horizon=5, window=7)
    for part in (data.train, data.validation, data.dataset.load("test")):
        assert {int(value) // 1000 for value in asked(part)} == {0, 1, 2}
    for series, steps in enumerate((60, 90, 120)):
        bounds = [
            sorted(value - 1000 * series for value in asked(part) if value // 1000 == series)
            for part in (data.train, data.validation, data.dataset.load("test"))
        ]
        assert bounds[0][-1] + 1 == bounds[1][0]
        assert bounds[1][-1] + 1 == bounds[2][0] == steps - steps // 5 + 1


def test_a_series_too_short_is_refused_with_the_numbers(tmp_path: Path) -> None:
    from training.datasets.own import InvalidData

    path = series_file(tmp_path, steps=20)
    message = r"series 0 of 1 has 20 steps, of which 4 are test: too few for a window of 10 and the 4 after it to train"
    with pytest.raises(InvalidData, match=message + r" on and 4 more to validate, which need 18"):
        own_data(path, task="forecasting", horizon=4, window=10)
    assert len(own_data(path, task="forecasting", horizon=4, window=8).validation) == 1


def test_a_split_of_windows_needs_room_on_both_sides() -> None:
    from training.batches.splitting import train_validation_split

    spans = np.array([[0, 0, 4], [0, 1, 5]])
    examples = Examples([np.zeros((3, 1), "float32")] * 2, np.zeros((2, 1, 1), "float32"), spans=spans)
    train, validation = train_validation_split(examples, 0.2, seed=0)
    assert (len(train), len(validation)) == (1, 1)
    with pytest.raises(InvalidPipeline, match="series 0 has 4 steps to train and validate on, expected at least 5"):
        train_validation_split(examples.subset([0]), 0.2, seed=0)
