"""Data of your own as CSV files: every form, every task, and every way in which a file can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from own_datasets import loaded, long_file, named, sequences, write

from training.datasets.own import InvalidData, InvalidRequest, dataset

# === One long CSV file ===


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
        (["id,time,x,,label", "a,0,1,0,u"], "line 1: column 4 has no name"),
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
    from training.datasets.own.infer_task import _grouped, _stratified

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
    assert own.notes[0] == "1 of 3 classes have no example in test: rare"


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
    assert own.notes[0] == f"1 files of {folder} are no CSV: notes.txt"


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
    assert own.notes[:2] == (
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
        (
            {"1.csv": "x\n1", "labels.csv": "file,label,age\n1.csv,u,3"},
            "expected file, label and perhaps group, no more",
        ),
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
