"""A new row of a dict is in the conformance tests at once: a file and a line are all that it takes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Adds a dummy to each dict, and collects tests as pytest does.
SCRIPT = """
import dataclasses, sys
import pytest
from zoo import activations, kernels, layers, models

activations.ACTIVATIONS["new_activation"] = dataclasses.replace(activations.ACTIVATIONS["tanh"], name="new_activation")
kernels.ENGINES["new_engine"] = kernels.ENGINES["reference"]
layers.CELLS["new_cell"] = layers.CELLS["peephole"]
models.MODELS["new_model"] = models.MODELS["gru"]
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""
WALKS = {
    "tests/layers/test_activations.py": "new_activation",
    "tests/layers/test_lstm_parity.py": "new_activation",
    "tests/kernels/test_derivatives.py": "new_engine",
    "tests/kernels/test_engines.py": "new_engine",
    "tests/layers/test_cell_family.py": "new_cell",
    "tests/layers/test_masked_padding.py": "new_cell",
    "tests/layers/test_set_later.py": "new_cell",
    "tests/layers/test_variable_paths.py": "new_cell",
    "tests/export/test_last_layer.py": "new_model",
    "tests/models/test_models.py": "new_model",
}


pytestmark = pytest.mark.slow  # TensorFlow is imported and tests are collected once more


@pytest.fixture(scope="module")
def collected():
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", SCRIPT, *WALKS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("file", WALKS)
def test_a_new_row_is_found(file, collected):
    assert any(line.startswith(f"{file}::") and re.search(rf"\[.*\b{WALKS[file]}\b", line) for line in collected)
