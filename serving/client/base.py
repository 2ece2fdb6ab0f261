"""The base of both clients: batching, padding, deadlines, retries, waiting."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from serving.client.answers import Prediction, predictions
from serving.client.errors import DeadlineExceeded, ServerError, Unreachable
from serving.client.examples import Features, features_of
from serving.client.messages import Metadata, Request, VersionState, as_array
from serving.client.retries import FIRST_PAUSE, Deadline, call
from serving.client.sequences import InputError, check_sequences, check_texts, pad, plan
from serving.client.targets import Target
from serving.runtime.model import DEFAULT_SIGNATURE, Array, Signature

PADDED_SIGNATURE = "serving_padded"
_BAD_REQUEST = 400


class Client(ABC):
    """Asks one model of one server. It may be used from several threads at once.

    Args:
        target: Where the server listens.
        model_name: The model's name on the server.
        version: The version to ask; None for the newest.
        label: The label to ask by instead, such as `"stable"`.
        timeout: Seconds that a call may take, all tries together.
        retries: How often a request is sent again after a lost connection or "unavailable".
        batch_size: The most sequences in one request.
        in_flight: The most requests of one call that wait for their answers at the same time.

    Raises:
        ValueError: Both `version` and `label` are given, or a number is not positive.
    """

    def __init__(
        self,
        target: Target,
        model_name: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 10.0,
        retries: int = 2,
        batch_size: int = 64,
        in_flight: int = 4,
    ) -> None:
        if version is not None and label is not None:
            raise ValueError(f"got version {version} and label {label!r}; a label is a name for a version, give one")
        if min(timeout, batch_size, in_flight) <= 0 or retries < 0:
            raise ValueError(
                f"timeout {timeout}, batch_size {batch_size} and in_flight {in_flight} must be positive, "
                f"retries {retries} must not be negative"
            )
        self.model_name = model_name
        self.version = version
        self.label = label
        self.timeout = timeout
        self._target = target
        self._retries = retries
        self._batch_size = batch_size
        self._in_flight = in_flight

    def predict(
        self, sequences: Sequence[Any], *, timeout: float | None = None, allow_non_finite: bool = False
    ) -> list[Prediction]:
        """Answers for sequences of any lengths, or for texts.

        They are sorted by length and cut into requests of `batch_size`, so that little is padded.

        Args:
            sequences: One array (steps, channels) for each, or one text for each.
            timeout: Seconds for all requests together; the client's if None.
            allow_non_finite: Whether NaN and infinities may be sent; the model answers them with class -1.

        Returns:
            One prediction for each sequence, in the order given.

        Raises:
            InputError: A sequence is not what a model takes; nothing was sent.
            ServerError: The server refused.
            Unreachable: No answer came, or not all in time (`DeadlineExceeded`).
        """
        deadline = Deadline(self.timeout if timeout is None else timeout)
        texts = len(sequences) > 0 and isinstance(sequences[0], str)
        checked: list[Any] = (
            check_texts(sequences) if texts else check_sequences(sequences, allow_non_finite=allow_non_finite)
        )
        requests = plan([len(sequence) for sequence in checked], self._batch_size)

        def ask(rows: list[int]) -> list[Prediction]:
            batch = [checked[row] for row in rows]
            signature_name, inputs = _inputs(batch)
            outputs = self._ask(self.prepare(inputs, signature_name), deadline)
            return predictions(outputs, [None if texts else len(sequence) for sequence in batch])

        # Only a refused request costs a second one, for the signature: a right one is not checked twice.
        try:
            replies = list(self._in_parallel(ask, requests))
        except ServerError as error:
            if error.status == _BAD_REQUEST:
                self._explain(checked, deadline, error)
            raise
        # Requests are grouped by length, and answers come back in the order of the call.
        answers: dict[int, Prediction] = {}
        for rows, found in zip(requests, replies, strict=True):
            answers.update(zip(rows, found, strict=True))
        return [answers[row] for row in range(len(checked))]

    def _explain(self, sequences: Sequence[Any], deadline: Deadline, refusal: ServerError) -> None:
        """Raise where the sequences are not what the model takes: the server only says which operation failed.

        Raises:
            InputError: They are not; the message says what they are, and what the model takes.
        """
        try:
            signature = self.metadata(timeout=max(deadline.left(), 0.1)).signatures[DEFAULT_SIGNATURE]
        except (ServerError, Unreachable, KeyError):
            return  # the first error says more than one about the question why
        if problem := mismatch(sequences, signature):
            raise InputError(f"{self.model_name}: {problem}") from refusal

    def _in_parallel(self, ask: Any, requests: list[list[int]]) -> Iterable[list[Prediction]]:
        if len(requests) == 1:
            return [ask(requests[0])]
        with ThreadPoolExecutor(min(self._in_flight, len(requests))) as pool:
            futures = [pool.submit(ask, rows) for rows in requests]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what is not sent yet would be in vain
                raise

    def raw(
        self,
        inputs: Mapping[str, Any],
        signature_name: str = DEFAULT_SIGNATURE,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> dict[str, Array]:
        """Run one signature on arrays.

        Args:
            inputs: An array for each input, of the signature's type; texts as strings or bytes.
            signature_name: Which.
            version: The version to ask, instead of the client's.
            timeout: Seconds; the client's if None.

        Returns:
            An array for each output; strings as an object array of bytes. REST carries no types: there, numbers with
            a point come as float32 and others as int64.

        Raises:
            ServerError: The server refused.
            Unreachable: No answer came.
        """
        request = self.prepare(inputs, signature_name, version=version)
        return self._ask(request, Deadline(self.timeout if timeout is None else timeout))

    def classify(
        self, examples: Sequence[Any], signature_name: str = "classify", *, timeout: float | None = None
    ) -> list[list[tuple[str, float]]]:
        """The classes of examples, each with its score.

        Args:
            examples: Mappings from features to values; or sequences (steps, channels) or texts, for what `zoo export`
                writes.
            signature_name: Which signature.
            timeout: Seconds; the client's if None.

        Returns:
            For each example, its pairs of label and score, in the model's order.

        Raises:
            InputError: An example holds what is neither numbers nor text; nothing was sent.
            ServerError: The server refused.
            Unreachable: No answer came.
        """
        request = self._prepare_examples("classify", _features(examples), signature_name)
        return self._classes(self.send(request, timeout=timeout))

    def regress(
        self, examples: Sequence[Any], signature_name: str = "regress", *, timeout: float | None = None
    ) -> list[float]:
        """One number for each example; arguments and errors are those of `classify`."""
        request = self._prepare_examples("regress", _features(examples), signature_name)
        return self._values(self.send(request, timeout=timeout))

    def send(self, request: Request, *, timeout: float | None = None) -> bytes:
        """Send an encoded request, and again after failures that may pass.

        Returns:
            The encoded answer.

        Raises:
            ServerError: The server refused.
            Unreachable: No answer came.
        """
        deadline = Deadline(self.timeout if timeout is None else timeout)
        return call(lambda seconds: self._once(request, seconds), deadline, self._retries)

    def wait_until_ready(self, timeout: float) -> None:
        """Return as soon as a version is available.

        Raises:
            Unreachable: None was within `timeout` seconds.
        """
        deadline = Deadline(timeout)
        reason = "there was no time to ask"
        while (left := deadline.left()) > 0:
            try:
                states = self.status(timeout=min(left, self.timeout))
                if any(state.state == "AVAILABLE" for state in states):
                    return
                reason = f"its versions are {', '.join(f'{state.version}: {state.state}' for state in states)}"
            except (ServerError, Unreachable) as error:
                reason = str(error)
            # Pauses stay short: a local server is ready within a second or two.
            time.sleep(max(0.0, min(FIRST_PAUSE, deadline.left())))
        raise DeadlineExceeded(f"{self.model_name} was not ready within {timeout:g} s: {reason}")

    def _ask(self, request: Request, deadline: Deadline) -> dict[str, Array]:
        return self._outputs(call(lambda seconds: self._once(request, seconds), deadline, self._retries), request)

    @abstractmethod
    def prepare(
        self, inputs: Mapping[str, Any], signature_name: str = DEFAULT_SIGNATURE, *, version: int | None = None
    ) -> Request:
        """Encode a predict request, to be sent by `send`; arguments as those of `raw`."""

    @abstractmethod
    def status(self, *, timeout: float | None = None) -> list[VersionState]:
        """The state of every version that the server knows, the newest first.

        Raises:
            ServerError: The server does not know the model.
            Unreachable: No answer came.
        """

    @abstractmethod
    def metadata(self, *, version: int | None = None, timeout: float | None = None) -> Metadata:
        """The version that answers, and its signatures.

        Raises:
            ServerError: The server does not know the model.
            Unreachable: No answer came.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    @abstractmethod
    def _once(self, request: Request, seconds: float) -> bytes: ...

    @abstractmethod
    def _outputs(self, reply: bytes, request: Request) -> dict[str, Array]: ...

    @abstractmethod
    def _prepare_examples(self, verb: str, examples: list[Features], signature_name: str) -> Request: ...

    @abstractmethod
    def _classes(self, reply: bytes) -> list[list[tuple[str, float]]]: ...

    @abstractmethod
    def _values(self, reply: bytes) -> list[float]: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def mismatch(sequences: Sequence[Any], signature: Signature) -> str | None:
    """What is wrong with checked sequences or texts for a model with this signature, or `None`."""
    texts = isinstance(sequences[0], str)
    if "features" in signature.inputs and texts:
        return "these are texts; the model takes sequences of numbers, (steps, channels)"
    if "text" in signature.inputs and not texts:
        return "these are numbers; the model takes texts"
    shape = signature.inputs["features"].shape if "features" in signature.inputs else None
    channels = shape[-1] if shape else None
    if texts or channels is None:
        return None
    wrong = (index for index, sequence in enumerate(sequences) if sequence.shape[1] != channels)
    index = next(wrong, None)
    if index is None:
        return None
    return f"step 0 of sequence {index} has {sequences[index].shape[1]} values; the model takes {channels}"


def _features(examples: Sequence[Any]) -> list[Features]:
    if len(examples) == 0:
        raise InputError("got no example; give at least one")
    return [features_of(example) for example in examples]


def _inputs(batch: list[Any]) -> tuple[str, dict[str, Array]]:
    if isinstance(batch[0], str):
        return DEFAULT_SIGNATURE, {"text": as_array(batch)}
    features, lengths = pad(batch)
    if (lengths == lengths[0]).all():
        return DEFAULT_SIGNATURE, {"features": features}
    return PADDED_SIGNATURE, {"features": features, "lengths": lengths}
