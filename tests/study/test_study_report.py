"""The rows of a study as files, and the report on them."""

import csv
import dataclasses
import json
import math
import re

import pytest
from study_rows import dead, row, study

from training.study.report import NothingToReport, write_report
from training.study.results import DamagedResult, Row, read_rows, write_csv, write_diagnostics


def report(rows, folder, **changes):
    arguments = {"title": "ReLU for tanh", "baseline": "tanh", "command": "zoo study relu.py"} | changes
    write_report(rows, folder, **arguments)
    return (folder / "report.md").read_text()


def test_a_row_survives_its_file():
    before = dead(history=[{"train/loss": math.inf, "validation/loss": -math.inf}, {"train/loss": math.nan}])
    text = before.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    after = Row.from_json(text)
    assert repr(after) == repr(before)
    assert math.isnan(after.history[1]["train/loss"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda values: values.pop("seed"), "seed"),
        (lambda values: values.update(colour="red"), "colour"),
        (lambda values: values.update(outcome="finished"), "outcome"),
        (lambda values: values.update(metrics={"test/accuracy": "high"}), "metrics.test/accuracy"),
    ],
)
def test_a_damaged_row_is_refused(change, named, tmp_path):
    values = json.loads(row().to_json())
    change(values)
    (tmp_path / "one.json").write_text(json.dumps(values))
    with pytest.raises(DamagedResult, match=rf"one\.json is damaged.*{named}"):
        read_rows(tmp_path)


def test_rows_are_read_in_order_and_once(tmp_path):
    assert read_rows(tmp_path / "nothing") == []
    for name, each in (("a", row(seed=1)), ("b", row(seed=0)), ("c", row("relu"))):
        (tmp_path / f"{name}.json").write_text(each.to_json())
    assert [each.key for each in read_rows(tmp_path)] == [
        ("relu", "vowels", 0),
        ("tanh", "vowels", 0),
        ("tanh", "vowels", 1),
    ]
    (tmp_path / "d.json").write_text(row().to_json())
    with pytest.raises(DamagedResult, match=r"d\.json and .*b\.json are both"):
        read_rows(tmp_path)
    (tmp_path / "d.json").write_text(row(seed=7).to_json()[:-30])
    with pytest.raises(DamagedResult, match=r"d\.json is damaged"):
        read_rows(tmp_path)


