"""What `zoo compare` makes of runs: groups, tables, a picture."""

import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from training import pictures, tracking
from training.cli import compare as compare_cli
from training.tracking import StoredRun

COUNT = iter(range(1000))


def run(dataset="digits_rows", loss=0.5, metric="accuracy", score=0.9, outcome="finished", params=None, **tags):
    """A run that converged; without scores where it did not."""
    metrics = {"best_validation/loss": loss, f"best_validation/{metric}": score, f"test/{metric}": score / 2}
    metrics = {**(metrics if outcome == "finished" else {f"validation/{metric}": 0.1}), "seconds": 3.25}
    tags = {"dataset": dataset, "family": "lstm", "activation": "tanh", "seed": "0", "outcome": outcome} | tags
    run_id = f"{next(COUNT):08x}" * 4
    return StoredRun(run_id, f"name-{dataset}", "FINISHED", 0.0, params or {}, metrics, tags, "", "1")


ERROR = {"metric": "mean_absolute_error", "score": 0.00123}
RUNS = [
    run(loss=0.4),
    run("adding_problem/50", loss=0.01, **ERROR),
    run("tiny_shakespeare", loss=1.9, score=0.55),
    run(loss=0.3, activation="relu"),
    run(outcome="diverged"),
    run("adding_problem/50", outcome="killed", **ERROR),
    run("own:waves.npz", loss=0.2, params={"dataset.task": "forecasting", "dataset.horizon": "3"}, **ERROR),
    run("own:waves.npz", loss=0.1, params={"dataset.task": "forecasting", "dataset.horizon": "9"}, **ERROR),
]


@pytest.fixture
def stored(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "runs", lambda experiment=None: RUNS)


def call(*arguments):
    return CliRunner().invoke(compare_cli.compare, arguments, catch_exceptions=False)


def test_losses_of_different_problems_are_never_in_one_list():
    groups = compare_cli.grouped(RUNS)
    named = [(group.dataset, group.metric.name, len(group.runs)) for group in groups]
    assert named == [
        ("digits_rows", "accuracy", 3),
        ("adding_problem/50", "mean_absolute_error", 2),
        ("tiny_shakespeare", "accuracy", 1),
        ("own:waves.npz", "mean_absolute_error", 1),  # one forecasts three steps, the other nine
        ("own:waves.npz", "mean_absolute_error", 1),
    ]
    for group in groups:
        losses = [each.metrics["best_validation/loss"] for each in group.runs if "test/" in str(each.metrics)]
        assert losses == sorted(losses)


def test_each_run_shows_the_metric_of_its_task(stored):
    rows = json.loads(call("--json").stdout)
    assert {row["run_id"] for row in rows} == {each.run_id for each in RUNS}
    for row in rows:
        numbers = row["dataset"].startswith(("adding", "own"))
        assert row["metric"] == ("mean_absolute_error" if numbers else "accuracy")
        if row["outcome"] == "finished":
            assert row["validation"] == (0.00123 if numbers else row["validation_accuracy"])
            assert row["test"] == row["validation"] / 2
        assert (row["test_accuracy"] is None) == (numbers or row["outcome"] != "finished")


@pytest.mark.parametrize("columns", ["80", None])
def test_ids_and_scores_are_whole(stored, monkeypatch, columns):
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    shown = call().stdout
    lines = shown.splitlines()
    assert "…" not in shown
    for each in RUNS:
        (row,) = [line for line in lines if line.split()[:1] == [each.run_id[:8]]]
        assert len(row) <= 80
        if "best_validation/loss" in each.metrics:
            assert f"{each.metrics['best_validation/loss']:.4f}" in row
        if each.tags["dataset"].startswith("adding") and each.tags["outcome"] == "finished":
            assert "0.00123 " in row
    assert sum("diverged" in line for line in lines) == 1


def test_diverged_stands_only_where_a_run_diverged(monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: drawn.append(figure))
    compare_cli.plot(compare_cli.grouped(RUNS), pictures.Path("x.png"))
    (figure,) = drawn
    said = {axes.get_title(loc="left"): [text.get_text() for text in axes.texts] for axes in figure.axes}
    assert said["digits_rows"] == ["diverged"]
    assert said["adding_problem/50"] == ["killed"]
    assert said["tiny_shakespeare"] == said["own:waves.npz"] == []
    assert [axes.get_xlabel() for axes in figure.axes[:3]] == ["accuracy", "mean absolute error", "accuracy"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "digit_rows"], r"unknown dataset 'digit_rows'; did you mean 'digits_rows'\? Valid: adding_prob"),
        (["--study", "nosuch"], "among 8 in sqlite:.*: none of them has a study"),
    ],
)
def test_what_is_there_is_said_where_nothing_fits(stored, arguments, said):
    with pytest.raises(tracking.RunNotFound, match=said):
        call(*arguments)


def test_a_study_that_nobody_ran_is_answered_with_those_that_were(monkeypatch, stored):
    monkeypatch.setattr(tracking, "runs", lambda experiment=None: [*RUNS, run(study="gates"), run(study="seeds")])
    with pytest.raises(tracking.RunNotFound, match=r"unknown study 'gate'; did you mean 'gates'\? Valid: gates, seeds"):
        call("--study", "gate")


def test_a_table_of_one_run_has_its_id_and_its_scores():
    (group,) = compare_cli.grouped([RUNS[1]])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(compare_cli.table(group))
    assert {RUNS[1].run_id[:8], "0.0100", "0.00123", "0.000615", "3.2"} <= set(console.export_text().split())
