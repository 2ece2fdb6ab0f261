"""Layouts in which people hold their data: what is understood, what is noted, what stops, what is refused."""

import gzip
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_datasets import write

from training.datasets.own import Answers, InvalidData, InvalidRequest, OwnData, Unanswered, dataset, refuse_doubts

NOISE = np.random.RandomState(3).normal(size=10_000).round(3).tolist()


def noise() -> Iterator[float]:
    return iter(NOISE)


def series(header: str, stamp: Callable[[int], str], steps: int = 40, columns: int = 1, mark: str = ",") -> list[str]:
    values = noise()
    rows = [mark.join([stamp(step), *(f"{next(values)}" for _ in range(columns))]) for step in range(steps)]
    return [header, *rows]


def panel(header: str, stamp: Callable[[int], str], ids: Sequence[str] = ("a", "b", "c"), steps: int = 20) -> list[str]:
    values = noise()
    return [header, *(f"{name},{stamp(step)},{next(values)}" for name in ids for step in range(steps))]


def labelled(header: str, row: Callable[[int, int, float], str], count: int = 12, steps: int = 6) -> list[str]:
    values = noise()
    return [header, *(row(index, step, next(values)) for index in range(count) for step in range(steps))]


def day(step: int) -> str:
    return str(np.datetime64("2024-01-01") + step)


def month(step: int) -> str:
    return str(np.datetime64("1949-01") + step)


def quarter(step: int) -> str:
    return f"{1959 + step // 4}Q{step % 4 + 1}"


def american(step: int) -> str:
    year, months, days = day(step).split("-")
    return f"{months}/{days}/{year}"


FORECAST: dict[str, Any] = {"task": "forecasting", "horizon": 2, "window": 4}

# === Clean: nothing stops, and at most one thing is noted ===