def test_the_table_has_what_differs(tmp_path):
    write_csv([row(seed=1), dead(), row(score=0.12345678901234567)], tmp_path / "results.csv")
    with open(tmp_path / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(each["condition"], each["seed"]) for each in rows] == [("relu", "0"), ("tanh", "0"), ("tanh", "1")]
    assert [column for column in rows[0] if column.startswith(("config.", "environment."))] == [
        "config.model.activation"
    ]
    assert float(rows[1]["test/accuracy"]) == 0.12345678901234567
    assert rows[0]["test/accuracy"] == ""
    assert "lstm_0" in rows[0]["reason"]
    write_csv([], tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text() == ""


def test_what_was_seen_within_is_a_table_of_its_own(tmp_path):
    seen = {
        "tanh-vowels-1": {"within/lstm_1/dead_hidden": 0.25, "test/accuracy": 0.9},
        "tanh-vowels-0": {"test/loss": 1.0},
    }
    write_diagnostics([row(seed=1), row(), dead()], seen, tmp_path / "seen.csv")
    assert (tmp_path / "seen.csv").read_text().splitlines() == [
        "dataset,condition,seed,run_id,lstm_1/dead_hidden",
        "vowels,tanh,1,tanh-vowels-1,0.25",
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study of which some runs died, and the folder of its report."""
    folder = tmp_path_factory.mktemp("report")
    rows = study(["tanh", "a | <b>bold</b> *label*", "relu"], ["vowels", "sums/150"], 3)
    rows[-1] = dead("relu", "sums/150", 2)
    (folder / "pictures").mkdir()
    (folder / "pictures/old.png").touch()
    report(rows, folder)
    return rows, folder


def test_the_same_rows_give_the_same_bytes(whole, tmp_path):
    rows, folder = whole
    report(rows[::-1], tmp_path)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    assert names == [
        "pictures/curves_sums_150.png",
        "pictures/curves_vowels.png",
        "pictures/deaths.png",
        "pictures/ranks.png",
        "pictures/scores_sums_150.png",
        "pictures/scores_vowels.png",
        "report.html",
        "report.md",
    ]
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_report_says_what_the_rows_say(whole):
    rows, folder = whole
    text = (folder / "report.md").read_text()
    scores = [each.metrics["test/accuracy"] for each in rows if each.key[:2] == ("relu", "vowels")]
    line = next(line for line in text.splitlines() if line.startswith("| relu | "))
    section = text[text.index("## vowels") :]
    line = next(line for line in section.splitlines() if line.startswith("| relu | "))
    assert f"{sum(scores) / 3:.4f}" in line
    assert f"{min(scores):.4f} to {max(scores):.4f}" in line
    assert "18 runs have ended, 1 of them dead (1 diverged, 0 failed)." in text
    assert "A dead run counts as 2 on the test split;" in text
    assert "| 3 (1 dead) |" in text
    assert "**1 run diverged**: relu (1); on sums/150 (1)" in text
    assert "cell_state of lstm_2" in text
    assert "with 6 pairs each and 2 compared, the smallest corrected p that can come out is 0.062" in text
    assert "`zoo study relu.py`" in text
    assert "model.units = 8" in text
    assert "keras 3.15" in text


def test_the_page_stands_alone(whole):
    _, folder = whole
    page = (folder / "report.html").read_text()
    assert re.findall(r'src="(?!data:image/png;base64,)', page) == []
    assert set(re.findall(r'href="([^"#]+)', page)) == {"results.csv", "diagnostics.csv"}
    assert page.count("<img") == 6
    assert "&lt;b&gt;bold&lt;/b&gt; *label*" in page
    assert "<b>bold" not in page
    assert page.count('<h2 id="part-') == page.count('<a href="#part-') > 5


@pytest.mark.parametrize(
    ("rows", "changes", "expected"),
    [
        ([row()], {}, "There is one seed"),
        ([row(), row("relu", score=0.8)], {"planned": 10}, "2 of 10 runs have ended"),
        ([row("relu")], {"baseline": "tanh"}, "No run of the baseline converged yet"),
        ([dead("tanh"), dead(), dead(seed=1)], {}, "No run converged."),
        ([row(seed=seed) for seed in (0, 1)] + [row("relu", seed=seed) for seed in (0, 1)], {}, "Too few pairs"),
        ([row(), dead(outcome="failed", history=[], reason="")], {}, "no reason was recorded"),
    ],
    ids=["one run", "partial", "no baseline", "nothing converged", "two by two", "no history"],
)
def test_it_can_be_written_at_any_time(rows, changes, expected, tmp_path):
    text = report(rows, tmp_path, **changes)
    assert expected in text
    assert not re.search(r"\b(nan|inf)\b(?! in)", text.split("## Why runs died")[0])


def test_what_differs_between_runs_is_said(tmp_path):
    other = row("relu").environment | {"git_commit": "def", "git_dirty": "true", "ended": "2026-01-02T03:04:05+00:00"}
    text = report([row(), row("relu", environment=other, threads=2)], tmp_path)
    assert "Commit: abc (1 runs), def (1 runs); **not the same in all runs**" in text
    assert "Threads a run: 1 (1 runs), 2 (1 runs)" in text
    assert "git_dirty" in text
    assert "2026-01-02T03:04:05+00:00" in text


def test_nothing_to_report_on(tmp_path):
    with pytest.raises(NothingToReport, match="no run has finished"):
        report([], tmp_path)
    twice = [row(), dataclasses.replace(row(), run_id="other")]
    with pytest.raises(NothingToReport, match="same run"):
        report(twice, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_first_table_counts_the_dead(tmp_path):
    rows = [row(score=0.01 * seed, dataset="sums/150", seed=seed) for seed in (1, 2)]
    rows += [row("relu", "sums/150", 1, 0.03), dead("relu", "sums/150", 2), dead("elu", "sums/150", 1)]
    text = report([*rows, row(dataset="sums/50")], tmp_path)
    assert "| condition | sums/50: mean absolute error | sums/150: mean absolute error |" in text
    for cells in ("**tanh** | 0.9 | 0.015 (0.01 to 0.02) |", "elu | not run | 1 of 1 died |"):
        assert cells in text
    assert re.search(r"\| relu \| not run \| 1\.015 \([^|]*\), 1 of 2 died \|", text)
