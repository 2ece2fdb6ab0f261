"""The interface of all runtimes: signatures, a run, and the checks before it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serving.errors import Code, ServingError, invalid
from serving.runtime.data_types import DataType, data_type

Array = npt.NDArray[Any]
DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes:
        name: The tensor's name in the graph, `operation:index`.
        dtype: Its data type.
        shape: Its dimensions, None where free; None for an unknown rank.
    """

    name: str
    dtype: DataType
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """The named inputs and outputs of one entry point."""

    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    outputs: Mapping[str, TensorSpec] = field(default_factory=dict)


class Model(Protocol):
    """One loaded version. `run` may be called from many threads at once; it does not hold Python's lock."""

    @property
    def signatures(self) -> Mapping[str, Signature]: ...

    @property
    def signature_def_map(self) -> Mapping[str, Any]:
        """The `SignatureDef` message of every signature."""

    def run(
        self,
        signature_name: str,
        feeds: Mapping[str, Array],
        output_filter: Sequence[str] | None = None,
        *,
        timeout_in_ms: int = 0,
    ) -> dict[str, Array]:
        """Run one signature.

        Args:
            signature_name: Which.
            feeds: An array for every input; strings as an object array of bytes.
            output_filter: The requested outputs; None for all.
            timeout_in_ms: How long the run may take; 0 for no limit.

        Returns:
            An array for every requested output.

        Raises:
            ServingError: The names do not fit the signature, or TensorFlow refused; its code is TensorFlow's.
        """

    def close(self) -> None:
        """Free the model. No run may be in progress; closing twice does nothing."""


class Wrapped:
    """A model that passes everything on to the model that it wraps; subclasses add to `run`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._model.signatures

    @property
    def signature_def_map(self) -> Mapping[str, Any]:
        return self._model.signature_def_map

    def close(self) -> None:
        self._model.close()


def signature_defs(meta_graph: Any) -> dict[str, Any]:
    """Copies of the `SignatureDef` messages of a `MetaGraphDef`; the messages themselves would keep its graph alive."""
    return {
        name: type(message).FromString(message.SerializeToString())
        for name, message in meta_graph.signature_def.items()
    }


def read_signatures(definitions: Mapping[str, Any]) -> dict[str, Signature]:
    """The signatures in `MetaGraphDef.signature_def`, as plain data."""
    return {
        name: Signature(
            {alias: _spec(info) for alias, info in sorted(definition.inputs.items())},
            {alias: _spec(info) for alias, info in sorted(definition.outputs.items())},
        )
        for name, definition in definitions.items()
    }


def _spec(info: Any) -> TensorSpec:
    shape = info.tensor_shape
    dimensions = None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    return TensorSpec(info.name, data_type(info.dtype), dimensions)


def resolve(
    signatures: Mapping[str, Signature],
    signature_name: str,
    feeds: Mapping[str, Array],
    output_filter: Sequence[str] | None,
) -> tuple[dict[str, Array], dict[str, TensorSpec]]:
    """Check a call against the signature it names.

    Returns:
        The feeds with the type and memory order that the graph takes, and the requested outputs.

    Raises:
        ServingError: FAILED_PRECONDITION for an unknown signature; INVALID_ARGUMENT where names or types differ.
    """
    signature = signatures.get(signature_name)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{signature_name}" not found.')
    # All inputs or an error: the inputs of a signature are never optional.
    sent, required = set(feeds), set(signature.inputs)
    if sent != required:
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(required)} len({{{_join(sent)}}}) != "
            f"len({{{_join(required)}}}). Sent extra: {{{_join(sent - required)}}}. "
            f"Missing but required: {{{_join(required - sent)}}}."
        )
    wanted = list(signature.outputs) if output_filter is None else list(output_filter)
    for alias in wanted:
        if alias not in signature.outputs:
            known = _join(set(signature.outputs))
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set {{{known}}}."
            )
    if len(set(wanted)) != len(wanted):
        raise invalid(f"duplicate output tensor alias in {wanted}; name each output once")
    checked = {alias: _feed(alias, value, signature.inputs[alias]) for alias, value in feeds.items()}
    return checked, {alias: signature.outputs[alias] for alias in wanted}


@contextmanager
def naming_wrong_shapes(inputs: Mapping[str, TensorSpec], feeds: Mapping[str, Array]) -> Iterator[None]:
    """Name the feeds whose shapes differ from the signature when the block fails.

    TensorFlow names the operation that failed, which means nothing to who sent the request. A graph may take more than
    its signature says, so nothing is refused that TensorFlow takes.

    Raises:
        ServingError: The block raised it.
    """
    try:
        yield
    except ServingError as error:
        wrong = [
            f"input {alias!r} has shape {_shown(array.shape)}, the signature takes {_shown(inputs[alias].shape)}"
            for alias, array in feeds.items()
            if error.code is Code.INVALID_ARGUMENT and not _fits(array.shape, inputs[alias].shape)
        ]
        if not wrong:
            raise
        raise ServingError(error.code, f"{'; '.join(wrong)} ({error.message})") from error


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...] | None) -> bool:
    if declared is None:
        return True
    return len(shape) == len(declared) and all(
        size in (None, given) for given, size in zip(shape, declared, strict=True)
    )


def _shown(shape: Sequence[int | None] | None) -> str:
    """A shape in words.

    Example:
    >>> _shown((None, None, 12))
    '(any, any, 12)'
    """
    return "any" if shape is None else f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _join(names: set[str]) -> str:
    return ",".join(sorted(names))


def _feed(alias: str, value: Array, spec: TensorSpec) -> Array:
    if spec.dtype.numpy is None:
        raise ServingError(
            Code.UNIMPLEMENTED, f"input {alias!r} is of type {spec.dtype.name}, which cannot be fed here"
        )
    if value.dtype != spec.dtype.numpy:
        raise invalid(f"input {alias!r} must be of type {spec.dtype.name} but got an array of {value.dtype}")
    # Unlike ascontiguousarray, this keeps a scalar a scalar.
    return np.require(value, requirements="C")
