import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.datasets.ts_format import MalformedTs, channel_means, fill_missing, read_ts, stream_ts

nan = float("nan")


def lines(*header: str, data: str = "") -> list[str]:
    return [*header, "@data", *data.splitlines()]


def case(data: str, *header: str) -> list[str]:
    """A file with two classes, whose first case is in line 3 where there is no more header."""
    return lines(*header, "@classLabel true a b", data=data)


def same(received: list[np.ndarray], expected: list[list[list[float]]]) -> None:
    """`expected` is written as the file is: by case, then by channel."""
    assert [sequence.shape for sequence in received] == [np.transpose(channels).shape for channels in expected]
    for sequence, channels in zip(received, expected, strict=True):
        assert sequence.dtype == np.float32
        np.testing.assert_array_equal(sequence, np.transpose(channels).astype(np.float32))


FLAVOURS = {
    "univariate": (
        case("1,2,3:b\n4,5,6:a", "@univariate true", "@equalLength true", "@seriesLength 3"),
        [[[1, 2, 3]], [[4, 5, 6]]],
        [1, 0],
    ),
    "multivariate": (case("1,2:3,4:a", "@univariate false", "@dimensions 2"), [[[1, 2], [3, 4]]], [0]),
    "channels as in the first case": (case("1:2:3:a\n4:5:6:a"), [[[1], [2], [3]], [[4], [5], [6]]], [0, 0]),
    "unequal length": (case("1,2:3,4:a\n5:6:b", "@equalLength false"), [[[1, 2], [3, 4]], [[5], [6]]], [0, 1]),
    "missing values": (case("?,1,NaN , ? ,nan:a\n?:a", "@missing true"), [[[nan, 1, nan, nan, nan]], [[nan]]], [0, 0]),
    "numbers": (case(" 1e-3 , -.5,+2.,3E2 :a"), [[[0.001, -0.5, 2, 300]]], [0]),
    "any case": (
        lines("@PROBLEMNAME x", "@TimeStamps FALSE", "@Other 1 2", "@CLASSLABEL True Up down", data="1:UP\n2:Down"),
        [[[1]], [[2]]],
        [0, 1],
    ),
    "names that differ in case only": (lines("@classLabel true a A", data="1:A\n2:a"), [[[1]], [[2]]], [1, 0]),
    "comments, empty lines, ends of lines": (
        [
            "\ufeff# about",
            "",
            "@classLabel true a\r\n",
            "  ",
            "@data\r\n",
            "# between",
            "% too",
            "1,2:a\r\n",
            "",
            "3,4:a\r\n",
        ],
        [[[1, 2]], [[3, 4]]],
        [0, 0],
    ),
    "another word for dimensions": (case("1:2:a", "@dimension 2"), [[[1], [2]]], [0]),
    "labels that are numbers": (lines("@classLabel true -1 1", data="5:1\n6:-1"), [[[5]], [[6]]], [1, 0]),
    "no label": (lines("@classLabel false", data="1,2\n3"), [[[1, 2]], [[3]]], None),
}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_flavours(flavour: str) -> None:
    text, sequences, labels = FLAVOURS[flavour]
    series = read_ts(text)
    same(series.sequences, sequences)
    assert series.targets is None
    if labels is None:
        assert series.labels is None
    else:
        assert series.labels is not None
        assert series.labels.dtype == np.int64
        assert series.labels.tolist() == labels


def test_regression() -> None:
    series = read_ts(lines("@classLabel false", "@targetLabel true", data="1,2:0.5\n3,4:-1e2"))
    assert series.labels is None
    assert series.targets is not None
    assert series.targets.dtype == np.float32
    assert series.targets.tolist() == [0.5, -100]
    assert (series.header.kind, series.header.classes) == ("target", ())


