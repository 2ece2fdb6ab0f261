"""A Keras model zoo for sequences.

`zoo.layers` has the layers, `zoo.activations` the table of activations, `zoo.models` the models, `zoo.presets` trained
models, and `zoo.export` exports SavedModels. Importing this package imports nothing heavy: import each part by its
name; `zoo.load_preset` is imported at its first use.
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