CLEAN: dict[str, tuple[list[str], dict[str, Any], tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    # name: lines, arguments, channels, columns of some roles
    "a date a row": (series("date,x", day), FORECAST, ("x",), {"time": ("date",)}),
    "months": (series("Month,Passengers", month), FORECAST, ("Passengers",), {"time": ("Month",)}),
    "quarters": (series("Quarter,gdp", quarter), FORECAST, ("gdp",), {"time": ("Quarter",)}),
    "years": (series("Year,x", lambda step: str(1900 + step)), FORECAST, ("x",), {"time": ("Year",)}),
    "YEAR in capitals": (series("YEAR,x", lambda step: str(1900 + step)), FORECAST, ("x",), {"time": ("YEAR",)}),
    "month first, slashes": (series("Date,x", american), FORECAST, ("x",), {"time": ("Date",)}),
    "slashes and clock": (
        series("datetime,x", lambda step: f"2010/01/{step // 24 + 1:02} {step % 24:02}:00"),
        FORECAST,
        ("x",),
        {"time": ("datetime",)},
    ),
    "datetime_gmt": (series("datetime_gmt,x", lambda step: f"{day(step)} 12:00:00+00:00"), FORECAST, ("x",), {}),
    "date and clock in two columns": (
        series("date,time,x", lambda step: f"2024-01-{step // 24 + 1:02},{step % 24:02}:00"),
        FORECAST,
        ("x",),
        {"time": ("date", "time")},
    ),
    "year and quarter in two columns": (
        series("year,quarter,x", lambda step: f"{1959 + step // 4},{step % 4 + 1}"),
        FORECAST,
        ("x",),
        {"time": ("year", "quarter")},
    ),
    "prophet": (series("ds,y", day), FORECAST, ("y",), {"time": ("ds",), "target": ("y",)}),
    "Nixtla": (panel("unique_id,ds,y", day), FORECAST, ("y",), {"id": ("unique_id",), "target": ("y",)}),
    "GluonTS": (
        panel("item_id,timestamp,target", day),
        FORECAST,
        ("target",),
        {"id": ("item_id",), "time": ("timestamp",)},
    ),
    "GluonTS with a covariate": (
        [
            f"{line},{index % 7}" if index else f"{line},promo"
            for index, line in enumerate(panel("item_id,timestamp,target", day))
        ],
        FORECAST,
        ("target", "promo"),
        {"target": ("target",)},
    ),
    "an index that pandas wrote": (series(",date,x", lambda step: f"{step},{day(step)}"), FORECAST, ("x",), {}),
    "an index of dates without a name": (series(",x", day), FORECAST, ("x",), {"time": ("",)}),
    "row numbers of R": (series('"",time,x', lambda step: f"{step + 1},{1949 + step / 12:.4f}"), FORECAST, ("x",), {}),
    "ETTh1": (
        series("date,HUFL,HULL,OT", lambda step: f"2016-07-{step // 24 + 1:02} {step % 24:02}:00:00", columns=3),
        FORECAST,
        ("HUFL", "HULL", "OT"),
        {},
    ),
    "semicolons and decimal commas": (
        [line.replace(".", ",") for line in series("Datum;x;y", lambda step: f"{day(step)}", columns=2, mark=";")],
        FORECAST,
        ("x", "y"),
        {"time": ("Datum",)},
    ),
    "a line sep=": (["sep=;", *series("date;x", day, mark=";")], FORECAST, ("x",), {}),
    "tabs": (series("date\tx", day, mark="\t"), FORECAST, ("x",), {}),
    "a comma within quotes": (series('date,"x, in m"', day), FORECAST, ("x, in m",), {"time": ("date",)}),
    "ids and labels": (
        labelled("id,time,x,label", lambda i, step, x: f"s{i},{step},{x},{'ab'[i % 2]}"),
        {},
        ("x",),
        {"id": ("id",), "label": ("label",)},
    ),
    "ids that are numbers, labels 1 and 2": (
        labelled("id,t,x,class", lambda i, step, x: f"{i},{step},{x},{i % 2 + 1}"),
        {},
        ("x",),
        {"time": ("t",)},
    ),
    "labels a step": (
        labelled("id,time,x,label", lambda i, step, x: f"{i},{step},{x},{'ab'[step % 2]}"),
        {},
        ("x",),
        {},
    ),
}


@pytest.mark.parametrize("layout", CLEAN)
def test_clean_layouts_are_understood(layout: str, tmp_path: Path) -> None:
    lines, arguments, channels, columns = CLEAN[layout]
    own = dataset(write(tmp_path / "data.csv", *lines), **arguments)
    assert own.channels == channels
    assert {role: own.columns.get(role) for role in columns} == columns
    refuse_doubts(own)
    assert len([note for note in own.notes if "so a label is predicted" not in note]) <= 1


def test_at_least_twenty_layouts_are_clean() -> None:
    assert len(CLEAN) >= 20


# === Open: training stops until an option answers ===

OPEN: dict[str, tuple[list[str], dict[str, Any], str, Answers]] = {
    # name: lines, arguments, what the message offers, the answer
    "a panel without ids": (
        panel("firm,year,inv", lambda step: str(1935 + step), ids=("1", "2", "3")),
        FORECAST,
        "--id firm",
        Answers(id=("firm",)),
    ),
    "a panel of names": (panel("state,date,x", day), FORECAST, "--id state", Answers(id=("state",))),
    "a panel of two columns": (
        [
            "store,item,date,x",
            *(
                f"{s},{i},{day(n)},{NOISE[n + 7 * len(s + i)]}"
                for s in ("n", "ss")
                for i in ("u", "vv")
                for n in range(20)
            ),
        ],
        FORECAST,
        "--id store,item",
        Answers(id=("store", "item")),
    ),
    "a clock that starts again every day": (
        series("day,time,temp", lambda step: f"{346 + step // 20},{(step % 20) * 100 + 30}"),
        FORECAST,
        "--time day,time",
        Answers(time=("day", "time")),
    ),
    "a growing column beside the clock": (
        series("date,year_frac,x", lambda step: f"{day(step)},{2024 + step / 365:.4f}"),
        FORECAST,
        "--ignore year_frac, or --channels year_frac",
        Answers(ignore=("year_frac",)),
    ),
    "an unnamed clock": (
        series("counter,x", lambda step: str(step * 20)),
        FORECAST,
        "--time counter, or --channels counter",
        Answers(time=("counter",)),
    ),
    "text": (
        series("date,weather,x", lambda step: f"{day(step)},{('sun', 'rain')[step % 2]}"),
        FORECAST,
        "--ignore weather",
        Answers(ignore=("weather",)),
    ),
    "sequences in runs": (
        panel("person,step_x,x", lambda step: str(NOISE[step])),
        FORECAST,
        "--id person",
        Answers(id=("person",)),
    ),
    "an id as a channel": (
        labelled("id,time,x,number,label", lambda i, step, x: f"s{i},{step},{x},{i * 7},{'ab'[i % 2]}"),
        {},
        "--ignore number, or --static number",
        Answers(ignore=("number",)),
    ),
    "a label twice": (
        labelled("id,time,x,code,label", lambda i, step, x: f"s{i},{step},{x},{i % 2},{'ab'[i % 2]}"),
        {},
        "--ignore code, or --static code",
        Answers(ignore=("code",)),
    ),
    "amounts as labels": (
        labelled("id,time,x,label", lambda i, step, x: f"s{i},{step},{x},{(i % 12) * 5 + 20}", count=60),
        {},
        "--task regression for amounts, or --task classification",
        Answers(),
    ),
    "columns numbered through": (
        labelled(
            f"label,{','.join(f'v{k}' for k in range(16))}",
            lambda i, s, x: f"{i % 2}," + ",".join(map(str, NOISE[i : i + 16])),
            steps=1,
        ),
        FORECAST,
        "--layout sequences, or --layout steps",
        Answers(layout="steps"),
    ),
}


@pytest.mark.parametrize("layout", OPEN)
def test_open_layouts_stop_until_they_are_answered(layout: str, tmp_path: Path) -> None:
    lines, arguments, offered, answers = OPEN[layout]
    path = write(tmp_path / "data.csv", *lines)
    with pytest.raises(Unanswered, match="leaves open what is to be learned") as stopped:
        refuse_doubts(dataset(path, **arguments))
    assert offered in str(stopped.value)
    assert stopped.value.exit_code == 2
    if not answers:
        arguments = {**arguments, "task": "regression"}
    own = dataset(path, **arguments, answers=answers)
    refuse_doubts(own)


def test_an_answer_means_what_it_says(tmp_path: Path) -> None:
    lines = OPEN["a panel without ids"][0]
    path = write(tmp_path / "panel.csv", *lines)
    assert dataset(path, **FORECAST, answers=Answers(id=("FIRM",))).columns["id"] == ("firm",)
    assert dataset(path, **FORECAST).spec.counts == {"train": 3 * 11, "test": 3 * 3}
    path = write(tmp_path / "weather.csv", *OPEN["text"][0])
    own = dataset(path, **FORECAST, answers=Answers(static=("weather",)))
    assert own.channels == ("weather=rain", "weather=sun", "x")
    assert own.spec.outputs == ("x",)
    with pytest.raises(InvalidRequest, match="unknown column 'wether'; did you mean 'weather'"):
        dataset(path, **FORECAST, answers=Answers(static=("wether",)))
    with pytest.raises(InvalidRequest, match=r"named by both dataset\.time and dataset\.ignore"):
        dataset(path, answers=Answers(time=("date",), ignore=("date",)))


def test_a_day_and_a_clock_keep_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", *OPEN["a clock that starts again every day"][0])
    own = dataset(path, **FORECAST)
    assert own.load("train").sequences[0][:, 0].tolist() == np.array(NOISE[:4], np.float32).tolist()


def test_a_target_is_forecast_and_the_rest_is_given(tmp_path: Path) -> None:
    lines, arguments, *_ = CLEAN["GluonTS with a covariate"]
    own = dataset(write(tmp_path / "data.csv", *lines), **arguments)
    assert own.spec.outputs == ("target",)
    assert own.load("test").targets.shape[1:] == (2, 1)
    assert any("target is forecast, from itself and promo" in note for note in own.notes)
    own = dataset(tmp_path / "data.csv", **arguments, answers=Answers(target=("promo", "target")))
    assert own.spec.outputs == ("target", "promo")


# === Noted ===

NOTED: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "uneven time": (
        series("date,x", lambda step: day(step + (step > 20) * 30)),
        FORECAST,
        "3% of the steps are not 1 d after the one before; the longest gap is 31 d",
    ),
    "rows in another order": (
        [series("date,x", day)[0], *sorted(series("date,x", day)[1:], key=lambda line: line[-2:])],
        FORECAST,
        "not in the order of 'date'",
    ),
    "lost in float32": (
        series("date,ms,x", lambda step: f"{day(step)},{1700000000000 + (step * 37) % 11}"),
        FORECAST,
        "float32 loses 100% of the changes of 'ms'",
    ),
    "one channel twice": (
        series(
            "date,celsius,fahrenheit", lambda step: f"{day(step)},{NOISE[step]},{NOISE[step] * 1.8 + 32:.4f}", columns=0
        ),
        FORECAST,
        "almost equal each other, but for scale: 'celsius' and 'fahrenheit'",
    ),
    "a constant channel": (
        series("date,gain,x", lambda step: f"{day(step)},1"),
        FORECAST,
        "'gain' is 1 everywhere",
    ),
    "an empty column": (series("date,remark,x", lambda step: f"{day(step)},"), FORECAST, "column 'remark' is empty"),
    "a channel that tells the label": (
        labelled("id,time,x,y,label", lambda i, step, x: f"s{i},{step},{x},{x / 50 + i % 2},{'ab'[i % 2]}", count=20),
        {},
        "the mean of 'y' alone tells the 2 classes apart",
    ),
    "static numbers": (
        labelled("id,time,x,age,label", lambda i, step, x: f"s{i},{step},{x},{20 + i % 5}.5,{'ab'[i % 2]}"),
        {},
        "'age' is constant within every sequence",
    ),
    "one class in one split": (
        labelled("id,time,x,label", lambda i, step, x: f"s{i},{step},{x},{'c' if i == 3 else 'ab'[i % 2]}"),
        {},
        "1 of 3 classes have no example in test: c",
    ),
}


