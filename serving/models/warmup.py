"""Warm-up: runs the requests that come with a version before it is served."""

import logging
import time
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from serving.calls.messages import replay
from serving.errors import Code, ServingError, invalid
from serving.metrics import Metrics
from serving.models.records import RecordError, crc32c_library, read_records
from serving.protos import ServingApiMissing, apis
from serving.runtime.model import Model

logger = logging.getLogger(__name__)

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000


def warm_up(model: Model, folder: Path, iterations: int = 1, metrics: Metrics | None = None) -> int:
    """Run the warm-up requests of a version.

    Args:
        model: The loaded version.
        folder: Its folder; the requests are `PredictionLog` messages in `assets.extra/tf_serving_warmup_requests`.
        iterations: How often each request is run.
        metrics: Where the time is counted.

    Returns:
        How many requests there were.

    Raises:
        ServingError: A request failed, the file is damaged, or it holds more than 1000 requests.
    """
    path = folder / WARMUP_FILE
    if not path.is_file():
        return 0
    try:
        prediction_log = apis("prediction_log_pb2").PredictionLog
        crc32c_library()
    except ServingApiMissing as error:
        logger.info("not playing the warm-up requests in %s: %s", path, error)
        return 0
    started = time.monotonic()
    status = "OK"
    try:
        number = _play_all(model, path, iterations, prediction_log)
    except ServingError as error:
        status = error.described
        raise
    finally:
        microseconds = (time.monotonic() - started) * 1e6
        if metrics is not None:
            metrics.observe(
                ":tensorflow:serving:model_warmup_latency", microseconds, model_path=str(folder), status=status
            )
    logger.info("played %d warm-up requests of %s in %.2f s", number, folder, microseconds / 1e6)
    return number


def _play_all(model: Model, path: Path, iterations: int, prediction_log: Any) -> int:
    number = 0
    try:
        for number, record in enumerate(read_records(path), start=1):
            if number > MAX_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
            log = _parsed(record, number, path, prediction_log)
            for _ in range(iterations):
                _play(model, log, number, path)
    except RecordError as error:
        raise ServingError(Code.DATA_LOSS, f"{error}. Please verify your warmup data is in TFRecord format.") from error
    return number


def _parsed(record: bytes, number: int, path: Path, prediction_log: Any) -> Any:
    try:
        return prediction_log.FromString(record)
    except DecodeError as error:
        raise invalid(f"Failed to parse warmup record: record {number} of {path} is not a PredictionLog") from error


def _play(model: Model, log: Any, number: int, path: Path) -> None:
    try:
        replay(model, log)
    except ServingError as error:
        raise ServingError(error.code, f"{error.message} (warm-up record {number} of {path})") from error
