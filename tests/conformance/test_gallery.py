"""The page about activations is the generated one, its snippets run, and the picture is drawn."""

import doctest
from pathlib import Path

import pytest
from click.testing import CliRunner

from zoo.activations import ACTIVATIONS
from zoo.gallery import CLAIMS, page
from zoo.listings import activations

PAGE = Path(__file__).parents[2] / "docs/activations.md"


def test_the_committed_page_is_the_generated_one():
    assert PAGE.read_text() == page(), "run `python -m zoo.gallery` and commit docs/activations.md"


def test_the_page_has_every_activation_and_claim():
    text = page()
    assert all(f"| `{name}`" in text for name in ACTIVATIONS)
    assert all(claim in text for claim in CLAIMS)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {11}


def test_the_snippets_print_what_the_page_says():
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.failed == 0
    assert found.attempted >= 3 * len(CLAIMS)


@pytest.mark.parametrize("given", [["--plot", "some/where.png"], ["--plot"]], ids=["a path", "the default path"])
def test_the_command_draws_the_picture(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(activations, given, catch_exceptions=False)
    assert result.exit_code == 0
    picture = (tmp_path / result.output.strip()).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000
