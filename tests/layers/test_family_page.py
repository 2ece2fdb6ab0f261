"""The numbers in docs/family.md are those of the cells; `python tests/layers/test_family_page.py` writes them."""

import math
import re
from pathlib import Path

import keras
import pytest

from zoo import layers

PAGE = Path(__file__).parents[2] / "docs" / "family.md"
SIZES = {"n": 128, "m": 40, "p": 32, "T": 100}
ROW = re.compile(r"^\| `(\w+\(.*\))` \| (.*) \| `([-+*() \dnmpT]+)` \| (\d+) \|$", re.MULTILINE)


def built(call):
    layer = eval(call, {**vars(layers), **SIZES})  # the page's own text
    layer.build((None, None, SIZES["m"]) if isinstance(layer, keras.layers.RNN) else (None, SIZES["m"]))
    return layer


def trained(layer):
    return sum(math.prod(weight.shape) for weight in layer.trainable_weights)


ROWS = ROW.findall(PAGE.read_text())


@pytest.mark.parametrize(("call", "changes", "formula", "number"), ROWS, ids=[row[0] for row in ROWS])
def test_formula_and_number_are_the_cells(call, changes, formula, number):
    layer = built(call)
    assert trained(layer) == int(number)
    assert eval(formula, SIZES) == int(number)
    said = re.search(r"also `([^`]*)` statistics", changes)
    untrained = sum(math.prod(weight.shape) for weight in layer.non_trainable_weights)
    assert untrained == (eval(said[1], SIZES) if said else 0)


def test_every_cell_has_its_row():
    named = {call.partition("(")[0] for call, *_ in ROWS}
    assert named == {name for name in layers.__all__ if name.endswith("Cell")} | {"BatchNormLSTM"}
    assert {call.split('"')[1] for call, *_ in ROWS if '"' in call} == set(layers.variant_lstm.VARIANTS)


if __name__ == "__main__":
    PAGE.write_text(
        ROW.sub(lambda row: row[0].replace(f"| {row[4]} |", f"| {trained(built(row[1]))} |"), PAGE.read_text())
    )
