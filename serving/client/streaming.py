"""A sequence that arrives in pieces: the state between them is kept here, in the caller's process."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serving.client.answers import Prediction, predictions
from serving.client.base import Client, mismatch
from serving.client.errors import ServerError, VersionGone
from serving.client.messages import Metadata, as_array
from serving.client.sequences import InputError, check_sequences, check_texts
from serving.runtime.model import Array, Signature, TensorSpec

STREAM_SIGNATURE = "stream_step"
_DATA = ("features", "text")
_ABOUT = "__about__"
_NOT_FOUND = 404


class StreamingSession:
    """Sends a sequence chunk by chunk, with the model's state as of the last chunk.

    The states are the inputs of the model's `stream_step` signature other than `features` or `text`: zeros at the
    beginning, then what the server gave back. The server keeps nothing, so a chunk that was lost on the way is sent
    again with the old state, and an error leaves the session as it was before the chunk.

    A state means nothing to another version, so the session keeps asking the one that it began with. One session
    belongs to one caller; for streams in parallel make more, or give `batch`.

    Args:
        client: By REST or by gRPC.
        batch: How many streams go forward together, in step.
        on_swap: What happens once the version of the session is no longer served: `"error"` raises `VersionGone`;
            `"restart"` starts again at zeros with the version that is served now, and counts `restarts`.
        signature_name: The signature to ask.

    Attributes:
        version: The version that answers.
        restarts: How often the session started again because its version had gone.

    Raises:
        ServerError: The server does not know the model, or the model has no such signature.
        Unreachable: No answer came.
    """

    def __init__(
        self,
        client: Client,
        *,
        batch: int = 1,
        on_swap: Literal["error", "restart"] = "error",
        signature_name: str = STREAM_SIGNATURE,
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}, expected at least 1")
        self._client = client
        self._batch = batch
        self._restarting = on_swap == "restart"
        self._signature_name = signature_name
        self.restarts = 0
        self.version = -1
        self._state: dict[str, Array] = {}
        self._data = ""
        self._asked = Signature()
        self.reset()

    def reset(self) -> None:
        """Start again at zeros, with the version that the client's name, version or label means now.

        Raises:
            ServerError: The server does not know the model, or the model has no such signature.
            Unreachable: No answer came.
        """
        metadata = self._client.metadata()
        signature = self._signature(metadata)
        self._state = {name: np.zeros(*self._zeros(name, spec)) for name, spec in self._specs(signature).items()}
        self._data = next(name for name in signature.inputs if name in _DATA)
        self._asked = signature
        self.version = metadata.version

    def step(self, chunk: Any, *, timeout: float | None = None) -> Prediction:
        """The answer as of the end of this chunk.

        Args:
            chunk: An array (steps, channels) of at least one step; or a text.
            timeout: Seconds; the client's if None.

        Returns:
            The answer; from a model that labels steps, `steps` holds those of this chunk.

        Raises:
            InputError: The chunk is not what a model takes.
            ServerError: The server refused.
            Unreachable: No answer came; the chunk may be sent again.
            VersionGone: The version that the session began with is no longer served.
        """
        if self._batch != 1:
            raise InputError(f"this session has {self._batch} streams; use step_all, with a chunk for each")
        return self.step_all([chunk], timeout=timeout)[0]

    def step_all(self, chunks: Sequence[Any], *, timeout: float | None = None) -> list[Prediction]:
        """As `step`, for a session of several streams: one chunk for each, all of as many steps."""
        inputs, lengths = self._inputs(chunks)
        while True:
            try:
                outputs = self._client.raw(
                    {self._data: inputs, **self._state}, self._signature_name, version=self.version, timeout=timeout
                )
                break
            except ServerError as error:
                if error.status != _NOT_FOUND:
                    raise
                if not self._restarting:
                    raise VersionGone(
                        f"version {self.version} of {self._client.model_name}, with which this session began, is no "
                        f"longer served ({error.message}); its state means nothing to another version: reset() starts "
                        "again with the one that is served now"
                    ) from error
                gone = self.version
                self.reset()
                if self.version == gone:
                    raise
                self.restarts += 1
        missing = set(self._state) - set(outputs)
        if missing:
            raise ServerError(200, f"no new state of {sorted(missing)}; outputs are {sorted(outputs)}")
        answers = predictions({name: outputs[name] for name in set(outputs) - set(self._state)}, lengths)
        self._state = {name: outputs[name].astype(old.dtype) for name, old in self._state.items()}
        return answers

    @property
    def takes_text(self) -> bool:
        """Whether chunks are texts."""
        return self._data == "text"

    @property
    def state(self) -> dict[str, Array]:
        """Copies of the state arrays by name, each (batch, ...)."""
        return {name: array.copy() for name, array in self._state.items()}

    def restore(self, state: Mapping[str, Any], version: int) -> None:
        """Continue from a state that this or another session had.

        Args:
            state: As `state` gave it.
            version: The version that computed it.

        Raises:
            InputError: Names or shapes are not those of the version's states.
            VersionGone: The version is no longer served.
            ServerError: The server refused.
            Unreachable: No answer came.
        """
        try:
            signature = self._signature(self._client.metadata(version=version))
        except ServerError as error:
            if error.status != _NOT_FOUND:
                raise
            raise VersionGone(
                f"version {version}, which computed this state, is not served: {error.message}"
            ) from error
        expected = {name: self._zeros(name, spec) for name, spec in self._specs(signature).items()}
        given = {name: np.asarray(array) for name, array in state.items()}
        if {name: array.shape for name, array in given.items()} != {
            name: shape for name, (shape, _) in expected.items()
        }:
            raise InputError(
                f"the state has { {name: array.shape for name, array in given.items()} }, version {version} takes "
                f"{ {name: shape for name, (shape, _) in expected.items()} }"
            )
        self._state = {name: given[name].astype(dtype) for name, (_, dtype) in expected.items()}
        self._data = next(name for name in signature.inputs if name in _DATA)
        self._asked = signature
        self.version = version

    def save(self, path: str | Path) -> None:
        """Write the state and its version to an `.npz` file."""
        about = np.array([self._client.model_name, str(self.version)])
        with Path(path).open("wb") as file:
            np.savez(file, **{_ABOUT: about}, **self._state)  # type: ignore[arg-type]  # a state cannot be called like an option

    def load(self, path: str | Path) -> None:
        """Continue from a file that `save` wrote.

        Raises:
            InputError: The file is none, or is of another model.
            VersionGone: The version that computed the state is no longer served.
            OSError: The file cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                state = {name: arrays[name] for name in arrays.files}
            model_name, version = state.pop(_ABOUT).tolist()
        except (ValueError, KeyError, EOFError) as error:
            raise InputError(f"{path} was not saved by a streaming session: {error}") from error
        if model_name != self._client.model_name:
            raise InputError(f"{path} is a state of {model_name!r}, this session asks {self._client.model_name!r}")
        self.restore(state, int(version))

    def _signature(self, metadata: Metadata) -> Signature:
        signature = metadata.signatures.get(self._signature_name)
        if signature is None or not set(_DATA) & set(signature.inputs):
            known = ", ".join(sorted(metadata.signatures))
            raise ServerError(
                200,
                f"version {metadata.version} of {self._client.model_name} has no signature {self._signature_name} with "
                f"features or text, so it cannot be asked chunk by chunk (it has: {known})",
            )
        return signature

    def _specs(self, signature: Signature) -> dict[str, TensorSpec]:
        return {name: spec for name, spec in signature.inputs.items() if name not in _DATA}

    def _zeros(self, name: str, spec: TensorSpec) -> tuple[tuple[int, ...], Any]:
        sizes = None if spec.shape is None else [size for size in spec.shape[1:] if size is not None]
        if sizes is None or spec.shape is None or len(sizes) != len(spec.shape) - 1 or spec.dtype.numpy is None:
            raise ServerError(200, f"the state {name} has no shape that a client could fill with zeros: {spec}")
        return (self._batch, *sizes), spec.dtype.numpy

    def _inputs(self, chunks: Sequence[Any]) -> tuple[Array, list[int | None]]:
        if len(chunks) != self._batch:
            raise InputError(f"got {len(chunks)} chunks for {self._batch} streams; give one for each")
        if self.takes_text:
            return as_array(check_texts(chunks)), [None] * len(chunks)
        checked = check_sequences(chunks)
        if problem := mismatch(checked, self._asked):
            raise InputError(f"{self._client.model_name}: {problem}")
        if len({len(chunk) for chunk in checked}) != 1:
            raise InputError(
                f"chunks have {[len(chunk) for chunk in checked]} steps; streams that go in step have as many"
            )
        return np.stack(checked), [len(chunk) for chunk in checked]
