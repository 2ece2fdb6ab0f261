"""The trained models that come with the package: what their cards say, and nothing else."""

import shutil

import keras
import numpy as np
import pytest

import zoo
from training import datasets
from training.batches.batches import Batches
from training.cli.presets import LARGEST, PRESETS
from training.run.loop import evaluate
from training.run.tasks import model_task
from zoo import presets


def test_the_list_is_what_is_there():
    assert presets.names() == sorted(PRESETS)
    assert zoo.load_preset is presets.load_preset


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_card_holds(name):
    card, model = presets.describe(name), zoo.load_preset(name)
    assert (presets._FOLDER / f"{name}.keras").stat().st_size < LARGEST
    assert card["parameters"] == model.count_params()
    dataset = datasets.get(card["dataset"])
    assert card["classes"] == list(dataset.spec.classes)
    assert card["data_licence"] == dataset.spec.licence
    if name not in ("japanese_vowels", "digits_rows") and not dataset.is_prepared():
        pytest.skip(f"{card['dataset']} is not prepared here")
    test = dataset.load("test")
    scores = evaluate(model, model_task(dataset.spec), Batches(test, 64, shuffle=False))
    assert scores.accuracy == pytest.approx(card["test"]["accuracy"], abs=1 / len(test) + 1e-9)  # other rounding
    assert scores.loss == pytest.approx(card["test"]["loss"], rel=1e-3)


def test_it_can_be_trained_further_with_another_head():
    body = zoo.load_preset("japanese_vowels", head=False)
    model = keras.Sequential([body, keras.layers.Dense(2)])
    examples = datasets.get("japanese_vowels").load("train").subset(np.arange(40))
    inputs, labels = Batches(examples, 40, buckets=1)[0]
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = body.get_weights()
    losses = model.fit(inputs, labels % 2, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert any(not np.array_equal(old, new) for old, new in zip(before, body.get_weights(), strict=True))


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    for path in presets._FOLDER.glob("digits_rows.*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(presets, "_FOLDER", tmp_path)
    content = bytearray((tmp_path / "digits_rows.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "digits_rows.keras").write_bytes(content)
    with pytest.raises(presets.DamagedPreset, match="install it again"):
        presets.load_preset("digits_rows")
