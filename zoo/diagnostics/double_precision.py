"""A copy of a layer or model that computes in float64."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.interception import require_built, tensors

HALF_AND_SINGLE = ("float16", "bfloat16", "float32")


class DoublePrecisionRefused(ValueError):
    """A layer cannot be copied to float64; the message gives the reason."""

    exit_code = 2


def in_double(layer: keras.layers.Layer, inputs: Any, call_arguments: Mapping[str, Any]) -> keras.layers.Layer:
    """Copy `layer` with its weights to float64 and try it on `inputs`, which are float64 already.

    Raises:
        DoublePrecisionRefused: The layer cannot be made from its configuration, fails in float64, or keeps a lower
            precision.
        NotImplementedError: JAX runs without 64-bit numbers.
    """
    require_built(layer)
    if keras.backend.standardize_dtype(ops.convert_to_tensor(np.ones(1, "float64")).dtype) != "float64":
        raise NotImplementedError(
            "gradient_check needs float64, which Keras's 'jax' backend turns into float32: set JAX_ENABLE_X64=1 "
            "before starting Python, or KERAS_BACKEND=tensorflow"
        )
    try:
        copy = type(layer).from_config(_rewritten(layer.get_config()))
        output = copy(tensors(inputs), **call_arguments)
        copy.set_weights([np.asarray(weight, "float64") for weight in layer.get_weights()])
    except Exception as error:  # a layer may raise anything
        raise DoublePrecisionRefused(
            f"{type(layer).__name__} {layer.name!r} cannot run in float64: {type(error).__name__}: {error}. Expected a "
            "layer whose get_config() is complete and that follows its dtype; check its parts one by one"
        ) from error
    _require_double(layer, copy, output)
    return copy


def _rewritten(config: Any) -> Any:
    """Replace every dtype or policy of lower precision in `config` by "float64", at any depth."""
    if isinstance(config, dict):
        return {
            key: "float64" if key == "dtype" and _is_lower(value) else _rewritten(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_rewritten(value) for value in config)
    return config


def _is_lower(value: Any) -> bool:
    if isinstance(value, dict):
        value = value.get("config", {}).get("name")
    return isinstance(value, str) and value.removeprefix("mixed_") in HALF_AND_SINGLE


def _require_double(layer: Any, copy: Any, output: Any) -> None:
    lower = [variable.path for variable in copy.trainable_weights if variable.dtype in HALF_AND_SINGLE]
    kinds = {keras.backend.standardize_dtype(leaf.dtype) for leaf in keras.tree.flatten(output)}
    if lower or kinds & set(HALF_AND_SINGLE):
        what = f"weights {', '.join(lower)}" if lower else f"an output of {', '.join(sorted(kinds))}"
        raise DoublePrecisionRefused(
            f"{type(layer).__name__} {layer.name!r} keeps {what} in float64, so finite differences would measure "
            "rounding; expected a layer whose numbers follow its dtype: cast to self.compute_dtype inside it"
        )
