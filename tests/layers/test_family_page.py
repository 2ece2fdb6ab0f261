"""What docs/family.md says of the cells; `python tests/layers/test_family_page.py` writes its numbers and its table."""

import functools
import inspect
import math
import re
from pathlib import Path

import keras
import pytest

from zoo import layers
from zoo.layers._gated_cell import GATES, KERNEL_GATES
from zoo.layers.variant_lstm import VARIANTS
from zoo.models.cells import recurrent_layer

PAGE = Path(__file__).parents[2] / "docs" / "family.md"
SIZES = {"n": 128, "m": 40, "p": 32, "T": 100}
ROW = re.compile(r"^\| `(\w+\(.*\))` \| (.*) \| `([-+*() \dnmpT]+)` \| (\d+) \|$", re.MULTILINE)


def built(call):
    layer = eval(call, {**vars(layers), **SIZES})  # the page's own text
    layer.build((None, None, SIZES["m"]) if isinstance(layer, keras.layers.RNN) else (None, SIZES["m"]))
    return layer


def trained(layer):
    return sum(math.prod(weight.shape) for weight in layer.trainable_weights)


def table_of_cells():
    """The table of every name in `CELLS`: what it makes, the arguments it alone has, and those it lacks."""
    lines = ["| `model.cell` | makes | which is | arguments of its own | without |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *map(row_of_cell, layers.CELLS)])


def row_of_cell(name):
    make, layer = functools.partial(layers.CELLS[name]), recurrent_layer(name, 4)
    kind = make.func
    given = [*map(repr, make.args), "n", *(f"{argument}={value}" for argument, value in make.keywords.items())]
    what = kind.__doc__.partition(".\n")[0] if kind is not layers.VariantLSTMCell else VARIANTS[make.args[0]]
    arguments = [argument for argument in ("cell_clip", "engine", "max_steps", "projection") if has(make, argument)]
    without = [
        *(["zoneout"] if kind is layers.BatchNormLSTM else []),
        *(["`chrono_steps`"] if layer.cell.kernel_gates != KERNEL_GATES else []),
        *(["`identity_recurrent`"] if has(make, "projection") else []),
        *(f"`{gate}_activation`" for gate in GATES if gate not in layer.cell.gates),
    ]
    made = f"{kind.__name__}({', '.join(given)})".replace("'", '"')
    cells = [f"`{name}`", f"`{made}`", what, ", ".join(f"`{argument}`" for argument in arguments), ", ".join(without)]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def has(make, argument):
    return argument in inspect.signature(make).parameters


def test_the_table_of_cells_says_nothing_else_than_the_generated_one():
    """A new cell may be missing there until a release."""
    generated = table_of_cells().strip().splitlines()
    committed = PAGE.read_text().partition(generated[0])[2].partition("\n\n")[0]
    assert committed
    assert set(committed.strip().splitlines()) <= set(generated), (
        "run `python tests/layers/test_family_page.py`, commit it"
    )


@pytest.mark.slow
def test_the_table_of_cells_is_the_generated_one():
    assert table_of_cells() in PAGE.read_text(), (
        "run `python tests/layers/test_family_page.py` and commit docs/family.md"
    )


ROWS = ROW.findall(PAGE.read_text())


@pytest.mark.parametrize(("call", "changes", "formula", "number"), ROWS, ids=[row[0] for row in ROWS])
def test_formula_and_number_are_the_cells(call, changes, formula, number):
    layer = built(call)
    assert trained(layer) == int(number)
    assert eval(formula, SIZES) == int(number)
    said = re.search(r"also `([^`]*)` statistics", changes)
    untrained = sum(math.prod(weight.shape) for weight in layer.non_trainable_weights)
    assert untrained == (eval(said[1], SIZES) if said else 0)


def test_the_variants_and_the_cells_of_the_family_have_their_rows():
    made = {getattr(make, "func", make).__name__ for make in layers.CELLS.values()}
    named = {call.partition("(")[0] for call, *_ in ROWS}
    assert named <= made | {"LSTMCell", "ZoneoutCell"}
    assert {call.split('"')[1] for call, *_ in ROWS if '"' in call} == set(VARIANTS)


if __name__ == "__main__":
    text = ROW.sub(lambda row: row[0].replace(f"| {row[4]} |", f"| {trained(built(row[1]))} |"), PAGE.read_text())
    PAGE.write_text(re.sub(r"\| `model.cell` .*?(?=\n\n)", lambda _: table_of_cells(), text, flags=re.DOTALL))
