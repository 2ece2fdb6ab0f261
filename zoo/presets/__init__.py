"""Trained models that come with the package, each with a card about its origin.

    model = zoo.presets.load_preset("japanese_vowels")
    model.predict({"features": x, "lengths": lengths})     logits; the classes are in describe("japanese_vowels")

A preset is two files beside this one: `<name>.keras`, below 1 MB, and its card `<name>.json`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import keras

from zoo import suggest

_FOLDER = Path(__file__).parent


class DamagedPreset(RuntimeError):
    """The file of a preset differs from the one that its card describes."""

    exit_code = 1


def names() -> list[str]:
    """The names of the presets.

    Example:
    >>> "japanese_vowels" in names()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def describe(name: str) -> dict[str, Any]:
    """The card of a preset: dataset, classes, features, scores, configuration, command, versions, licence of the data.

    Raises:
        ValueError: The name is unknown.

    Example:
    >>> describe("japanese_vowel")
    Traceback (most recent call last):
    ValueError: unknown preset 'japanese_vowel'; did you mean 'japanese_vowels'? ...
    """
    if name not in names():
        raise ValueError(suggest.unknown("preset", name, names()))
    return dict(json.loads((_FOLDER / f"{name}.json").read_text()))


def load_preset(name: str, head: bool = True) -> keras.Model:
    """Load a trained model, for predictions or further training.

    Args:
        name: Name of the preset, from `names()`.
        head: Whether to keep the last layer; without it the output is that layer's input, (batch, width), for a head of
            your own.

    Returns:
        A functional model of `{"features": (batch, steps, channels), "lengths": (batch,)}`, not compiled; it takes raw
        values and normalises them.

    Raises:
        ValueError: The name is unknown.
        DamagedPreset: The file differs from the one that the card describes.

    Example:
    >>> load_preset("japanese_vowels").output_shape, load_preset("japanese_vowels", head=False).output_shape
    ((None, 9), (None, 128))
    """
    card, path = describe(name), _FOLDER / f"{name}.keras"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card["sha256"]:
        raise DamagedPreset(f"{path} has sha256 {digest[:16]}..., expected {card['sha256'][:16]}...: install it again")
    import zoo.models  # noqa: F401  (registers the layers in the file)

    model = keras.models.load_model(path, compile=False)
    if head:
        return model
    return keras.Model(model.input, model.layers[-1].input, name=f"{model.name}_body")