def test_the_header_is_kept() -> None:
    header = read_ts(
        lines(
            "@problemName Other",
            "@problemName Two words",
            "@timestamps false",
            "@missing false",
            "@univariate false",
            "@dimensions 2",
            "@equallength true",
            "@serieslength 1",
            "@classlabel true a b",
            data="1:2:b",
        )
    ).header
    assert (header.name, header.missing, header.univariate, header.channels) == ("Two words", False, False, 2)
    assert (header.equal_length, header.steps, header.kind, header.classes) == (True, 1, "class", ("a", "b"))
    silent = read_ts(lines("@classLabel true a", data="1:a")).header
    assert (silent.name, silent.missing, silent.univariate, silent.channels) == ("", None, None, None)
    assert (silent.equal_length, silent.steps) == (None, None)


REFUSED: dict[str, tuple[list[str], str]] = {
    "empty": ([], ": received an empty file, expected a header, a line @data and at least one case"),
    "comments only": (["# nothing"], "line 1: received no line @data"),
    "no @data": (["@classLabel true a"], "line 1: received no line @data"),
    "no @data before the data": (["@classLabel true a", "1:a"], "line 2: received '1:a', expected a line that begins"),
    "@data with a value": (["@classLabel true a", "@data 1"], "line 2: received '@data 1', expected @data alone"),
    "no word on labels": (["@data", "1,2"], "line 1: received a header without @classLabel and @targetLabel"),
    "labels of both kinds": (
        case("1:a", "@targetLabel true"),
        "line 3: received @classLabel true and @targetLabel true",
    ),
    "a tag twice": (["@missing true", "@Missing false"], "line 2: received a second @Missing, expected it once"),
    "not a boolean": (["@missing maybe"], "line 1: received @missing 'maybe', expected true or false"),
    "boolean without value": (["@univariate"], "line 1: received @univariate with 0 values, expected true or false"),
    "boolean with more": (["@targetLabel true 1 2"], "line 1: received @targetLabel with 3 values"),
    "class label alone": (["@classLabel"], "line 1: received @classLabel alone, expected true and the class names"),
    "class label not a boolean": (["@classLabel a b"], "line 1: received @classLabel 'a', expected true or false"),
    "no class names": (["@classLabel true"], "line 1: received @classLabel true with 0 class names"),
    "names of no classes": (["@classLabel false a"], "line 1: received @classLabel false with 1 class names"),
    "a class twice": (["@classLabel true a b a"], "line 1: received class name 'a' twice, expected different"),
    "dimensions not a number": (["@dimensions two"], "line 1: received '@dimensions two', expected @dimensions and a"),
    "length without a number": (["@seriesLength"], "line 1: received '@seriesLength', expected @seriesLength and a"),
    "univariate with dimensions": (
        case("1:a", "@univariate true", "@dimensions 2"),
        "line 4: received @univariate true and @dimensions 2",
    ),
    "time stamps announced": (
        ["@timeStamps true"],
        "line 1: received time stamps ('@timeStamps true'), expected values alone: steps count as evenly spaced here. "
        "Resample",
    ),
    "bytes of another encoding": (["@classLabel true \ufffd"], "line 1: received bytes that are not UTF-8"),
    "no cases": (case("# end"), "line 3: received no case after @data"),
    "time stamps": (case("(0,1),(1,2):a"), "line 3: received time stamps ('(0,1),(1,2):a')"),
    "header in the data": (case("@missing true"), "line 3: received '@missing true' after @data"),
    "channels against @univariate": (
        case("1:2:a", "@univariate true"),
        "line 4: received 2 channels, expected 1, as the header says @univariate true",
    ),
    "channels against @dimensions": (
        case("1:2:a", "@dimensions 3"),
        "line 4: received 2 channels, expected 3, as @dimensions says",
    ),
    "channels against the first case": (
        case("1:2:a\n1:a"),
        "line 4: received 1 channels, expected 2, as the first case has",
    ),
    "channels of different length": (
        case("1,2:3,4:5:a"),
        "line 3: received 2 steps in channel 1 and 1 in channel 3, expected as many",
    ),
    "steps against @seriesLength": (
        case("1,2:a", "@equalLength true", "@seriesLength 3"),
        "line 5: received 2 steps, expected 3, as @seriesLength says",
    ),
    "steps against the first case": (
        case("1,2:a\n1:a", "@equalLength true"),
        "line 5: received 1 steps, expected 2, as the first case has and @equalLength is true",
    ),
    "a value missing against @missing": (
        case("1,?:a", "@missing false"),
        "line 4: received a missing value, expected none, as the header says @missing false",
    ),
    "not a number": (case("1,2:3,x4:a"), "line 3: received 'x4' as value 2 of channel 2, expected a number"),
    "half a missing value": (case("1,-?:a"), "line 3: received '-?' as value 2 of channel 1"),
    "an empty value": (case("1,,2:a"), "line 3: received '' as value 2 of channel 1"),
    "an empty channel": (case("1::a"), "line 3: received '' as value 1 of channel 2"),
    "infinite": (case("1,-inf:a"), "line 3: received '-inf' as value 2 of channel 1, expected a finite number"),
    "too large": (case("1e39:a"), "line 3: received '1e39' as value 1 of channel 1, expected a finite number"),
    "digits as Python groups them": (case("1,1_0:a"), "line 3: received '1_0' as value 2 of channel 1"),
    "no label": (case("1,2,3"), "line 3: received a case without a label, expected it after the last ':'"),
    "no label of several channels": (case("1,2:3,4"), "line 3: received a case without a label"),
    "an empty label": (case("1,2:"), "line 3: received a case without a label"),
    "a label alone": (case("a"), "line 3: received a case without a label"),
    "an unknown class": (case("1:c"), "line 3: received label 'c', expected one of the header's: a, b"),
    "a target that is no number": (lines("@targetLabel true", data="1:a"), "line 3: received target 'a', expected a"),
    "a missing target": (lines("@targetLabel true", data="1:?"), "line 3: received target '?', expected a finite"),
    "an infinite target": (lines("@targetLabel true", data="1:1e39"), "line 3: received target '1e39'"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(text: list[str], message: str) -> None:
    with pytest.raises(MalformedTs) as refusal:
        read_ts(text, "Toy_TRAIN.ts")
    assert str(refusal.value).startswith("Toy_TRAIN.ts")
    assert message in str(refusal.value)
    assert refusal.value.exit_code == 1


def test_long_lines_and_many_classes_are_cut_in_messages() -> None:
    with pytest.raises(MalformedTs) as refusal:
        read_ts(lines(f"@classLabel true {' '.join(map(str, range(99)))}", data=f"1:{'c' * 999}"))
    assert len(str(refusal.value)) < 250


def test_a_file_with_comments_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "Toy_TRAIN.ts"
    about = "\ufeff# Donor: Müller\n".encode() + b"# Universit\xe0 \x96\n"
    path.write_bytes(about + "@classLabel true ä b\n@data\n1:ä\n".encode())
    series = read_ts(str(path))
    assert series.header.classes == ("ä", "b")
    with pytest.raises(FileNotFoundError):
        read_ts(tmp_path / "other.ts")
    path.write_bytes(b"@classLabel true \xe4 b\n@data\n1:b\n")
    with pytest.raises(MalformedTs, match=re.escape(f"{path}, line 1: received bytes that are not UTF-8")):
        read_ts(path)


def test_cases_are_read_as_they_are_asked_for() -> None:
    header, cases = stream_ts(lines("@classLabel true a b", data="1,2:b\nbroken"))
    assert header.classes == ("a", "b")
    first = next(cases)
    assert (first.sequence.tolist(), first.label, first.target) == ([[1], [2]], 1, None)
    with pytest.raises(MalformedTs, match="line 4"):
        next(cases)


def written(column: np.ndarray) -> str:
    return ",".join("?" if np.isnan(value) else repr(float(value)) for value in column)


def test_what_is_written_is_read_again() -> None:
    generator = np.random.default_rng(0)
    classes = ["p", "q", "r"]
    for _ in range(20):
        channels, count = generator.integers(1, 5), generator.integers(1, 6)
        sequences = [generator.normal(size=(generator.integers(1, 9), channels)).astype("f") for _ in range(count)]
        for sequence in sequences:
            sequence[generator.random(sequence.shape) < 0.2] = nan
        labels = generator.integers(0, 3, count)
        text = [
            ":".join([*map(written, sequence.T), classes[label]])
            for sequence, label in zip(sequences, labels, strict=True)
        ]
        series = read_ts(["@classLabel true p q r", "@data", *text])
        for received, sequence in zip(series.sequences, sequences, strict=True):
            np.testing.assert_array_equal(received, sequence)
        np.testing.assert_array_equal(series.labels, labels)


def filled(column: list[float], instead: float = 9.0) -> Any:
    return fill_missing(np.array(column, "float32")[:, None], np.array([instead]))[:, 0].tolist()


def test_missing_values_are_filled_along_time() -> None:
    assert filled([1, nan, nan, 4]) == [1, 2, 3, 4]
    assert filled([nan, nan, 5, nan]) == [5, 5, 5, 5]
    assert filled([2, nan, 3, nan, 1, nan]) == [2, 2.5, 3, 2, 1, 1]
    assert filled([nan, nan]) == [9, 9]
    assert filled([nan], -1.5) == [-1.5]


def test_channels_are_filled_each_by_itself() -> None:
    sequence = np.array([[1, nan, 7], [nan, nan, 8], [3, nan, 9]], np.float32)
    before = sequence.copy()
    done = fill_missing(sequence, np.array([100.0, 200.0, 300.0]))
    assert done.tolist() == [[1, 200, 7], [2, 200, 8], [3, 200, 9]]
    assert done.dtype == np.float32
    np.testing.assert_array_equal(sequence, before)


def test_what_is_complete_is_not_copied() -> None:
    sequence = np.ones((3, 2), np.float32)
    assert fill_missing(sequence, np.zeros(2)) is sequence


def test_means_leave_out_what_is_missing() -> None:
    sequences = [np.array([[1, nan, nan]], "float32"), np.array([[2, 10, nan], [6, nan, nan]], "float32")]
    assert channel_means(iter(sequences)).tolist() == [3, 10, 0]


@pytest.mark.parametrize("flavour", ["univariate", "multivariate", "missing values", "labels that are numbers"])
@pytest.mark.parametrize("package", ["sktime", "aeon"])
def test_others_read_the_same(package: str, flavour: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip(f"{package}.datasets")
    text, sequences, labels = FLAVOURS[flavour]
    wanted = {"@problemName": "Toy", "@timeStamps": "false", "@univariate": "false", "@missing": "true"}
    given = {line.split()[0] for line in text if line.startswith("@")}
    path = tmp_path / "Toy.ts"
    equal = "true" if len({len(channels[0]) for channels in sequences}) == 1 else "false"
    wanted["@equalLength"] = equal
    path.write_text("\n".join([*(f"{tag} {value}" for tag, value in wanted.items() if tag not in given), *text]) + "\n")
    ours = read_ts(path)
    if package == "sktime":
        theirs, classes = datasets.load_from_tsfile(str(path), return_data_type="df-list")
        theirs = [frame.to_numpy() for frame in theirs]
    else:
        theirs, classes = datasets.load_from_ts_file(str(path))
        theirs = [np.asarray(channels).T for channels in theirs]
    for received, expected in zip(ours.sequences, theirs, strict=True):
        np.testing.assert_array_equal(received, expected.astype(np.float32))
    assert [ours.header.classes[label] for label in labels] == [str(name) for name in classes]
