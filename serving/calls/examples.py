"""Classification and regression of serialized `tf.Example` messages by one model, with TensorFlow Serving's checks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.errors import Code, ServingError, invalid
from serving.runtime.data_types import STRING, DataType, data_type
from serving.runtime.model import DEFAULT_SIGNATURE, Array, Model, Signature

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
PREDICT_METHOD = "tensorflow/serving/predict"

_INPUTS = "inputs"
_CLASSES = "classes"
_SCORES = "scores"
_OUTPUTS = "outputs"
_FLOAT = data_type(1)


@dataclass(frozen=True)
class Classified:
    """The answer of a classification; a signature gives classes, scores or both.

    Attributes:
        classes: The labels, bytes (batch, classes).
        scores: float32 (batch, classes).
    """

    classes: Array | None
    scores: Array | None

    def filled(self) -> tuple[Array, Array]:
        """Classes and scores; the one that the signature lacks is empty or 0."""
        shape = next(array.shape for array in (self.classes, self.scores) if array is not None)
        classes = np.full(shape, b"", np.object_) if self.classes is None else self.classes
        return classes, np.zeros(shape, np.float32) if self.scores is None else self.scores


def classify(
    model: Model,
    signature_name: str,
    examples: Sequence[bytes],
    timeout_in_ms: int = 0,
    *,
    check_method_name: bool = False,
) -> Classified:
    """Run a classification signature.

    Args:
        model: The model.
        signature_name: Which signature; empty for the default one.
        examples: Serialized `tf.Example` messages.
        timeout_in_ms: How long the run may take; 0 for no limit.
        check_method_name: Whether the signature must be marked for classification; those of TensorFlow 2 never are.

    Raises:
        ServingError: With TensorFlow Serving's code and message.
    """
    signature = _signature(model, signature_name)
    if check_method_name:
        _check_method(model, signature_name, CLASSIFY_METHOD, "classification")
    _one_input(signature)
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise _no(f"No classification inputs found in SignatureDef: {_definition(model, signature_name)}")
    if not {_CLASSES, _SCORES} & set(signature.outputs):
        raise _no(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}". '
            f"Signature was: {_definition(model, signature_name)}"
        )
    # Other outputs of the signature are not computed.
    wanted = [alias for alias in (_CLASSES, _SCORES) if alias in signature.outputs]
    outputs = model.run(
        signature_name or DEFAULT_SIGNATURE, {_INPUTS: _vector(examples)}, wanted, timeout_in_ms=timeout_in_ms
    )
    for alias, expected in ((_CLASSES, STRING), (_SCORES, _FLOAT)):
        if alias in outputs:
            _check_matrix(alias, outputs[alias], signature.outputs[alias].dtype, expected, len(examples))
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    return Classified(classes, scores)


def regress(
    model: Model,
    signature_name: str,
    examples: Sequence[bytes],
    timeout_in_ms: int = 0,
    *,
    check_method_name: bool = False,
) -> Array:
    """Run a regression signature; the arguments and errors are those of `classify`.

    Returns:
        float32 (batch,).
    """
    signature = _signature(model, signature_name)
    if check_method_name:
        _check_method(model, signature_name, REGRESS_METHOD, "regression")
    _one_input(signature)
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise _no(f"No regression inputs found in SignatureDef: {_definition(model, signature_name)}")
    if _OUTPUTS not in signature.outputs:
        raise _no(f"No regression outputs found in SignatureDef: {_definition(model, signature_name)}")
    output = model.run(signature_name or DEFAULT_SIGNATURE, {_INPUTS: _vector(examples)}, timeout_in_ms=timeout_in_ms)[
        _OUTPUTS
    ]
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(output)}"
        )
    if len(output) != len(examples):
        raise invalid(f"Input batch size did not match output batch size: {len(examples)} vs. {len(output)}")
    dtype = signature.outputs[_OUTPUTS].dtype
    if dtype is not _FLOAT:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(dtype)}")
    return output.reshape(-1)


def _signature(model: Model, name: str) -> Signature:
    wanted = name or DEFAULT_SIGNATURE
    if wanted not in model.signatures:
        raise invalid(f"No signature was found with the name: {wanted}")
    return model.signatures[wanted]


def _definition(model: Model, name: str) -> str:
    return str(model.signature_def_map[name or DEFAULT_SIGNATURE])


def _check_method(model: Model, name: str, expected: str, kind: str) -> None:
    method = model.signature_def_map[name or DEFAULT_SIGNATURE].method_name
    if method != expected:
        raise invalid(f"Expected {kind} signature method_name to be {expected}. Was: {method}")


def _one_input(signature: Signature) -> None:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")


def _no(message: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, message)


def _vector(examples: Sequence[bytes]) -> Array:
    if not examples:
        raise invalid("Input is empty.")
    # np.array would make a matrix of bytes of one length, and cut zeros off their ends.
    array = np.empty(len(examples), np.object_)
    array[:] = examples
    return array


def _check_matrix(alias: str, output: Array, dtype: DataType, expected: DataType, batch: int) -> None:
    if output.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(output)}")
    if dtype is not expected:
        raise invalid(f"Expected {alias} Tensor of {_type_name(expected)}. Got: {_type_name(dtype)}")
    if len(output) != batch:
        raise invalid(f"Expected {alias} output batch size of {batch}. Got: {len(output)}")


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type_name(dtype: DataType) -> str:
    return f"DT_{dtype.name.upper()}"