@pytest.mark.parametrize("layout", NOTED)
def test_what_is_noted(layout: str, tmp_path: Path) -> None:
    lines, arguments, note = NOTED[layout]
    own = dataset(write(tmp_path / "data.csv", *lines), **arguments)
    refuse_doubts(own)
    assert note in "\n".join(own.notes)


# === Refused, with the remedy ===

REFUSED: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "no labels": (series("date,x", day), {}, r"give dataset\.task=forecasting and dataset\.horizon=STEPS"),
    "one sequence with labels": (series("date,label,x", lambda s: f"{day(s)},{'ab'[s % 2]}"), {}, r"--id COLUMN"),
    "an amount a step": (
        panel("id,timestamp,target", day),
        {},
        r"one named target is forecast with --task forecasting --horizon STEPS",
    ),
    "an id in every row": (
        series("id,timestamp,x", lambda step: f"{step},{day(step)}"),
        FORECAST,
        r"may be misunderstood:\ncolumn 'id' is different in each of 40 rows: answer with --ignore id",
    ),
    "equal times": (
        ["date,x", *(f"{day(s // 2)},{NOISE[s]}" for s in range(9))],
        FORECAST,
        r"the same date as in line 2.*--id COLUMN",
    ),
    "numbers without a header": (series("1,2", str), {}, r"if a row is a sequence, give --layout sequences"),
    "marks between thousands": (
        series("date;x", lambda s: f"{day(s)};{1200 + s}" if s else f"{day(s)};1 200", columns=0),
        FORECAST,
        r"'1 200' in column 'x'.*without marks between the thousands",
    ),
    "a date that is none": ([*series("date,x", day), "2024-13-45,1"], FORECAST, r"line 42: the date is not a number"),
    "too few steps": (series("date,x", day, steps=6), FORECAST, r"which need 8; give a shorter dataset\.window"),
    "two clocks": (
        series("date,timestamp,x", lambda s: f"{day(s)},{s}"),
        FORECAST,
        r"both 'date' and 'timestamp' name the time.*--time date",
    ),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_what_is_refused_names_the_remedy(layout: str, tmp_path: Path) -> None:
    lines, arguments, message = REFUSED[layout]
    with pytest.raises((InvalidData, InvalidRequest), match=message):
        dataset(write(tmp_path / "data.csv", *lines), **arguments)


