"""Trained models that come with the package, each with a card that says where it came from.

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
    """The file of a preset is not what its card says."""

    exit_code = 1


def names() -> list[str]:
    """The presets there are.

    Example:
    >>> "japanese_vowels" in names()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def describe(name: str) -> dict[str, Any]:
    """The card of a preset: dataset, classes, features, scores, configuration, command, versions, licence of the data.

    Raises:
        ValueError: There is no such preset.

    Example:
    >>> describe("japanese_vowel")
    Traceback (most recent call last):
    ValueError: unknown preset 'japanese_vowel'; did you mean 'japanese_vowels'? ...
    """
    if name not in names():
        raise ValueError(suggest.unknown("preset", name, names()))
    return dict(json.loads((_FOLDER / f"{name}.json").read_text()))


def load_preset(name: str, head: bool = True) -> keras.Model:
    """A trained model, to predict with or to train further.

    Args:
        name: One of `names()`.
        head: False leaves out the last layer: the model then gives what that layer is given, (batch, width), for a head
            of your own.

    Returns:
        A functional model of `{"features": (batch, steps, channels), "lengths": (batch,)}`; it takes raw values and
        normalises them itself. Not compiled.

    Raises:
        ValueError: There is no such preset.
        DamagedPreset: Its file is not the one that its card describes.

    Example:
    >>> load_preset("japanese_vowels").output_shape, load_preset("japanese_vowels", head=False).output_shape
    ((None, 9), (None, 128))
    """
    card, path = describe(name), _FOLDER / f"{name}.keras"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != card["sha256"]:
        raise DamagedPreset(f"{path} has sha256 {digest[:16]}..., expected {card['sha256'][:16]}...: install it again")
    import zoo.models  # noqa: F401  (its layers are what the file is made of)

    model = keras.models.load_model(path, compile=False)
    if head:
        return model
    return keras.Model(model.input, model.layers[-1].input, name=f"{model.name}_body")
