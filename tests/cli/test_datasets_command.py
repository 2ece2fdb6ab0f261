import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from training.cli.datasets import datasets, histogram
from training.datasets import DATASETS, FAMILIES, Dataset, UnknownDataset
from training.datasets.own import InvalidRequest
from training.datasets.store import rows as row_store
from training.datasets.store.tfds import data_directory


def call(*arguments: str) -> Result:
    return CliRunner().invoke(datasets, arguments)


def words(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


# === The list ===


def test_the_table_has_a_whole_row_for_every_dataset() -> None:
    result = call()
    assert result.exit_code == 0
    for name, dataset in DATASETS.items():
        (row,) = [line for line in result.stdout.splitlines() if line.split()[:1] == [name]]
        assert dataset.spec.licence in row
        assert dataset.spec.task in row
        assert {str(dataset.spec.counts[split]) for split in ("train", "test")} <= set(row.split())
    for family in FAMILIES:
        assert family in result.stdout.splitlines()[-2]


def test_in_a_terminal_of_80_columns_names_and_counts_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = call().stdout.splitlines()
    for name, dataset in DATASETS.items():
        (row,) = [line for line in lines if line.split()[:1] == [name]]
        assert len(row) <= 80
        assert {dataset.spec.task, *(str(dataset.spec.counts[split]) for split in ("train", "test"))} <= set(
            row.split()
        )


def test_json_holds_the_whole_spec() -> None:
    result = call("--json")
    listed = {facts["name"]: facts for facts in json.loads(result.stdout)}
    assert set(listed) == set(DATASETS)
    facts = listed["japanese_vowels"]
    assert facts["counts"] == {"train": 270, "test": 370}
    assert facts["lengths"] == [7, 29]
    assert facts["references"][0]["value"] == 0.99
    for arguments in (
        ("describe", "japanese_vowels", "--json"),
        ("japanese_vowels", "--json"),
        ("--json", "japanese_vowels"),
    ):
        assert json.loads(call(*arguments).stdout) == facts


# === One of the zoo's ===


@pytest.mark.parametrize("way", [(), ("describe",)])
def test_one_dataset_is_described_in_full(way: tuple[str, ...]) -> None:
    described = words(*way, "digits_rows")
    spec = DATASETS["digits_rows"].spec
    for text in (spec.features, spec.split_rule, spec.citation, spec.homepage, "none known for this split"):
        assert text in described
    assert "prepared yes, nothing on disk" in described


@pytest.mark.parametrize("name", [*sorted(DATASETS), "parity/20"])
def test_every_dataset_can_be_described(name: str) -> None:
    assert f"name {name} task" in words("describe", name)


def test_prepare(empty_data_directory: Path) -> None:
    assert json.loads(call("describe", "japanese_vowels", "--json").stdout)["prepared"] is False
    assert "prepared no (zoo datasets prepare japanese_vowels)" in words("japanese_vowels")
    made = call("prepare", "japanese_vowels")
    assert made.stdout.startswith("japanese_vowels is prepared, 0.")
    # One line of ours, and none of TensorFlow Datasets.
    assert made.stderr == f"preparing japanese_vowels in {empty_data_directory / 'japanese_vowels/1.0.0'}\n"
    again = call("prepare", "japanese_vowels", "--json")
    facts = json.loads(again.stdout)
    on_disk = sum(path.stat().st_size for path in empty_data_directory.rglob("*") if path.is_file())
    assert (facts["prepared"], facts["bytes_on_disk"], again.stderr) == (True, on_disk, "")


def test_what_is_packed_counts_as_on_disk(empty_data_directory: Path) -> None:
    before = json.loads(call("trec", "--json").stdout)["bytes_on_disk"]
    rows = [row_store.Row(np.zeros((100, 1), "float32"), 0)]
    row_store.read_or_make(data_directory() / "packed" / "trec" / "1" / "train", lambda: rows)
    assert before == 0
    assert json.loads(call("trec", "--json").stdout)["bytes_on_disk"] > 400


def test_preparing_says_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Dataset):
        spec = DATASETS["digits_rows"].spec

        def is_prepared(self) -> bool:
            return False

        def prepare(self) -> None:
            raise row_store.PreparationFailed("no space left")

        def _read(self, split: str) -> Any:
            raise AssertionError

    monkeypatch.setitem(DATASETS, "digits_rows", Broken())
    result = call("prepare", "digits_rows")
    assert isinstance(result.exception, row_store.PreparationFailed)
    assert result.stdout == ""


