"""A trained model as MLflow knows models: a folder with a signature and the packages that it needs.

Written by hand, and without MLflow, which may not be installed where the model is trained.
`mlflow.tensorflow.log_model` would take the lengths of an example for the only ones, and find out the packages by
loading the model in another process, which takes longer than many trainings.
"""

import json
import platform
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras

from training.run import environment
from training.tracking.files import MODEL_FOLDER

# What running a model takes; the tracker and the other backends are not needed.
_NEEDED = ("sequence-zoo", "keras", "tensorflow", "numpy")


def write_model(folder: Path, model: keras.Model, run_id: str) -> None:
    """Write `model` to `folder`, so that `mlflow.pyfunc.load_model` and `mlflow.tensorflow.load_model` take it.

    Args:
        folder: Made here.
        model: From `training.run.loop.run`.
        run_id: The run that it comes from.
    """
    folder.mkdir()
    model.save(folder / "model.keras")
    flavors: dict[str, Any] = {
        "python_function": {
            "loader_module": "training.pyfunc",
            "python_version": platform.python_version(),
            "data": "model.keras",
            "env": {"virtualenv": "python_env.yaml"},
        },
        # Keras's file is the same whatever backend it was trained on.
        "tensorflow": {"data": ".", "model_type": "keras", "save_format": "keras"},
    }
    description = {
        "artifact_path": MODEL_FOLDER,
        "run_id": run_id,
        "model_uuid": uuid.uuid4().hex,
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "signature": signature(model),
        "flavors": flavors,
    }
    (folder / "MLmodel").write_text(json.dumps(description, indent=2) + "\n")  # of YAML, which it is read as, a part
    versions = environment.versions()
    needed = [f"{name}=={versions[name]}" for name in _NEEDED if name in versions]
    (folder / "requirements.txt").write_text("\n".join([*needed, ""]))
    python = f"python: {platform.python_version()}\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n"
    (folder / "python_env.yaml").write_text(python)


def signature(model: keras.Model) -> dict[str, str | None]:
    """What goes in and comes out as MLflow writes it, with every axis open that the model leaves open.

    Example:
    >>> from zoo.models import SequenceTask, build
    >>> signature(build("lstm", SequenceTask(channels=12, classes=9), units=8))["outputs"]
    '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 9]}}]'
    """
    [output] = model.outputs
    inputs = [{"name": tensor.name, **_spec(tensor)} for tensor in model.inputs]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps([_spec(output)]), "params": None}


def _spec(tensor: Any) -> dict[str, Any]:
    shape = [-1 if size is None else size for size in tensor.shape]
    return {"type": "tensor", "tensor-spec": {"dtype": str(tensor.dtype), "shape": shape}}
