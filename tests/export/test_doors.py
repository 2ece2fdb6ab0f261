"""Whatever leaves the process gives the layer's numbers where the zoo is not: the matrix of docs/export.md."""

import keras
import pytest
from doors import DOORS, PAGE, VARIANTS, cells, missing, outcomes, row

BACKEND = keras.backend.backend()

# One of each kind of recogniser, in one process that reads all of them.
SMALL = {
    "tensorflow": [
        ("SavedModel of a concrete function", "standard"),
        ("SavedModel by `model.export`", "relu"),
        ("XLA around a function that was called", "standard"),
    ],
    "jax": [("`jax.export`, any number of steps", "relu")],
    "torch": [("`torch.jit.trace`", "standard"), ("`torch.export`", "return_sequences")],
}


@pytest.mark.any_backend
def test_a_few_doors(tmp_path):
    asked = [(door, variant, True) for door, variant in SMALL[BACKEND]]
    found = dict(zip(asked, outcomes(asked, tmp_path), strict=True))
    assert set(found.values()) == {"right"}, found


@pytest.mark.any_backend
@pytest.mark.parametrize("door", DOORS[BACKEND])
@pytest.mark.slow
def test_every_door(tmp_path, door):
    absent = missing(DOORS[BACKEND][door])
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed: pip install -c constraints.txt -e '.[doors]'")
    asked = [cell for cell in cells([door]) if cell[0] == door]
    found = dict(zip(asked, outcomes(asked, tmp_path), strict=True))
    for variant in VARIANTS:
        ours, theirs = found[door, variant, True], found[door, variant, False]
        assert ours == "right" or theirs != "right", (variant, ours)
    assert row(BACKEND, door, found) in PAGE.read_text(), f"the page is not this: run {PAGE.name}'s script again"
