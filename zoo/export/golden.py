"""Golden answers: a few sequences and a model's answers to them, written where it was trained, to check exports.

A model may be trained on one backend and device and exported on another machine: its weights go through a file, and
other libraries compute with them.
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

# By default GPUs multiply float32 in TF32, whose mantissa has ten bits like that of float16.
_ON_GPU = 2**-9
# Other libraries add in another order, and a recurrence passes the differences on.
_ON_CPU = 1e-4


@dataclass(frozen=True)
class Golden:
    """Sequences and a model's answers to them.

    Attributes:
        examples: The examples in the form that `zoo.export.export` takes.
        answers: Probabilities or predicted numbers for all examples; NaN for no answer.
        where: Backend and device, such as "jax on gpu:0".
    """

    examples: Mapping[str, Any]
    answers: NDArray[np.float32]
    where: str

    @property
    def tolerance(self) -> float:
        """Largest allowed difference from answers elsewhere, of a probability or relative to the largest number."""
        return _ON_CPU if self.where.endswith("on cpu:0") else _ON_GPU


def write(path: Path, model: keras.Model, task: Mapping[str, Any], device: str) -> None:
    """Write the answers of `model` to random sequences.

    Args:
        path: An `.npz` file.
        model: A model on any backend.
        task: The task in the form that `zoo.export.export` takes.
        device: The device that computes the answers.

    Raises:
        ExportError: The task does not fit the model, or the model has no finite answer.
    """
    agreed = contract(model, task)
    sequences = probes(model, agreed, None)
    inputs: dict[str, Any] = {"text": np.array(sequences)} if agreed.text else batch(agreed, sequences)
    outputs = answers(model, agreed, sequences)
    probabilities = expected(with_outputs(agreed, model, outputs), outputs)
    buffer = io.BytesIO()
    np.savez(buffer, **inputs, answers=probabilities, where=f"{keras.backend.backend()} on {device}")
    path.write_bytes(buffer.getvalue())


def read(path: Path) -> Golden:
    """Read the file of `write`."""
    with np.load(path, allow_pickle=False) as kept:
        examples: dict[str, Any] = (
            {"text": [str(text) for text in kept["text"]]}
            if "text" in kept
            else {"features": [row[:steps] for row, steps in zip(kept["features"], kept["lengths"], strict=True)]}
        )
        return Golden(examples, kept["answers"], str(kept["where"]))