# === Other files than CSV ===


def understood(own: OwnData) -> tuple[Any, ...]:
    refuse_doubts(own)
    return own.spec.task, own.spec.counts, own.channels, own.load("train").digest()


def test_compressed_and_binary_tables_are_those_of_csv(tmp_path: Path) -> None:
    import pandas as pd

    path = write(tmp_path / "data.csv", *CLEAN["ids and labels"][0])
    expected = understood(dataset(path))
    with gzip.open(tmp_path / "data.csv.gz", "wb") as file:
        file.write(path.read_bytes())
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.write(path, "data.csv")
    frame = pd.read_csv(path)
    frame.to_parquet(tmp_path / "data.parquet")
    frame.to_feather(tmp_path / "data.feather")
    (tmp_path / "wide.csv").write_text(path.read_text(), encoding="utf-16")
    for name in ("data.csv.gz", "data.zip", "data.parquet", "data.feather", "wide.csv"):
        assert understood(dataset(tmp_path / name)) == expected, name


def test_an_index_of_dates_in_parquet_is_the_time(tmp_path: Path) -> None:
    import pandas as pd

    index = pd.date_range("2024-01-01", periods=40, freq="D", name="when")
    pd.DataFrame({"x": NOISE[:40]}, index=index).to_parquet(tmp_path / "data.parquet")
    own = dataset(tmp_path / "data.parquet", **FORECAST)
    assert own.columns["time"] == ("when",)
    assert own.clock is not None
    assert own.clock.usual == 86400


