"""Answers the request messages of TensorFlow Serving with one model, for the APIs and for warm-up."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving.calls import examples as example_calls
from serving.calls.examples import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from serving.calls.tensor_protos import from_array, to_array
from serving.errors import Code, ServingError, invalid
from serving.protos import apis
from serving.runtime.model import DEFAULT_SIGNATURE, Array, Model, Signature, resolve


def predict(
    model: Model,
    request: Any,
    timeout_in_ms: int = 0,
    *,
    as_tensor_content: bool = False,
    check_method_name: bool = False,
) -> Any:
    """Answer a `PredictRequest`.

    Args:
        model: What runs it.
        request: The message; its `model_spec` is read only for the signature.
        timeout_in_ms: How long the run may take; 0 for no limit.
        as_tensor_content: Whether the answer has its numbers as bytes.
        check_method_name: Whether the signature must be marked as one of the three that can be asked so.

    Returns:
        A `PredictResponse`, in which name and version of the model are still to be filled in.

    Raises:
        ServingError: With TensorFlow Serving's code and message.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    if check_method_name:
        check_any_method(model.signature_def_map[name].method_name)
    # Names before tensors: reading a tensor costs memory, and a wrong name needs none.
    _check_names(name, signature, request.inputs)
    feeds = {alias: _read(alias, tensor) for alias, tensor in request.inputs.items()}
    outputs = model.run(name, feeds, _filter(request.output_filter, signature), timeout_in_ms=timeout_in_ms)
    response = apis("predict_pb2").PredictResponse()
    response.model_spec.signature_name = name
    for alias, array in outputs.items():
        from_array(array, as_content=as_tensor_content, into=response.outputs[alias])
    return response


def check_any_method(method: str) -> None:
    """Refuse a signature whose method name is none of the three that predict accepts."""
    known = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if method not in known:
        raise ServingError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(known)}}}. Was: {method}",
        )


def _check_names(name: str, signature: Signature, inputs: Mapping[str, Any]) -> None:
    if len(inputs) != len(signature.inputs):
        # It looks at the names first, and they differ.
        resolve({name: signature}, name, inputs, None)
    for alias in sorted(inputs):
        if alias not in signature.inputs:
            raise invalid(
                f"input tensor alias not found in signature: {alias}. "
                f"Inputs expected to be in the set {{{','.join(sorted(signature.inputs))}}}."
            )


def _read(alias: str, tensor: Any) -> Array:
    try:
        return to_array(tensor)
    except ServingError as error:
        raise ServingError(error.code, f"tensor parsing error: {alias} ({error.message})") from error


def _filter(wanted: Sequence[str], signature: Signature) -> list[str] | None:
    seen: set[str] = set()
    for alias in wanted:
        if alias in seen and alias in signature.outputs:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return list(wanted) or None


def classify(model: Model, request: Any, timeout_in_ms: int = 0, *, check_method_name: bool = False) -> Any:
    """Answer a `ClassificationRequest`; see `predict`."""
    response = apis("classification_pb2").ClassificationResponse()
    name = request.model_spec.signature_name
    classified = example_calls.classify(
        model, name, _examples(request.input), timeout_in_ms, check_method_name=check_method_name
    )
    _write_classes(classified, response.result)
    response.model_spec.signature_name = name or DEFAULT_SIGNATURE
    return response


def regress(model: Model, request: Any, timeout_in_ms: int = 0, *, check_method_name: bool = False) -> Any:
    """Answer a `RegressionRequest`; see `predict`."""
    response = apis("regression_pb2").RegressionResponse()
    name = request.model_spec.signature_name
    values = example_calls.regress(
        model, name, _examples(request.input), timeout_in_ms, check_method_name=check_method_name
    )
    _write_values(values, response.result)
    response.model_spec.signature_name = name or DEFAULT_SIGNATURE
    return response


def multi_inference(model: Model, request: Any, timeout_in_ms: int = 0, *, check_method_name: bool = False) -> Any:
    """Answer a `MultiInferenceRequest` with one run for each task; see `predict`."""
    # All tasks are checked before the first one runs, so that a bad one costs nothing.
    names = _check_tasks(model, request.tasks)
    examples = _examples(request.input)
    response = apis("inference_pb2").MultiInferenceResponse()
    for name, task in zip(names, request.tasks, strict=True):
        result = response.results.add()
        if task.method_name == CLASSIFY_METHOD:
            classified = example_calls.classify(
                model, name, examples, timeout_in_ms, check_method_name=check_method_name
            )
            _write_classes(classified, result.classification_result)
        else:
            values = example_calls.regress(model, name, examples, timeout_in_ms, check_method_name=check_method_name)
            _write_values(values, result.regression_result)
        result.model_spec.signature_name = name
    return response


def _check_tasks(model: Model, tasks: Sequence[Any]) -> list[str]:
    """The signature of every task."""
    names: list[str] = []
    for task in tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != tasks[0].model_spec.name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in names:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        if name not in model.signatures:
            raise invalid(f"Requested signature not found in model graph: {name}")
        if task.method_name not in (CLASSIFY_METHOD, REGRESS_METHOD):
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        names.append(name)
    return names


def _examples(message: Any) -> list[bytes]:
    """The examples of an `Input`, serialized, each behind the context that all of them share."""
    if message.WhichOneof("kind") == "example_list_with_context":
        shared = message.example_list_with_context
        # Two messages one after the other are one message with the fields of both; no example has to be parsed.
        context = shared.context.SerializeToString()
        return [context + example.SerializeToString() for example in shared.examples]
    return [example.SerializeToString() for example in message.example_list.examples]


def _write_classes(classified: example_calls.Classified, result: Any) -> None:
    classes, scores = classified.filled()
    for labels, numbers in zip(classes.tolist(), scores.tolist(), strict=True):
        classifications = result.classifications.add()
        for label, score in zip(labels, numbers, strict=True):
            classifications.classes.add(label=label.decode("utf-8", "replace"), score=score)


def _write_values(values: Array, result: Any) -> None:
    for value in values.tolist():
        result.regressions.add(value=value)


_REPLAYED: dict[str, Callable[[Model, Any], Any]] = {
    "predict_log": predict,
    "classify_log": classify,
    "regress_log": regress,
    "multi_inference_log": multi_inference,
}


def replay(model: Model, log: Any) -> Any:
    """Answer the request in a `PredictionLog`; the recorded response is ignored.

    Raises:
        ServingError: The request fails, or is of a kind that cannot be replayed.
    """
    kind = log.WhichOneof("log_type")
    if kind not in _REPLAYED:
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
    return _REPLAYED[kind](model, getattr(log, kind).request)
