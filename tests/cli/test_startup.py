"""What the command imports before it does anything: seconds, all of it. `benchmarks/startup.py` has the numbers."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "jax", "torch", "mlflow", "pandas", "tensorflow_datasets", "scipy", "sklearn")

SCRIPT = """
import json, os, sys

def report(*_, **__):
    print(json.dumps(sorted({name for name in sys.modules})), file=sys.stderr)
    os._exit(0)

if "--at-fit" in sys.argv:
    sys.argv.remove("--at-fit")
    import keras
    keras.Model.fit = report
from zoo.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    report()
"""


def imported(folder, *arguments):
    """The modules that a process of the command has imported when it ends, or when training begins."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=folder,
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with a store that has a run."""
    from mlflow.tracking import MlflowClient

    from training import tracking
    from training.tracking.store import experiment_of, open_store

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        client: MlflowClient = open_store()
        run_id = client.create_run(experiment_of(client, "sequence-zoo"), tags={"dataset": "parity"}).info.run_id
        client.log_metric(run_id, "best_validation/loss", 0.5)
        client.set_terminated(run_id)
        assert [run.run_id for run in tracking.runs()] == [run_id]
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare"],
        ["datasets"],
        ["models"],
        ["train", "model.activation=relu", "training.epochs=3"],
        ["study", "--activation", "tanh,relu", "model.unit=3"],
    ],
    ids=" ".join,
)
def test_what_needs_no_backend_imports_none(folder, arguments):
    assert not imported(folder, *arguments) & set(HEAVY)


@pytest.mark.slow
def test_training_begins_without_what_only_its_end_needs(folder):
    names = imported(folder, "train", "--at-fit", "dataset.name=parity", "model.units=4", "train.epochs=1")
    assert "tensorflow" in names
    late = (
        "training.pictures",
        "training.study",
        "training.cli.export",
        "zoo.cli.gallery",
        "training.tracking.artifacts",
    )
    assert not names & set(late)