@pytest.mark.parametrize(("suffix", "mark"), [(".tsv", "\t"), (".txt", "  "), (".csv", ",")])
def test_pairs_of_rows_as_the_ucr_archive_has_them(suffix: str, mark: str, tmp_path: Path) -> None:
    for part, count in (("TRAIN", 8), ("TEST", 4)):
        rows = [
            mark.join(
                [
                    str(i % 2 + 1),
                    *map(str, NOISE[9 * i + 99 * (part == "TEST") :][: 6 + i % 2]),
                    *(["NaN"] * (1 - i % 2)),
                ]
            )
            for i in range(count)
        ]
        write(tmp_path / f"Beat_{part}{suffix}", *rows)
    for part in ("TRAIN", "TEST"):
        own = dataset(tmp_path / f"Beat_{part}{suffix}")
        refuse_doubts(own)
        assert (own.spec.counts, own.spec.classes, own.spec.lengths) == ({"train": 8, "test": 4}, ("1", "2"), (6, 7))
        assert own.load("train").sequences[0][:, 0].tolist() == np.array(NOISE[:6], np.float32).tolist()
        assert not own.notes


def test_a_row_a_sequence(tmp_path: Path) -> None:
    header = "name,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,label"
    path = write(
        tmp_path / "x.csv",
        header,
        *(f"n{i},{','.join(map(str, NOISE[20 * i : 20 * i + 16]))},{'ab'[i % 2]}" for i in range(10)),
    )
    with pytest.raises(InvalidData, match=r"'n0' in column 'name' is not a number.*--label name or --ignore name"):
        dataset(path)
    own = dataset(path, answers=Answers(ignore=("name",)))
    assert (own.spec.lengths, own.spec.counts, own.channels) == ((16, 16), {"train": 8, "test": 2}, ("value",))
    rows = write(tmp_path / "y.csv", *(f"{i % 2},{','.join(map(str, NOISE[9 * i : 9 * i + 5]))}" for i in range(10)))
    assert dataset(rows, answers=Answers(layout="sequences")).spec.lengths == (5, 5)


def test_a_row_a_sequence_with_a_split_of_its_own(tmp_path: Path) -> None:
    rows = [
        f"{'ab'[i % 2]},{'test' if i > 7 else 'Train'},{','.join(map(str, NOISE[9 * i : 9 * i + 5]))}"
        for i in range(10)
    ]
    path = write(tmp_path / "x.csv", "label,split,1,2,3,4,5", *rows)
    own = dataset(path, answers=Answers(layout="sequences"))
    assert (own.spec.counts, own.spec.split_rule) == ({"train": 8, "test": 2}, "the data's own: the column split")
    write(path, "label,split,1,2,3,4,5", "a,dev,1,2,3,4,5")
    with pytest.raises(InvalidData, match="line 2: 'dev' in column 'split', expected train or test"):
        dataset(path, answers=Answers(layout="sequences"))


