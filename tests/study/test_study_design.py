"""What a study asks for, and what it refuses before anything is run."""

import pytest

from training.study import Study
from training.study.cli_grid import NAMED_STUDIES, grid, overridden, read_study
from training.study.design import PlanError

SMALL = ["model.units=4", "dataset.name=digits_rows"]


def test_every_run_is_planned_with_its_labels():
    study = Study(
        "s",
        {"none": ["optimizer.clipnorm=none"], "clipped": []},
        {"small batches": ["dataset.name=digits_rows", "dataset.batch_size=8"], "adding_problem/50": []},
        seeds=[3, 5],
        overrides=["model.units=4", "dataset.name=adding_problem/50"],
    )
    runs = study.runs()
    assert len({run.key for run in runs}) == len(runs) == 8
    assert [run.seed for run in runs] == [3] * 4 + [5] * 4  # unfinished, a study has whole seeds
    first = runs[0].config
    assert (first.seed, first.study, first.condition) == (3, "s", "none")
    assert (first.optimizer.clipnorm, first.dataset.batch_size, first.model.units) == (None, 8, 4)
    assert runs[1].config.optimizer.clipnorm == 1
    assert runs[2].config.dataset.name == "adding_problem/50"


def test_the_dataset_of_the_configuration_is_the_default():
    (run,) = Study("s", {"a": []}, seeds=1, config="japanese_vowels_lstm", overrides=["model.units=4"]).runs()
    assert (run.dataset, run.config.model.bidirectional, run.config.study) == ("japanese_vowels", True, "s")


def test_all_mistakes_are_said_at_once_and_where_they_are():
    study = Study(
        "s",
        {"reul": ["model.activation=reul"], "cropped": ["dataset.max_length=5"], "fine": []},
        {"text": ["dataset.name=tiny_shakespeare"], "digits": ["dataset.name=digits_rows"]},
    )
    with pytest.raises(PlanError) as caught:
        study.runs()
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "condition 'reul': " in lines[1]
    assert "did you mean 'relu'" in lines[1]
    assert "condition 'cropped' on 'text': " in lines[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../s"}, "names a folder"),
        ({"seeds": 0}, "at least 1"),
        ({"seeds": [1, 1]}, "twice"),
        ({"conditions": {}}, "there are none"),
        ({"baseline": "tahn"}, "did you mean 'tanh'"),
        ({"conditions": {"tanh": "model.units=4"}}, "expected a list"),
        ({"conditions": {"tanh": ["seed=1"]}}, "the study's `seeds`"),
        ({"conditions": {"tanh": ["dataset.name=digits_rows"]}}, "over which runs are paired"),
        ({"conditions": {"a (b)": [], "a b": []}}, "rename one"),
        ({"conditions": {"()": []}}, "needs a letter"),
        ({"config": "no_such"}, "no file at"),
        ({"overrides": ["model.unist=3"]}, "did you mean 'model.units'"),
    ],
)
def test_what_cannot_be_asked(changes, message):
    study = Study(**{"name": "s", "conditions": {"tanh": []}, "datasets": ["digits_rows"], **changes})
    with pytest.raises(PlanError, match="cannot be run") as caught:
        study.runs()
    assert message in str(caught.value)


def test_a_grid_from_the_command_line():
    study = grid(["model.activation=tanh,rrelu(0.1, 0.3)", "model.units=4,8", *SMALL[1:], "train.epochs=2"], 2, None)
    assert list(study.conditions) == [
        "activation=tanh, units=4",
        "activation=tanh, units=8",
        "activation=rrelu(0.1, 0.3), units=4",
        "activation=rrelu(0.1, 0.3), units=8",
    ]
    assert (study.name, study.seeds, len(study.runs())) == ("activation-units", 2, 8)
    assert list(grid(["model.name=lstm,gru"]).conditions) == ["lstm", "gru"]
    assert grid(SMALL).runs()[0].condition == "as configured"
    for given, message in (
        (["model.units=4", "model.units=8"], "twice"),
        (["model.units=4,"], "not understood"),
        (["model.units"], "not understood"),
        (["seed=1,2"], "--seeds"),
    ):
        with pytest.raises(PlanError, match=message):
            grid(given)


def test_a_study_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from training.study import Study\nSTUDY = Study('mine', {'a': []})\n")
    assert read_study(str(file)).name == "mine"
    for text, message in (("", "None as STUDY"), ("1 / 0", "ZeroDivisionError: division"), ("exit(3)", "SystemExit")):
        file.write_text(text)
        with pytest.raises(PlanError, match=message):
            read_study(str(file))
    with pytest.raises(PlanError, match="did you mean 'activations'"):
        read_study("activation")


@pytest.mark.parametrize("file", sorted(NAMED_STUDIES.glob("*.py")), ids=lambda file: file.stem)
def test_the_studies_here_are_valid(file):
    study = read_study(file.stem)
    assert study.name == file.stem
    assert study.runs()


@pytest.mark.parametrize("form", ["overrides", "datasets", "conditions"])
def test_an_override_of_a_study_in_a_file_acts_or_is_refused_by_name(form):
    said = ["train.epochs=300", "train.patience=7"]
    kept = {"overrides": said} if form == "overrides" else {}
    conditions = {"a": said if form == "conditions" else [], "b": ["model.units=4"]}
    datasets = {"digits": ["dataset.name=digits_rows", *(said if form == "datasets" else [])]}
    study = Study("s", conditions, datasets, seeds=1, **kept)
    if form == "conditions":
        with pytest.raises(PlanError, match=r"train.epochs=2: study 's' varies train.epochs"):
            overridden(study, ["train.epochs=2"])
    else:
        for run in overridden(study, ["train.epochs=2"]).runs():
            assert (run.config.train.epochs, run.config.train.patience) == (2, 7)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset.name=japanese_vowels", "on which datasets"),
        ("model={units = 3}", "varies model between its conditions"),
        ("seed=3", "--seeds"),
        ("study=other", "--name"),
        ("condition=other", "the condition's label"),
    ],
)
def test_an_override_that_cannot_act_is_refused(override, said):
    study = Study("s", {"a": [], "b": ["model.units=4"]}, {"digits": ["dataset.name=digits_rows"]}, seeds=1)
    with pytest.raises(PlanError) as refused:
        overridden(study, [override]).runs()
    assert said in str(refused.value)
    assert override.partition("=")[0] in str(refused.value)
