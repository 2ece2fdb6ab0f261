"""The `zoo` command: exit codes, one message an error, listings that scripts can read."""

import json
import re

import pytest

from zoo import cli
from zoo.activations import ACTIVATIONS
from zoo.cli import VERBS, doctor, main
from zoo.models import MODELS


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    captured = capfd.readouterr()
    return exit_.value.code, captured.out, captured.err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capfd):
    code, out, _ = run(capfd, verb, "--help")
    assert (code, "Usage: zoo " + verb in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["train", "model.unit=3"], 2, "did you mean 'model.units'"),
        (["train", "--config", "nowhere"], 2, "no file at 'nowhere'"),
        (["train", "dataset.name=minst"], 2, "unknown dataset 'minst'"),
        (["compare", "--last", "0"], 2, "--last"),
        (["export", "abc"], 2, "--name"),
        (["datasets", "japanese_vowel"], 2, "did you mean 'japanese_vowels'"),
        (["predict"], 2, "Usage"),
    ],
)
def test_wrong_calls(arguments, code, message, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, out, err = run(capfd, *arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in out + err


def test_work_that_fails_is_one_line_unless_debugged(capfd, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(cli.zoo, "main", fail)
    assert run(capfd, "models")[::2] == (1, "Error: disk full (OSError; --debug shows where)\n")
    with pytest.raises(OSError, match="disk full"):
        main(["models", "--debug"])


def test_interrupted(capfd, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.zoo, "main", stop)
    assert run(capfd, "train")[::2] == (1, "interrupted\n")


def test_a_diverged_run_exits_with_1_and_advice(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    explode = ["optimizer.name=sgd", "optimizer.learning_rate=1e8", "optimizer.clipnorm=none"]
    code, out, err = run(capfd, "train", "--json", "train.epochs=2", "model.units=4", *explode)
    assert code == 1
    assert json.loads(out)["outcome"] == "diverged"
    assert "Try optimizer.clipnorm=1" in err


def test_listings(capfd):
    code, out, _ = run(capfd, "models", "--json")
    assert (code, set(json.loads(out))) == (0, set(MODELS))
    code, out, _ = run(capfd, "activations", "--json")
    table = json.loads(out)
    assert set(table) == set(ACTIVATIONS)
    assert (table["relu"]["upper"], table["sigmoid"]["upper"]) == (None, 1.0)
    for verb in ("models", "activations"):
        assert run(capfd, verb)[0] == 0


@pytest.mark.parametrize("verb", ["models", "activations", "doctor"])
def test_tables_are_whole_at_80_columns(verb, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setitem(doctor.PACKAGES, "no-such-optional", ("nothing", "torch"))
    out = run(capfd, verb)[1]
    assert "…" not in out
    lines = [line for line in out.splitlines() if line.startswith(("│", " ")) or "─" in line]
    assert max(map(len, lines)) <= 80
    names = {"models": MODELS, "activations": ACTIVATIONS, "doctor": doctor.PACKAGES}[verb]
    assert {re.split(r"\(", word)[0] for word in out.replace("│", " ").split()} >= set(names)


def test_doctor_says_what_is_missing(capfd, monkeypatch):
    code, out, _ = run(capfd, "doctor", "--json")
    assert (code, json.loads(out)["missing_required"]) == (0, [])
    monkeypatch.setitem(doctor.PACKAGES, "no-such-optional", ("nothing", "torch"))
    assert "sequence-zoo[torch]" in run(capfd, "doctor")[1]
    monkeypatch.setitem(doctor.PACKAGES, "no-such-required", ("everything", None))
    code, out, _ = run(capfd, "doctor")
    assert code == 1
    assert "missing" in out