def test_wrong_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("prepare").exit_code == 2
    for arguments in (("digit_rows",), ("describe", "digit_rows"), ("prepare", "digit_rows")):
        unknown = call(*arguments)
        assert isinstance(unknown.exception, UnknownDataset)
        assert "did you mean 'digits_rows'" in str(unknown.exception)
    assert isinstance(call("describe", "nowhere.csv").exception, InvalidRequest)
    about_tasks = call("describe", "digits_rows", "--task", "regression")
    assert about_tasks.exit_code == 2
    assert "are for data of your own" in about_tasks.stderr
    assert call("describe", "digits_rows", "--task", "guessing").exit_code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --task=forecasting and --horizon=STEPS"),
        (["--task", "forecasting"], "--horizon=1 or more"),
        (["--task", "forecasting", "--horizon", "2", "--window", "0"], "--window=1 or more"),
        (["--task", "forecasting", "--horizon", "90"], "give a shorter --window or --horizon"),
    ],
)
def test_a_mistake_is_answered_with_the_options_of_this_verb(tmp_path: Path, options: list[str], said: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text("time,x\n" + "".join(f"{step},{step}\n" for step in range(40)))
    error = call("describe", str(path), *options).exception
    assert said in str(error)
    assert "dataset." not in str(error)


# === Data of your own ===


@pytest.fixture
def gestures(tmp_path: Path) -> Path:
    lengths = np.arange(30) % 15 + 1
    labels = np.array(["nod", "wave", "wave"] * 10)
    np.savez(tmp_path / "gestures.npz", x=np.random.RandomState(0).rand(30, 15, 2), y=labels, lengths=lengths)
    return tmp_path / "gestures.npz"


def test_data_of_your_own_is_described(gestures: Path) -> None:
    described = words("describe", str(gestures))
    for text in (
        "name own:gestures.npz",
        "task classification",
        "classes 2: nod, wave",
        "examples train 24, test 6",
        "split rule per class the first fifth",
        "nod 8 2",
        "wave 16 4",
        "1 to 2 4 ####",
        "15 to 16 2 ####",
    ):
        assert text in described
    assert words(str(gestures)) == described


def test_data_of_your_own_as_json(gestures: Path) -> None:
    facts = json.loads(call("describe", str(gestures), "--json").stdout)
    assert facts["content"] == {"train": {"nod": 8, "wave": 16}, "test": {"nod": 2, "wave": 4}}
    assert facts["length_counts"][0] == [1, 2, 4]
    assert sum(count for _, _, count in facts["length_counts"]) == 30
    assert facts["notes"] == []


@pytest.fixture
def firms(tmp_path: Path) -> Path:
    rows = [f"{firm},{1935 + year},{firm * 10 + year % 4}" for firm in (1, 2, 3) for year in range(20)]
    (tmp_path / "firms.csv").write_text("\n".join(["firm,year,invested", *rows]) + "\n")
    return tmp_path / "firms.csv"


FORECAST = ("--task", "forecasting", "--horizon", "2", "--window", "4")


def test_what_was_understood_and_what_is_open_is_described(firms: Path) -> None:
    described = words("describe", str(firms), *FORECAST)
    for text in (
        "columns id: firm; time: year",
        "time steps 1, evenly",
        "to be answered before training column 'year' repeats in 40 of 60 rows",
        "invested 10, 21.5, 33 10, 11, 12, 13",
        "series 0 invested",
    ):
        assert text in described
    answered = words("describe", str(firms), *FORECAST, "--id", "firm", "--time", "year")
    assert "to be answered" not in answered
    assert "columns id: firm; time: year" in answered


def test_what_was_understood_as_json_and_as_a_picture(firms: Path, tmp_path: Path) -> None:
    picture = tmp_path / "firms.png"
    facts = json.loads(call("describe", str(firms), *FORECAST, "--json", "--png", str(picture)).stdout)
    assert facts["columns"] == {"id": ["firm"], "time": ["year"], "channels": ["invested"]}
    assert [doubt["otherwise"] for doubt in facts["doubts"] if doubt["stops"]] == ["--id firm, or the column that does"]
    assert facts["ranges"]["invested"] == {"lowest": 10.0, "mean": 21.5, "highest": 33.0}
    assert facts["first_steps"] == [[10.0], [11.0], [12.0], [13.0]]
    assert (facts["time_between_steps"], facts["missing"]) == ("1, evenly", 0)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_steps_are_counted_of_labels_by_step(tmp_path: Path) -> None:
    y = np.tile([0, 1, 1, -1], (5, 1))
    np.savez(tmp_path / "x.npz", x=np.zeros((5, 4)), y=y)
    facts = json.loads(call("describe", str(tmp_path / "x.npz"), "--json").stdout)
    assert facts["content"]["train"] == {"0": 4, "1": 8, "(no label)": 4}
    assert "steps of class train test" in words("describe", str(tmp_path / "x.npz"))


def test_numbers_are_described_by_their_range(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((10, 4)), y=np.full((10, 2), [0.5, -2.0]))
    assert "y 1 -2, -2, -2" in words("describe", str(tmp_path / "x.npz"))
    np.savez(tmp_path / "x.npz", x=np.arange(200.0).reshape(2, 100))
    described = words("describe", str(tmp_path / "x.npz"), "--task", "forecasting", "--horizon", "3", "--window", "7")
    assert "task forecasting" in described
    assert "horizon 3 steps" in described
    assert "channel 0 7, " in described


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([5, 5, 5], [(5, 5, 3)]),
        ([1, 10], [(1, 1, 1), *((n, n, 0) for n in range(2, 10)), (10, 10, 1)]),
        ([1, 11], [(1, 2, 1), *((n, n + 1, 0) for n in range(3, 11, 2)), (11, 12, 1)]),
    ],
)
def test_histogram(lengths: list[int], expected: list[tuple[int, int, int]]) -> None:
    assert histogram(np.array(lengths)) == expected
