"""What a model answered where it was trained, so that what is exported of it can be held against that.

A model may be trained on one backend and device and exported on another machine: its weights go through a file, and
other libraries compute with them. These are a few sequences and its answers to them, written when it was trained.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from zoo.export.contract import contract
from zoo.export.last_layer import with_outputs
from zoo.export.probes import answers, batch, expected, probes

# GPUs multiply float32 with a mantissa of ten bits unless told otherwise (TF32), which is float16's.
_ON_GPU = 2**-9
# Other libraries add up in another order, and a recurrence hands on what that changes.
_ON_CPU = 1e-4


@dataclass(frozen=True)
class Golden:
    """Sequences and what a model answered.

    Attributes:
        examples: The examples as `zoo.export.export` takes them.
        answers: Probabilities or predicted numbers for all of them; NaN where there is none.
        where: Backend and device, such as "jax on gpu:0".
    """

    examples: Mapping[str, Any]
    answers: NDArray[np.float32]
    where: str

    @property
    def tolerance(self) -> float:
        """How far answers computed elsewhere may lie from these, of a probability or of the largest number."""
        return _ON_CPU if self.where.endswith("on cpu:0") else _ON_GPU


def write(path: Path, model: keras.Model, task: Mapping[str, Any], device: str) -> None:
    """Ask `model` and keep its answers.

    Args:
        path: An `.npz` file.
        model: On any backend.
        task: The task as `zoo.export.export` takes it.
        device: The device that computed the answers.

    Raises:
        ExportError: Task and model do not fit, or the model gives nothing finite.
    """
    made = contract(model, task)
    asked = probes(model, made, None)
    inputs: dict[str, Any] = {"text": np.array(asked)} if made.text else batch(made, asked)
    given = answers(model, made, asked)
    probabilities = expected(with_outputs(made, model, given), given)
    buffer = io.BytesIO()
    np.savez(buffer, **inputs, answers=probabilities, where=f"{keras.backend.backend()} on {device}")
    path.write_bytes(buffer.getvalue())


def read(path: Path) -> Golden:
    """What `write` has kept."""
    with np.load(path, allow_pickle=False) as kept:
        examples: dict[str, Any] = (
            {"text": [str(text) for text in kept["text"]]}
            if "text" in kept
            else {"features": [row[:steps] for row, steps in zip(kept["features"], kept["lengths"], strict=True)]}
        )
        return Golden(examples, kept["answers"], str(kept["where"]))
