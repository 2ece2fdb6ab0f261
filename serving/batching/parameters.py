"""How requests are put together into batches: TensorFlow Serving's `BatchingParameters`."""

import bisect
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.config_protos import config_message, read_text_proto
from serving.errors import Code, ServingError, invalid

# The name of a file in a version's folder.
PER_MODEL_FILE = "batching_params.pbtxt"


@dataclass(frozen=True)
class BatchingParameters:
    """Names and defaults are TensorFlow Serving's.

    Attributes:
        max_batch_size: The most rows that a request may have, and a batch too unless large requests are split.
        batch_timeout_micros: How long a request waits for others to join it.
        max_enqueued_batches: How many batches may wait, for each signature; a request beyond them is refused.
        num_batch_threads: How many batches run at once.
        thread_pool_name: The name of these threads, and of their metrics.
        allowed_batch_sizes: Sizes that a batch is filled up to, ascending; empty for any size.
        enable_large_batch_splitting: Whether a request may be spread over several batches.
        max_execution_batch_size: The most rows of a batch, if requests are split; 0 for `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    @property
    def limit(self) -> int:
        """The most rows of one batch."""
        return (self.enable_large_batch_splitting and self.max_execution_batch_size) or self.max_batch_size

    def filled(self, size: int) -> int:
        """The number of rows that a batch of `size` rows is filled up to.

        Example:
        >>> BatchingParameters(max_batch_size=32, allowed_batch_sizes=(8, 32)).filled(9)
        32
        """
        if not self.allowed_batch_sizes:
            return size
        return self.allowed_batch_sizes[bisect.bisect_left(self.allowed_batch_sizes, size)]

    def __post_init__(self) -> None:
        allowed = self.allowed_batch_sizes
        if self.num_batch_threads < 1:
            raise invalid(f"num_batch_threads must be positive; was {self.num_batch_threads}")
        if self.max_batch_size < 1:
            raise invalid(f"max_batch_size must be positive; was {self.max_batch_size}")
        if self.batch_timeout_micros < 0:
            raise invalid(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")
        if self.max_enqueued_batches < 1:
            raise invalid(f"max_enqueued_batches must be positive; was {self.max_enqueued_batches}")
        if allowed and allowed[-1] != self.max_batch_size:
            raise invalid(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{allowed[-1]}; expected {self.max_batch_size}"
            )
        if any(larger <= smaller for smaller, larger in itertools.pairwise((0, *allowed))):
            raise invalid("allowed_batch_sizes entries must be monotonically increasing")
        if self.enable_large_batch_splitting and not 0 <= self.max_execution_batch_size <= self.max_batch_size:
            raise invalid(
                "When enable_large_batch_splitting is true, max_batch_size must be greater than or equal to "
                f"max_execution_batch_size; they are {self.max_batch_size} and {self.max_execution_batch_size}"
            )


def read_batching_parameters(path: Path) -> BatchingParameters:
    """The parameters in a text file.

    Raises:
        ServingError: INVALID_ARGUMENT: the file cannot be read, or says what cannot be; UNIMPLEMENTED:
            it asks for padding of sequences.
    """
    message = read_text_proto(path, config_message("BatchingParameters"))
    if message.pad_variable_length_inputs:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"{path} sets pad_variable_length_inputs, which fills up a shorter sequence with its own first value, "
            "so that a model takes the filling for data; leave it out and send sequences of one length, or "
            "serving_padded with lengths",
        )
    return BatchingParameters(**_given(message))


def per_model_parameters(folder: Path, common: BatchingParameters) -> BatchingParameters | None:
    """The parameters in a version's folder, with the threads of the common ones; None if it has no such file.

    Raises:
        ServingError: As `read_batching_parameters`.
    """
    path = folder / PER_MODEL_FILE
    if not path.is_file():
        return None
    own = read_batching_parameters(path)
    threads = {"num_batch_threads": common.num_batch_threads, "thread_pool_name": common.thread_pool_name}
    return BatchingParameters(**{**vars(own), **threads})


def _given(message: Any) -> Mapping[str, Any]:
    """The parameters in a message. As in TensorFlow Serving, `max_enqueued_batches` of 0 means 1 without splitting."""
    given: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name == "allowed_batch_sizes":
            given[field.name] = tuple(value)
        elif field.message_type is not None:
            given[field.name] = value.value
    if not given.get("enable_large_batch_splitting") and given.get("max_enqueued_batches") == 0:
        given["max_enqueued_batches"] = 1
    return given
