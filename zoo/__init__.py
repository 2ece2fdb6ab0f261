"""A Keras model zoo for sequences.

`zoo.layers` has the layers, `zoo.activations` the table of activations, `zoo.models` the models, `zoo.presets` trained
ones, `zoo.export` the way to a SavedModel. Importing this package imports nothing heavy: each part is imported by its
own name, or, as `zoo.load_preset`, when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.presets import load_preset as load_preset

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load_preset":
        from zoo.presets import load_preset

        return load_preset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
