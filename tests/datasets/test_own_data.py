"""Data of your own: every form, every task, and every way in which a file can be wrong."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.datasets import UnknownDataset, find
from training.datasets.own import InvalidData, InvalidRequest, OwnData, dataset
from training.datasets.ts_format import MalformedTs


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def loaded(path: Path, **how: Any) -> OwnData:
    """The dataset, once it has kept what every dataset promises."""
    own = dataset(path, **how)
    again = dataset(path, **how)
    parts = {split: own.load(split) for split in ("train", "test")}  # type: ignore[arg-type]
    assert {split: len(part) for split, part in parts.items()} == own.spec.counts
    lengths = np.concatenate([part.lengths for part in parts.values()])
    assert own.spec.lengths == (lengths.min(), lengths.max())
    assert [again.load(split).digest() for split in parts] == [part.digest() for part in parts.values()]  # type: ignore[arg-type]
    assert (len(own.spec.classes) >= 2) == (own.spec.task in ("classification", "labelling"))
    assert own.spec.name == f"own:{path.name}"
    return own


def sequences(own: OwnData, split: Any) -> list[list[list[float]]]:
    return [sequence.tolist() for sequence in own.load(split).sequences]


def named(own: OwnData, split: Any) -> list[str]:
    return [own.spec.classes[label] for label in own.load(split).labels]


# === One long CSV file ===


def long_file(folder: Path, count: int = 10, labels: Sequence[str] = ("up", "down"), extra: str = "") -> Path:
    """Sequences s0, s1, ... of 2 + index % 3 steps; the values say which sequence and step."""
    lines = ["id,time,x,y,label" + (f",{extra}" if extra else "")]
    for index in range(count):
        for step in range(2 + index % 3):
            more = f",g{index % 5}" if extra == "group" else f",{'test' if index < 3 else 'Train'}" if extra else ""
            lines.append(f"s{index},{step},{index}.5,{step},{labels[index % len(labels)]}{more}")
    return write(folder / "long.csv", *lines)


def test_a_long_file(tmp_path: Path) -> None:
    own = loaded(long_file(tmp_path))
    spec = own.spec
    assert (spec.task, spec.classes, spec.channels) == ("classification", ("down", "up"), 2)
    assert spec.counts == {"train": 8, "test": 2}
    assert spec.features == "x, y, as in the data"
    assert sorted(named(own, "test")) == ["down", "up"]
    for split in ("train", "test"):
        for sequence, label in zip(sequences(own, split), named(own, split), strict=True):
            index = int(sequence[0][0])
            assert sequence == [[index + 0.5, float(step)] for step in range(2 + index % 3)]
            assert label == ("up", "down")[index % 2]


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    path = long_file(tmp_path)
    before = {split: dataset(path).load(split).digest() for split in ("train", "test")}  # type: ignore[arg-type]
    header, *rows = path.read_text().splitlines()
    np.random.RandomState(0).shuffle(rows)
    path = write(tmp_path / "shuffled.csv", header, *rows)
    assert {split: dataset(path).load(split).digest() for split in before} == before  # type: ignore[arg-type]


def test_columns_have_names_in_any_case_and_order(tmp_path: Path) -> None:
    rows = [f"{'ab'[i % 2]};{step};P{i};{step * 60};{i}" for i in range(8) for step in (2, 1)]
    own = loaded(write(tmp_path / "x.csv", "\ufeffClass; ECG ;Subject;TIMESTAMP;Id", *rows))
    assert own.spec.features == "ECG, as in the data"
    assert own.spec.classes == ("a", "b")
    assert sequences(own, "train")[0] == [[1.0], [2.0]]
    assert "by group" in own.spec.split_rule


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        (("2", "10"), "classification", ("2", "10")),
        (("1", "1.0", "0"), "classification", ("0", "1")),
        (("1", "0.5"), "regression", ()),
        (("1", "0.5", "none"), "classification", ("0.5", "1", "none")),
        (("1e3", "7"), "classification", ("7", "1000")),
    ],
)
def test_the_task_is_inferred(labels: tuple[str, ...], task: str, classes: tuple[str, ...], tmp_path: Path) -> None:
    own = loaded(long_file(tmp_path, count=12, labels=labels))
    assert (own.spec.task, own.spec.classes) == (task, classes)
    if task == "regression":
        assert own.spec.outputs == ("label",)
        assert set(own.load("train").targets.ravel().tolist()) == {float(label) for label in labels}


def test_the_task_can_be_said(tmp_path: Path) -> None:
    path = long_file(tmp_path, labels=("1", "0.5"))
    assert loaded(path, task="classification").spec.classes == ("0.5", "1")
    path = long_file(tmp_path, labels=("1", "3"))
    assert loaded(path, task="regression").spec.classes == ()
    assert loaded(path, task="labelling").load("train").targets[0].tolist() in ([0, 0], [1, 1])
    with pytest.raises(InvalidRequest, match="unknown task 'regresion'; did you mean 'regression'"):
        dataset(path, task="regresion")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="language_model"):
        dataset(path, task="language_model")
    with pytest.raises(InvalidRequest, match="'up' is not a number"):
        dataset(long_file(tmp_path), task="regression")


def test_labels_that_change_within_a_sequence(tmp_path: Path) -> None:
    rows = [f"{i},{step},{step},{label}" for i in range(5) for step, label in enumerate(["walk", "run", ""])]
    path = write(tmp_path / "steps.csv", "id,time,x,label", *rows)
    own = loaded(path)
    assert (own.spec.task, own.spec.classes) == ("labelling", ("run", "walk"))
    assert own.load("test").targets[0].tolist() == [1, 0, -1]
    assert "changes within 5 of 5 sequences (the first is '0')" in own.notes[0]
    with pytest.raises(InvalidRequest, match=r"a label a step, expected one a sequence.*the first is '0'"):
        dataset(path, task="classification")
    measured = write(tmp_path / "measured.csv", "id,time,x,label", *(f"{i},{s},0,{s}.5" for i in "ab" for s in (1, 2)))
    with pytest.raises(InvalidData, match="a number a step cannot be predicted"):
        dataset(measured)


def test_times_may_be_dates(tmp_path: Path) -> None:
    rows = [f"{i},2024-0{m}-01T12:00:00,{m},{'ab'[i % 2]}" for i in range(4) for m in (3, 1, 2)]
    own = loaded(write(tmp_path / "dates.csv", "id,date,x,label", *rows))
    assert sequences(own, "train")[0] == [[1.0], [2.0], [3.0]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["id,time,x,label", "a,0,1,u", "a,0,2,u"], "line 3: the same time as in line 2"),
        (["id,time,x,label", "a,0,1,u", "a,1,two,u"], "line 3: 'two' in column 'x' is not a number"),
        (["id,time,x,label", "a,0,1,u", "a,1,,u"], "line 3: no value in column 'x'"),
        (["id,time,x,label", "a,0,nan,u"], "line 2: no value in column 'x'"),
        (["id,time,x,label", "a,0,1e39,u"], "line 2: '1e\\+39' in column 'x' is not a number that float32 can hold"),
        (["id,time,x,label", "a,0,1,u", "a,1,1"], "line 3: 3 cells, expected 4"),
        (["id,time,x,label", "a,0,1,u", "a,1,1,u,"], "line 3: 5 cells, expected 4"),
        (["id,time,x,label", "a,0,1,u", "", "a,1,1,u"], "line 3: empty, with more lines behind it"),
        (["id,time,x,label", "a,noon,1,u"], "line 2: the time is not a number"),
        (["id,time,x,label", "a,0,1,u", "a,2024-01-01,1,u"], "line 3: the time is not a number"),
        (["id,time,x,label", ",0,1,u"], "line 2: '' in column 'id', expected something"),
        (["id,time,x,label", "a,0,1,u", "b,0,1,"], "line 3: no label"),
        (["id,time,x,label,group", "a,0,1,u,p", "a,1,1,u,q"], "line 3: the group changes within a sequence"),
        (["id,time,x,label,group", "a,0,1,u,"], "line 2: '' in column 'group', expected something"),
        (["id,time,x,label,split", "a,0,1,u,dev"], "line 2: 'dev' in column 'split', expected train or test"),
        (["id,time,x,label,split", "a,0,1,u,train"], "every row has the same split"),
        (["id,time,x,x,label", "a,0,1,1,u"], "line 1: the column 'x' is there twice"),
        (["id,time,x,label,target", "a,0,1,1,u"], "line 1: both 'label' and 'target' name the label"),
        ([",id,time,x,label", "0,a,0,1,u"], "line 1: column 1 has no name.*index=False"),
        (["1,2,3,4", "1,2,3,4"], "line 1: 1,2,3,4 are numbers, expected the names of the columns"),
        (["id,time,label", "a,0,u"], "expected at least one channel"),
        (["id,x,label", "a,0,u"], "has a column id but none named time or timestamp or date"),
        (["id,time,x,label"], "has no line behind the first"),
        ([], "is empty"),
        (["id,time,x,label", 'a,0,"1,u'], "is no CSV"),
        (["id,time,x,label", "a,0,1,u", "b,0,1,u"], "every label is 'u', expected at least 2 different ones"),
        (["id,time,x,label", "a,0,1,u"], "received 1 sequence, expected at least 2"),
        (["id,time,x,label", *(f"{i},0,1,u{i}" for i in range(6))], "6 different labels of 6 sequences are too many"),
    ],
)
def test_what_is_wrong_with_a_long_file_is_named(lines: list[str], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "wrong.csv", *lines) if lines else tmp_path / "wrong.csv"
    path.touch()
    with pytest.raises(InvalidData, match=message) as error:
        dataset(path)
    assert error.value.exit_code == 1


def test_all_bad_lines_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.csv", "id,time,x,label", *(f"a,{step},?,u" for step in range(10)))
    with pytest.raises(InvalidData) as error:
        dataset(path)
    assert str(path) in str(error.value)
    assert [f"line {line}: " in str(error.value) for line in range(1, 7)] == [False, True, True, True, False, False]
    assert "and 7 more" in str(error.value)


def test_no_text_is_not_taken_for_text(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("id,time,größe,label\n".encode("latin-1"))
    with pytest.raises(InvalidData, match="is no UTF-8 text"):
        dataset(path)


# === The split ===


def test_the_split_stays_as_it_is() -> None:
    """Figures of a file stay comparable only while the rule gives the same; these were written down once."""
    from training.datasets.own.tasks import _grouped, _stratified

    assert np.flatnonzero(_stratified(np.repeat([0, 1], [10, 5]))).tolist() == [2, 8, 11]
    assert np.flatnonzero(_grouped(np.array(list("abcdefghij")), np.zeros(10, np.int64))).tolist() == [2, 8]


def test_every_class_is_in_both_splits(tmp_path: Path) -> None:
    own = loaded(long_file(tmp_path, count=40, labels=("a", "a", "a", "b")))
    assert named(own, "test").count("a") == 6
    assert named(own, "test").count("b") == 2
    assert "per class the first fifth" in own.spec.split_rule


def test_a_class_of_one_sequence_stays_in_train_and_is_named(tmp_path: Path) -> None:
    rows = [f"{i},0,{i},{'rare' if i == 3 else 'ab'[i % 2]}" for i in range(12)]
    own = loaded(write(tmp_path / "x.csv", "id,time,x,label", *rows))
    assert own.notes == ("1 of 3 classes have no example in test: rare",)


def test_groups_are_not_parted(tmp_path: Path) -> None:
    own = loaded(long_file(tmp_path, count=20, extra="group"))
    groups = {split: set(own.load(split).groups.tolist()) for split in ("train", "test")}  # type: ignore[arg-type, union-attr]
    assert groups["train"] | groups["test"] == set(range(5))
    assert not groups["train"] & groups["test"]
    assert own.spec.counts == {"train": 16, "test": 4}


def test_groups_that_cannot_be_parted_are_refused(tmp_path: Path) -> None:
    rows = [f"{i},0,{i},{'ab'[i % 2]},{'pq'[i % 2]}" for i in range(8)]
    with pytest.raises(InvalidData, match="no group of 2 can be set aside"):
        dataset(write(tmp_path / "x.csv", "id,time,x,label,group", *rows))


def test_one_large_group_is_not_the_test_split(tmp_path: Path) -> None:
    rows = [f"{i},0,{i},{'ab'[i % 2]},{'big' if i < 30 else f'small{i // 4}'}" for i in range(40)]
    own = loaded(write(tmp_path / "x.csv", "id,time,x,label,group", *rows))
    assert 0 < own.spec.counts["test"] <= 8


def test_a_column_can_give_the_split(tmp_path: Path) -> None:
    own = loaded(long_file(tmp_path, extra="split"))
    assert own.spec.counts == {"train": 7, "test": 3}
    assert own.spec.split_rule == "the data's own: the column split"
    assert [sequence[0][0] for sequence in sequences(own, "test")] == [0.5, 1.5, 2.5]


# === A folder of CSV files ===


def recording(path: Path, first: float = 0.0, steps: int = 3, header: str = "x,y") -> Path:
    return write(path, header, *(f"{first},{step}" for step in range(steps)))


def test_sub_folders_are_labels(tmp_path: Path) -> None:
    folder = tmp_path / "gestures"
    for index in range(10):
        recording(folder / ("wave" if index % 2 else "point") / f"{index}.CSV", index)
    write(folder / "wave" / "notes.txt", "left hand")
    write(folder / ".hidden", "no one reads this")
    own = loaded(folder)
    assert own.spec.classes == ("point", "wave")
    assert own.spec.channels == 2
    assert own.spec.counts == {"train": 8, "test": 2}
    for split in ("train", "test"):
        for sequence, label in zip(sequences(own, split), named(own, split), strict=True):
            assert label == ("wave" if sequence[0][0] % 2 else "point")
    assert own.notes == (f"1 files of {folder} are no CSV: notes.txt",)


def test_a_table_of_labels(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for index in range(10):
        recording(folder / f"{index}.csv", index)
    lines = [f"{index}.csv,{index / 2},{'abcde'[index // 2]}" for index in range(10)]
    write(folder / "labels.csv", "File,Target,Subject", *lines)
    own = loaded(folder)
    assert own.spec.task == "regression"
    assert own.spec.counts == {"train": 8, "test": 2}
    test = own.load("test")
    assert test.targets[:, 0].tolist() == [sequence[0, 0] / 2 for sequence in test.sequences]
    assert test.groups is not None
    assert len(set(test.groups.tolist())) == 1


def test_folders_train_and_test_are_the_split(tmp_path: Path) -> None:
    for split, labels in (("train", "ab"), ("test", "bc")):
        for label in labels:
            for index in range(2):
                recording(tmp_path / "x" / split / label / f"{index}.csv", ord(label))
    own = loaded(tmp_path / "x")
    assert own.spec.classes == ("a", "b", "c")
    assert own.spec.counts == {"train": 4, "test": 4}
    for split in ("train", "test"):
        assert [chr(int(sequence[0][0])) for sequence in sequences(own, split)] == named(own, split)
    assert own.notes == (
        "1 of 3 classes have no example in train: c",
        "1 of 3 classes have no example in test: a",
    )


def test_files_may_carry_their_labels(tmp_path: Path) -> None:
    for index in range(5):
        write(tmp_path / "x" / f"{index}.csv", "label,x", f"a,{index}", "b,1", "b,2")
    own = loaded(tmp_path / "x")
    assert own.spec.task == "labelling"
    assert {tuple(labels.tolist()) for labels in own.load("train").targets} == {(0, 1, 1)}


@pytest.mark.parametrize("empty", ["train", "test"])
def test_a_split_without_any_label_is_refused(empty: str, tmp_path: Path) -> None:
    parts = {}
    for split in ("train", "test"):
        parts[f"x_{split}"] = np.ones((4, 3, 1))
        parts[f"y_{split}"] = np.full((4, 3), -1) if split == empty else np.tile([0, -1, 1], (4, 1))
    np.savez(tmp_path / "sparse.npz", **parts)
    with pytest.raises(InvalidData, match=rf"no step of the 4 sequences of the {empty} split has a label"):
        loaded(tmp_path / "sparse.npz")


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    recording(tmp_path / "x" / "a" / "0.csv", 1.0)
    recording(tmp_path / "x" / "b" / "0.csv", 1.0)
    recording(tmp_path / "x" / "b" / "1.csv", 2.0, header="y,x")
    recording(tmp_path / "x" / "a" / "1.csv", 2.0, header="y,x")
    own = loaded(tmp_path / "x")
    firsts = {tuple(sequence[1]) for split in ("train", "test") for sequence in sequences(own, split)}
    assert firsts == {(1.0, 1.0), (1.0, 2.0)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/1.csv": "x\n1", "a/2.csv": "x\n?"}, "a/2.csv, line 2: no value in column 'x'"),
        ({"a/1.csv": "x\n1", "b/1.csv": "y\n1"}, "b/1.csv has the columns y, expected those of .*a/1.csv: x"),
        ({"a/1.csv": "x,label\n1,u"}, "a/1.csv has a column 'label'.*the folder says the label"),
        ({"a/1.csv": "x,id\n1,u"}, "a/1.csv has a column 'id'"),
        ({"a/b/1.csv": "x\n1"}, "a/b is a folder, expected CSV files only in .*a, which names a label"),
        ({"a/1.csv": "x\n1", "2.csv": "x\n1"}, r"holds both CSV files \(2.csv\) and folders \(a\)"),
        ({"a.txt": ""}, "holds no CSV file"),
        ({"1.csv": "x\n1", "labels.csv": "file,label\n2.csv,u"}, "line 2: there is no file '2.csv' beside the table"),
        (
            {"1.csv": "x\n1", "labels.csv": "file,label\n1.csv,u\n1.csv,v"},
            "line 3: the file '1.csv' was labelled before",
        ),
        ({"1.csv": "x\n1", "labels.csv": "file,label\n1.csv,"}, "line 2: an empty cell"),
        ({"1.csv": "x\n1", "labels.csv": "file,label\n1.csv"}, "line 2: 1 cells, expected 2"),
        ({"1.csv": "x\n1", "2.csv": "x\n1", "labels.csv": "file,label\n1.csv,u"}, "says nothing of 1 files.* 2.csv"),
        (
            {"1.csv": "x\n1", "labels.csv": "name,label\n1.csv,u"},
            "labels.csv has the columns name, label, expected file",
        ),
        ({"1.csv": "x\n1", "labels.csv": "file,label,age\n1.csv,u,3"}, "expected no more than file, label, group"),
        ({"train/a/1.csv": "x\n1", "test/a/1.csv": "x\n1", "a/1.csv": "x\n1"}, "holds a beside the folders train and"),
        (
            {"train/a/1.csv": "x\n1", "test/a/1.csv": "y\n1"},
            r"channels of train are \['x'\], those of test are \['y'\]",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        write(tmp_path / "x" / name, content)
    with pytest.raises(InvalidData, match=message):
        dataset(tmp_path / "x")


def test_equal_times_in_one_of_many_files_are_named_by_file(tmp_path: Path) -> None:
    write(tmp_path / "x" / "a" / "1.csv", "time,x", "0,1", "1,1")
    write(tmp_path / "x" / "b" / "1.csv", "time,x", "5,1", "5,1")
    with pytest.raises(InvalidData, match=r"b/1.csv, line 3: the same time as in line 2"):
        dataset(tmp_path / "x")


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
    assert train.groups is not None
    assert len(set(train.groups.tolist())) == 10
    assert (np.diff(train.groups) >= 0).all()


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
    with pytest.raises(InvalidRequest, match=r"ends with '\.txt', expected \.ts, \.npz, \.csv or a folder"):
        find("digits_rows", str(write(tmp_path / "x.txt", "")))


def test_what_has_not_changed_is_read_once(tmp_path: Path) -> None:
    path = long_file(tmp_path)
    first = dataset(path)
    assert dataset(path) is first
    path.write_text(path.read_text().replace("down", "left"))
    os.utime(path, ns=(1, 1))  # a clock may be too coarse to tell
    assert dataset(path).spec.classes == ("left", "up")
