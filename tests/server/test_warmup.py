"""Warm-up: what a version's recorded requests run, and which files fail its load."""

import logging
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from serving.batching.batched_model import BatchedModel
from serving.calls.tensor_protos import from_array
from serving.errors import Code, ServingError
from serving.metrics import Metrics
from serving.models import loading, warmup
from serving.models.loading import ModelLoader
from serving.models.records import masked_crc32c
from serving.models.warmup import WARMUP_FILE, warm_up
from serving.options import ServerOptions
from serving.protos import ServingApiMissing, apis
from serving.runtime.data_types import DataType, data_type
from serving.runtime.model import Signature, TensorSpec

FLOAT, STRING = data_type(1), data_type(7)


def signature(source: str, dtype: DataType, output: str) -> Signature:
    return Signature({source: TensorSpec("i:0", dtype, None)}, {output: TensorSpec("o:0", FLOAT, None)})


class FakeModel:
    """Remembers what ran."""

    signature_def_map: ClassVar[dict[str, Any]] = {}
    signatures: ClassVar[dict[str, Signature]] = {
        "serving_default": signature("features", FLOAT, "y"),
        "classify": signature("inputs", STRING, "scores"),
        "regress": signature("inputs", STRING, "outputs"),
    }

    def __init__(self) -> None:
        self.runs: list[tuple[str, int]] = []
        self.is_closed = False

    def run(self, name: str, feeds: Any, wanted: Sequence[str] | None = None, *, timeout_in_ms: int = 0) -> Any:
        (rows,) = feeds.values()
        self.runs.append((name, len(rows)))
        if len(rows) == 13:
            raise ServingError(Code.INTERNAL, "XLA compilation disabled")
        shape = (len(rows), 2) if name == "classify" else (len(rows),)
        return {"y": rows, "scores": np.zeros(shape, "float32"), "outputs": np.zeros(shape, "float32")}

    def close(self) -> None:
        self.is_closed = True


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def log(kind: str, rows: int = 1) -> Any:
    message = apis("prediction_log_pb2").PredictionLog()
    request = getattr(message, f"{kind}_log").request
    if kind == "predict":
        request.model_spec.name = "m"
        from_array(np.zeros((rows, 2, 3), "float32"), as_content=False, into=request.inputs["features"])
        return message
    for _ in range(rows):
        request.input.example_list.examples.add()
    if kind == "multi_inference":
        for name in ("classify", "regress"):
            task = request.tasks.add(method_name=f"tensorflow/serving/{name}")
            task.model_spec.name, task.model_spec.signature_name = "m", name
    else:
        request.model_spec.name, request.model_spec.signature_name = "m", kind.replace("_log", "")
    return message


def write(folder: Path, *records: bytes) -> Path:
    path = folder / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records))
    return folder


@pytest.fixture
def fake() -> FakeModel:
    return FakeModel()


def test_every_kind_is_played(tmp_path: Path, fake: FakeModel) -> None:
    logs = [log("predict", 3), log("classify", 2), log("regress"), log("multi_inference", 4)]
    metrics = Metrics()
    assert warm_up(fake, write(tmp_path, *(record(each.SerializeToString()) for each in logs)), 1, metrics) == 4
    once = [("serving_default", 3), ("classify", 2), ("regress", 1), ("classify", 4), ("regress", 4)]
    assert fake.runs == once
    assert f'model_warmup_latency_count{{model_path="{tmp_path}",status="OK"}} 1' in metrics.text()
    warm_up(fake, tmp_path, iterations=2)
    assert fake.runs[5:9] == [once[0], once[0], once[1], once[1]]


def test_a_version_without_requests(tmp_path: Path, fake: FakeModel) -> None:
    assert warm_up(fake, tmp_path) == 0


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (
            lambda: record(log("predict", 13).SerializeToString()),
            Code.INTERNAL,
            "XLA compilation disabled .*record 1 of",
        ),
        (
            lambda: record(log("session_run", 0).SerializeToString()),
            Code.UNIMPLEMENTED,
            "Unsupported log_type for warmup",
        ),
        (lambda: record(b"\xff\xff"), Code.INVALID_ARGUMENT, "Failed to parse warmup record: record 1 of"),
        (lambda: record(b"")[:-1], Code.DATA_LOSS, "Please verify your warmup data is in TFRecord format"),
        (lambda: b"not a record file", Code.DATA_LOSS, "Please verify your warmup data is in TFRecord format"),
        (
            lambda: 1001 * record(log("predict").SerializeToString()),
            Code.INVALID_ARGUMENT,
            r"Number of warmup records exceeds the maximum \(1000\) at",
        ),
    ],
)
def test_files_that_fail_the_load(tmp_path: Path, fake: FakeModel, content: Any, code: Code, words: str) -> None:
    metrics = Metrics()
    with pytest.raises(ServingError, match=words) as caught:
        warm_up(fake, write(tmp_path, content()), 1, metrics)
    assert caught.value.code is code
    assert f'status="{code.name}: ' in metrics.text()


@pytest.mark.parametrize("what", ["messages", "checksums"])
def test_without_the_extra_warm_up_is_left_out(
    tmp_path: Path, fake: FakeModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    def missing(name: str) -> Any:
        raise ServingApiMissing("pip install 'sequence-zoo[serve]'")

    if what == "messages":
        monkeypatch.setattr(warmup, "apis", missing)
    else:
        monkeypatch.setitem(sys.modules, "google_crc32c", None)  # importing it now raises
    with caplog.at_level(logging.INFO, "serving"):
        assert warm_up(fake, write(tmp_path, b"")) == 0
    assert caplog.text.count("sequence-zoo[serve]") == 1


def test_the_loader_warms_up_what_it_serves(tmp_path: Path, fake: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load", lambda path, options: fake)
    write(tmp_path, record(log("predict", 3).SerializeToString()))
    (tmp_path / "params").write_text("max_batch_size { value: 8 } allowed_batch_sizes: 8")
    batching = {"enable_batching": True, "batching_parameters_file": tmp_path / "params"}
    loader = ModelLoader(ServerOptions(**batching), Metrics())
    model = loader(tmp_path)
    # By the way that requests take, so in the sizes that they will have.
    assert fake.runs == [("serving_default", 8)]
    assert isinstance(model, BatchedModel)
    loader.close()
    per_model = ModelLoader(ServerOptions(**batching, enable_per_model_batching_parameters=True), Metrics())
    assert per_model(tmp_path) is fake
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 4 }")
    assert isinstance(per_model(tmp_path), BatchedModel)
    per_model.close()
    assert ModelLoader(ServerOptions(enable_model_warmup=False), Metrics())(tmp_path) is fake
    assert [rows for _, rows in fake.runs] == [8, 3, 3]
    write(tmp_path, record(log("predict", 13).SerializeToString()))
    with pytest.raises(ServingError, match="XLA"):
        ModelLoader(ServerOptions(), Metrics())(tmp_path)
    assert fake.is_closed


def test_a_batching_file_needs_batching(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="set without setting --enable_batching to true"):
        ModelLoader(ServerOptions(batching_parameters_file=tmp_path / "params"), Metrics())
