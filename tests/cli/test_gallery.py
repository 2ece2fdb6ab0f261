"""The page about activations is the generated one, its snippets run, and the picture is drawn."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from oracles import ORACLE
from PIL import Image
from tiers import few

from zoo.activations import ACTIVATIONS, bind
from zoo.cli.gallery import CLAIMS, PICTURE, curves, page
from zoo.cli.listings import activations

PAGE = Path(__file__).parents[2] / "docs/activations.md"


def test_the_committed_page_says_nothing_else_than_the_generated_one():
    """A new activation may be missing there until a release."""
    assert set(PAGE.read_text().splitlines()) <= set(page().splitlines()), "run `python -m zoo.cli.gallery`, commit it"


@pytest.mark.slow
def test_the_committed_page_is_the_generated_one():
    assert PAGE.read_text() == page(), "run `python -m zoo.cli.gallery` and commit docs/activations.md"


def test_the_page_has_every_activation_and_claim():
    text = page()
    assert all(f"| `{name}`" in text for name in ACTIVATIONS)
    assert all(claim in text for claim in CLAIMS)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {11}


@pytest.mark.slow
def test_the_page_shows_the_committed_picture_of_every_activation():
    assert f"]({PICTURE})" in PAGE.read_text()
    with Image.open(PAGE.parent / PICTURE) as picture:
        said = picture.text["Description"]
    assert said.split(", ") == list(ACTIVATIONS), "run `python -m zoo.cli.gallery` and commit the picture"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_is_drawn_is_the_published_function_and_its_slope(name):
    x, step = np.linspace(-5.93, 7.91, 57), 1e-6  # between the kinks

    def published(x):
        logits = x if ACTIVATIONS[name].elementwise else np.stack([x, 0 * x, 0 * x], -1)
        return ORACLE[name](logits).reshape(len(x), -1)[:, 0]

    values, slopes = curves(bind(name), x)
    np.testing.assert_allclose(values, published(x), rtol=1e-6, atol=1e-6)  # float32
    np.testing.assert_allclose(slopes, (published(x + step) - published(x - step)) / (2 * step), rtol=1e-5, atol=2e-6)


def test_the_snippets_print_what_the_page_says():
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.failed == 0
    assert found.attempted >= 3 * len(CLAIMS)


@pytest.mark.parametrize(
    "given", few({"a path": ["--plot", "some/where.png"], "the default path": ["--plot"]}, ["the default path"])
)
def test_the_command_draws_the_picture(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(activations, given, catch_exceptions=False)
    assert result.exit_code == 0
    picture = (tmp_path / result.output.strip()).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000
    assert b", ".join(name.encode() for name in ACTIVATIONS) in picture
