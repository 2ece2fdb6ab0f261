"""The main job over two machines: trained on JAX or torch where TensorFlow, TFDS and MLflow are not installed; tracked,
exported and asked here.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import zoo
from training import datasets, tracking
from training.cli import export as export_cli
from training.datasets.store import portable
from training.datasets.store.tfds import data_directory

BACKENDS = [name for name in ("jax", "torch") if importlib.util.find_spec(name)]

# Of a probability. JAX, torch and TensorFlow add up float32 in different orders; over at most 29 steps of a small LSTM
# that moved none by more than 2e-7. Two weights exchanged move them by 1e-2.
ROUNDING = 5e-6

NOT_THERE = ("tensorflow", "mlflow", "tensorboard", "sequence_zoo", "__editable__")

ROWS = 8

SCRIPT = f"""
import sys
import numpy as np
from zoo import cli
from zoo.cli import doctor

def zoo(*arguments):
    try:
        cli.main(arguments)
    except SystemExit as ended:
        return ended.code

small = ["model.units=6", "dataset.buckets=1", "dataset.batch_size=54", "train.epochs=2", "train.device=cpu"]
assert zoo("train", *small, "optimizer.learning_rate=0.02", "--debug") == 0
[path] = __import__("pathlib").Path("mlruns/runs").glob("*/outbox/model/model.keras")

import keras
from training import datasets
from training.batches.batches import Batches

model = keras.models.load_model(path)
test = datasets.get("japanese_vowels").load("test").subset(range({ROWS}))
inputs, _ = Batches(test, {ROWS}, buckets=1, shuffle=False)[0]
np.savez("answers.npz", **inputs, logits=model.predict_on_batch(inputs), digest=test.digest())
assert zoo("compare") == 1
assert zoo("train", "dataset.name=uci_har") == 1
assert zoo("train", "--resume", "0000") == 2
assert doctor.examine()["missing_required"] == []
loaded = {{name.partition(".")[0] for name in sys.modules}} & {{"tensorflow", "tensorflow_datasets", "mlflow"}}
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """The other machine: what is installed here but for some packages, and a dataset that was brought."""
    machine = tmp_path_factory.mktemp("machine")
    (machine / "site").mkdir()
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not path.name.lower().startswith(NOT_THERE) and path.suffix != ".pth":
            (machine / "site" / path.name).symlink_to(path)
    portable.carry(datasets.get("japanese_vowels"), machine / "data")
    return machine


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return tmp_path_factory.mktemp("here")  # one for all: MLflow takes seconds to make the tables of a store


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_trained_there_tracked_and_exported_here(backend, there, here, tmp_path, monkeypatch):
    paths = [str(Path(zoo.__file__).parents[1]), str(there / "site")]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(paths),
        "TFDS_DATA_DIR": str(there / "data"),
    }
    command = [sys.executable, "-S", "-c", SCRIPT]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "since MLflow is not installed here",
        "tracking.runs",
        "zoo datasets carry uci_har --to FOLDER",
        "0 runs begin with '0000'",
    ):
        assert said in done.stderr

    monkeypatch.chdir(here)
    (here / "mlruns/runs").mkdir(parents=True, exist_ok=True)
    [folder] = (tmp_path / "mlruns/runs").iterdir()
    shutil.copytree(folder, here / "mlruns/runs" / folder.name)
    [run] = [run for run in tracking.runs() if run.tags.get("recorded_as") == folder.name]
    assert (run.status, run.tags["outcome"]) == ("FINISHED", "finished")
    assert run.tags.items() >= {"backend": backend, "device": "cpu:0", "dataset": "japanese_vowels"}.items()
    assert run.tags[f"version.{backend}"]
    assert not {"version.tensorflow", "version.mlflow", "diagnostics"} & set(run.tags)
    assert run.metrics.keys() >= {"train/loss", "test/accuracy", "train/gradient_norm"}
    assert {path.parent for path in data_directory().glob("carried/*")} == set()  # here nothing is read from there

    made = export_cli.export_run(run.run_id, backend, here / "models")
    assert made.metrics["export/golden_max_abs_difference"] < ROUNDING
    with np.load(tmp_path / "answers.npz") as answers:
        test = datasets.get("japanese_vowels").load("test").subset(range(ROWS))
        assert test.digest() == str(answers["digest"])
        expected = np.exp(answers["logits"] - answers["logits"].max(-1, keepdims=True))
        expected /= expected.sum(-1, keepdims=True)
        asked = {name: answers[name] for name in ("features", "lengths")}
    import tensorflow as tf

    served = tf.saved_model.load(str(made.path)).signatures["serving_padded"]
    found = served(**{name: tf.constant(array) for name, array in asked.items()})["probabilities"].numpy()
    np.testing.assert_allclose(found, expected, atol=ROUNDING, rtol=0)
    assert np.ptp(expected, axis=0).max() > 0.01  # the answers differ from each other, so equal ones mean something
