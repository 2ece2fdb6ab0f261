"""A trained model as MLflow knows models: a folder with a signature and the packages that it needs.

Written by hand. `mlflow.tensorflow.log_model` would take the lengths of an example for the only ones, and find out the
packages by loading the model in another process, which takes longer than many trainings.
"""

import platform
from pathlib import Path
from typing import Any

import keras
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from training import environment

MODEL_FOLDER = "model"

# What running a model takes; the tracker and the other backends are not needed.
_NEEDED = ("sequence-zoo", "keras", "tensorflow", "numpy")


def write_model(folder: Path, model: keras.Model, run_id: str) -> None:
    """Write `model` to `folder`, so that `mlflow.pyfunc.load_model` and `mlflow.tensorflow.load_model` take it.

    Args:
        folder: Made here.
        model: From `training.loop.run`.
        run_id: The run that it comes from.
    """
    folder.mkdir()
    model.save(folder / "model.keras")
    description = Model(artifact_path=MODEL_FOLDER, run_id=run_id, signature=signature(model))
    description.add_flavor(
        "python_function",
        loader_module="training.pyfunc",
        python_version=platform.python_version(),
        data="model.keras",
        env={"virtualenv": "python_env.yaml"},
    )
    if keras.backend.backend() == "tensorflow":
        description.add_flavor("tensorflow", data=".", model_type="keras", save_format="keras")
    description.save(folder / "MLmodel")
    versions = environment.versions()
    needed = [f"{name}=={versions[name]}" for name in _NEEDED if name in versions]
    (folder / "requirements.txt").write_text("\n".join([*needed, ""]))
    python = f"python: {platform.python_version()}\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n"
    (folder / "python_env.yaml").write_text(python)


def signature(model: keras.Model) -> ModelSignature:
    """What goes in and comes out, with every axis open that the model leaves open.

    Example:
    >>> from zoo.models import SequenceTask, build
    >>> print(signature(build("lstm", SequenceTask(channels=12, classes=9), units=8)).inputs)
    ['features': Tensor('float32', (-1, -1, 12)), 'lengths': Tensor('int32', (-1,))]
    """
    [output] = model.outputs
    return ModelSignature(Schema([_spec(tensor, tensor.name) for tensor in model.inputs]), Schema([_spec(output)]))


def _spec(tensor: Any, name: str | None = None) -> TensorSpec:
    shape = tuple(-1 if size is None else size for size in tensor.shape)
    return TensorSpec(np.dtype(tensor.dtype), shape, name)
