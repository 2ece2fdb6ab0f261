"""Finds out whether the outputs of a classifier are logits or probabilities."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from zoo.export.contract import Contract, ExportError, Outputs

_BY_ACTIVATION = {"linear": Outputs.LOGITS, "softmax": Outputs.DISTRIBUTION, "sigmoid": Outputs.INDEPENDENT}
_PASSING_ON = (keras.layers.Reshape, keras.layers.Dropout, keras.layers.Identity, keras.layers.Flatten)


def with_outputs(contract: Contract, model: keras.Model, answers: NDArray[Any]) -> Contract:
    """Set `outputs` of the contract of a classifier; arguments and errors are those of `outputs_of`."""
    return replace(contract, outputs=outputs_of(model, answers)) if contract.labelled else contract


def outputs_of(model: keras.Model, answers: NDArray[Any]) -> Outputs:
    """The kind of outputs of `model`, by its last layer and its answers.

    Rows of non-negative numbers that sum to 1 are probabilities, whatever the layer; otherwise its activation decides.

    Args:
        model: A classifier.
        answers: Answers of the model, (..., classes); rows that are not finite are ignored.

    Raises:
        ExportError: The layer is a softmax whose answers are not probabilities, or the kind is ambiguous.

    Example:
    >>> inputs = keras.Input((3,))
    >>> model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(inputs))
    >>> outputs_of(model, np.array([[0.25, 0.75], [1.0, 0.0]])).name
    'DISTRIBUTION'
    """
    if sum_to_one(answers):
        return Outputs.DISTRIBUTION
    by_layer = _of_last_layer(model)
    rows = _finite_rows(answers)
    if by_layer is Outputs.DISTRIBUTION:
        sums = rows.sum(axis=-1)
        raise ExportError(
            f"the model ends in a softmax, but its answers add up to {sums.min():.3g} to {sums.max():.3g} over the "
            "classes, not to 1: apply the softmax to the last axis, or leave it out"
        )
    if by_layer is not None:
        return by_layer
    if rows.size and rows.min() >= 0 and rows.max() <= 1:
        raise ExportError(
            f"the model answers with numbers from {rows.min():.3g} to {rows.max():.3g}, which may be logits or "
            "probabilities, and its last layer does not tell which: end it in a layer whose activation is None "
            "(logits), 'softmax' or 'sigmoid'"
        )
    return Outputs.LOGITS


def sum_to_one(answers: NDArray[Any]) -> bool:
    """Whether the finite rows of `answers` are probabilities of two or more classes that exclude each other.

    Example:
    >>> sum_to_one(np.array([[0.5, 0.5], [np.nan, 1]])), sum_to_one(np.array([[-1.0, 2.0]]))
    (True, False)
    """
    rows = _finite_rows(answers)
    rounding = 2.0**-6  # for probabilities that were rounded to bfloat16
    sums = rows.sum(axis=-1)
    return bool(rows.size and rows.shape[-1] > 1 and rows.min() >= 0 and np.all(np.abs(sums - 1) < rounding))


def _finite_rows(answers: NDArray[Any]) -> NDArray[Any]:
    rows = np.reshape(answers, (-1, answers.shape[-1]))
    return rows[np.isfinite(rows).all(axis=-1)]


def _of_last_layer(model: keras.Model) -> Outputs | None:
    operation = _last_operation(model)
    activation = getattr(operation, "activation", None)
    name = getattr(activation, "__name__", None) or type(operation).__name__.lower()
    return _BY_ACTIVATION.get(name)


def _last_operation(model: keras.Model) -> Any:
    """The layer or operation that computes the outputs, inside models and wrappers, before layers that pass them on."""
    [output] = model.outputs
    operation = output._keras_history.operation
    while isinstance(operation, _PASSING_ON):
        operation = operation.input._keras_history.operation
    if isinstance(operation, keras.layers.TimeDistributed):
        return operation.layer
    return _last_operation(operation) if getattr(operation, "outputs", None) else operation
