"""What a model answered where it was trained, held against what is exported of it."""

import dataclasses

import keras
import numpy as np
import pytest

from zoo.export import ExportError, export, golden
from zoo.models import SequenceTask, build

NUMBERS = SequenceTask(
    channels=2, kind="regression", outputs=2, mean=(1.0, 2.0), variance=(4.0, 1.0), output_mean=(100.0, -5.0),
    output_variance=(900.0, 1.0),
)  # fmt: skip
TASK = {"kind": "regression", "outputs": ["load", "wear"]}
WORDS = {"kind": "classification", "classes": ["no", "yes"], "vocabulary": ["", "[UNK]", "good", "bad"]}


@pytest.mark.any_backend
def test_answers_are_kept_with_what_was_asked(tmp_path):
    model = build("lstm", NUMBERS, units=3)
    golden.write(tmp_path / "golden.npz", model, TASK, "cpu:0")
    kept = golden.read(tmp_path / "golden.npz")
    assert kept.where == f"{keras.backend.backend()} on cpu:0"
    assert len(kept.examples["features"]) == len(kept.answers) > 2
    for sequence, answer in zip(kept.examples["features"][:2], kept.answers, strict=False):
        alone = {"features": sequence[None], "lengths": np.array([len(sequence)], "int32")}
        np.testing.assert_allclose(model.predict_on_batch(alone)[0], answer, rtol=1e-5)  # padded there, alone here
    assert dataclasses.replace(kept, where="jax on gpu:0").tolerance > kept.tolerance


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports are TensorFlow's")
def test_another_model_is_not_exported(tmp_path):
    model = build("lstm", NUMBERS, units=3)
    golden.write(tmp_path / "golden.npz", model, TASK, "cpu:0")
    kept = golden.read(tmp_path / "golden.npz")
    made = export(model, TASK, tmp_path / "models", golden=kept)
    # Relative to the largest answer, of which float32 has seven digits.
    assert made.metrics["export/golden_max_abs_difference"] < 1e-5 * np.abs(kept.answers).max()
    cell = model.get_layer("lstm_1").cell
    kernel = cell.recurrent_kernel.numpy()
    cell.recurrent_kernel.assign(np.roll(kernel, 3, axis=1))  # the gates in another order
    with pytest.raises(ExportError, match=r"the model where it was trained \(tensorflow on cpu:0\)"):
        export(model, TASK, tmp_path / "models", golden=kept)
    assert [path.name for path in (tmp_path / "models").iterdir() if path.name.isdigit()] == ["1"]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports are TensorFlow's")
def test_texts(tmp_path):
    model = build("lstm", SequenceTask(channels=1, classes=2, vocabulary=4, embedding=3), units=3)
    golden.write(tmp_path / "golden.npz", model, WORDS, "cpu:0")
    kept = golden.read(tmp_path / "golden.npz")
    assert "\u2603 unheard-of" in kept.examples["text"]
    assert export(model, WORDS, tmp_path / "models", golden=kept).metrics["export/golden_max_abs_difference"] < 1e-6