def arrays(folder: Path, **given: Any) -> Path:
    np.savez(folder / "data.npz", **given)
    return folder / "data.npz"


def smooth(count: int, steps: int, channels: int) -> Any:
    return np.random.RandomState(0).normal(size=(count, steps, channels)).cumsum(axis=1)


def test_arrays_of_other_libraries(tmp_path: Path) -> None:
    labels = ["a", "b"] * 6
    # Keras: x_train, y_train, x_test, y_test.
    own = dataset(arrays(tmp_path, x_train=smooth(12, 9, 2), y_train=labels, x_test=smooth(4, 9, 2), y_test=labels[:4]))
    assert (own.spec.counts, own.doubts) == ({"train": 12, "test": 4}, ())
    # tslearn: NaN behind the end.
    x = smooth(12, 9, 2)
    x[::2, 6:] = np.nan
    own = dataset(arrays(tmp_path, X=x, y=labels))
    assert (own.spec.lengths, own.doubts) == ((6, 9), ())
    # aeon: cases, channels, steps.
    path = arrays(tmp_path, X=smooth(12, 40, 3).transpose(0, 2, 1), y=labels)
    with pytest.raises(Unanswered, match="--layout channels_first"):
        refuse_doubts(dataset(path))
    own = dataset(path, answers=Answers(layout="channels_first"))
    assert (own.spec.lengths, own.spec.channels) == ((40, 40), 3)
    refuse_doubts(own)


def test_labels_as_floats(tmp_path: Path) -> None:
    path = arrays(tmp_path, x=smooth(12, 9, 2), y=np.array([1.0, 2.0] * 6))
    own = dataset(path)
    assert (own.spec.task, own.spec.classes) == ("classification", ("1", "2"))
    with pytest.raises(Unanswered, match="--task classification, or --task regression"):
        refuse_doubts(own)
    refuse_doubts(dataset(path, task="classification"))
    assert dataset(path, task="regression").spec.outputs == ("y",)
    own = dataset(arrays(tmp_path, x=smooth(12, 9, 2), y=np.eye(3)[np.arange(12) % 3]), task="classification")
    assert own.spec.classes == ("0", "1", "2")


def test_a_clock_in_arrays(tmp_path: Path) -> None:
    x = smooth(12, 9, 2)
    x[:, :, 1] = 1.7e9 + np.arange(12)[:, None] * 100_000 + np.arange(9) * 1000
    path = arrays(tmp_path, x=x, y=["a", "b"] * 6)
    with pytest.raises(Unanswered, match="--ignore 'channel 1', or --channels 'channel 1'"):
        refuse_doubts(dataset(path))
    own = dataset(path, answers=Answers(ignore=("channel 1",)))
    refuse_doubts(own)
    assert own.channels == ("channel 0",)


def test_folders_train_and_test_in_any_case(tmp_path: Path) -> None:
    values = noise()
    for part in ("Train", "TEST"):
        for label in "ab":
            for index in range(3):
                write(
                    tmp_path / part / label / f"{index}.csv",
                    "t,x",
                    *(f"{1.7e12 + 20 * s:.0f},{next(values)}" for s in range(8)),
                )
    own = dataset(tmp_path)
    refuse_doubts(own)
    assert (own.spec.classes, own.spec.counts, own.channels) == (("a", "b"), {"train": 6, "test": 6}, ("x",))
    assert own.columns["time"] == ("t",)


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.datasets.own import tables

    path = write(tmp_path / "data.csv", *CLEAN["ids and labels"][0])
    monkeypatch.setattr(tables.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    monkeypatch.setattr(tables, "opened", lambda *_: pytest.fail("the file was read"))
    with pytest.raises(InvalidData, match=r"GB of text, for which reading needs about .* split it into several files"):
        dataset(path)
