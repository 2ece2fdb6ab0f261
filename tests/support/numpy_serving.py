"""The real servers for REST and gRPC over models in NumPy: no SavedModel, no TensorFlow, ready in milliseconds."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from serving.errors import ServingError, invalid
from serving.grpc_server import GrpcServer
from serving.metrics import Metrics
from serving.models.versions import State, VersionStatus, listed, not_found
from serving.options import ServerOptions
from serving.protos import proto_module
from serving.rest.api import RestApi
from serving.rest.http_server import RestServer
from serving.runtime.data_types import data_type
from serving.runtime.model import Array, Signature, TensorSpec, resolve

FLOAT, INT32, STRING, INT64 = (data_type(number) for number in (1, 3, 7, 9))
Outputs = dict[str, Array]


def spec(dtype: Any, *shape: int | None) -> TensorSpec:
    return TensorSpec("x:0", dtype, shape)


@dataclass
class NumpyModel:
    """A served model whose signatures are Python functions; `calls` has what was asked."""

    functions: Mapping[str, tuple[Signature, Callable[..., Outputs]]]
    calls: list[tuple[str, dict[str, Array]]] = field(default_factory=list)

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return {name: signature for name, (signature, _) in self.functions.items()}

    @property
    def signature_def_map(self) -> Mapping[str, Any]:
        message = proto_module("tensorflow.core.protobuf.meta_graph_pb2").SignatureDef
        definitions = {}
        for name, signature in self.signatures.items():
            definitions[name] = definition = message(method_name="tensorflow/serving/predict")
            for side in ("inputs", "outputs"):
                for alias, tensor in getattr(signature, side).items():
                    info = getattr(definition, side)[alias]
                    info.name, info.dtype = tensor.name, tensor.dtype.number
                    info.tensor_shape.SetInParent()
                    for size in tensor.shape:
                        info.tensor_shape.dim.add().size = -1 if size is None else size
        return definitions

    def run(
        self,
        signature_name: str,
        feeds: Mapping[str, Array],
        output_filter: Sequence[str] | None = None,
        *,
        timeout_in_ms: int = 0,
    ) -> Outputs:
        checked, wanted = resolve(self.signatures, signature_name, feeds, output_filter)
        self.calls.append((signature_name, checked))
        answers = self.functions[signature_name][1](**checked)
        return {name: answers[name] for name in wanted}

    def close(self) -> None: ...


def classes(values: Array) -> Outputs:
    """Class b if the sum is positive, else a; (batch, ...) to the outputs of an export."""
    logits = np.stack([np.zeros_like(values), values], axis=-1).astype(np.float32)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    class_id = np.where(np.isfinite(values), (values > 0).astype(np.int64), -1)
    label = np.array([b"a", b"b", b""], object)[class_id]
    return {
        "logits": logits,
        "probabilities": (powers / powers.sum(-1, keepdims=True)).astype(np.float32),
        "class_id": class_id,
        "label": label,
    }


_CLASSES = {
    "logits": spec(FLOAT, None, 2),
    "probabilities": spec(FLOAT, None, 2),
    "class_id": spec(INT64, None),
    "label": spec(STRING, None),
}
_FEATURES = {"features": spec(FLOAT, None, None, 3)}
_PADDED = {**_FEATURES, "lengths": spec(INT32, None)}


def classifier(weight: float = 1.0) -> NumpyModel:
    """The class of the sum of a sequence, also chunk by chunk; and the sum itself."""

    def padded(features: Array, lengths: Array) -> Outputs:
        valid = np.arange(features.shape[1]) < lengths[:, None]
        return classes(weight * np.where(valid[:, :, None], features, 0).sum((1, 2), dtype=np.float32))

    def default(features: Array) -> Outputs:
        return padded(features, np.full(len(features), features.shape[1]))

    def stream(features: Array, pool_sum: Array, pool_count: Array) -> Outputs:
        total = pool_sum + features.sum(1)
        return {
            **classes(weight * total.sum(1)),
            "pool_sum": total,
            "pool_count": pool_count + np.float32(features.shape[1]),
        }

    def examples(inputs: Array) -> Array:
        example = proto_module("tensorflow.core.example.example_pb2").Example
        rows = [example.FromString(row).features.feature["features"].float_list.value for row in inputs]
        return np.array([sum(row) for row in rows], np.float32)

    def classified(inputs: Array) -> Outputs:
        scores = classes(weight * examples(inputs))["probabilities"]
        return {"classes": np.array([[b"a", b"b"]] * len(inputs), object), "scores": scores}

    states = {"pool_sum": spec(FLOAT, None, 3), "pool_count": spec(FLOAT, None)}
    serialized = {"inputs": spec(STRING, None)}
    return NumpyModel(
        {
            "serving_default": (Signature(_FEATURES, _CLASSES), default),
            "serving_padded": (Signature(_PADDED, _CLASSES), padded),
            "stream_step": (Signature({**_FEATURES, **states}, {**_CLASSES, **states}), stream),
            "classify": (
                Signature(serialized, {"classes": spec(STRING, None, 2), "scores": spec(FLOAT, None, 2)}),
                classified,
            ),
            "regress": (
                Signature(serialized, {"outputs": spec(FLOAT, None)}),
                lambda inputs: {"outputs": weight * examples(inputs)},
            ),
        }
    )


def labeller() -> NumpyModel:
    """A class for each step."""
    outputs = {name: TensorSpec("x:0", s.dtype, (None, *s.shape)) for name, s in _CLASSES.items()}

    def default(features: Array) -> Outputs:
        return classes(features.sum(2))

    def padded(features: Array, lengths: Array) -> Outputs:
        valid = np.arange(features.shape[1]) < lengths[:, None]
        return classes(np.where(valid, features.sum(2), np.nan))

    return NumpyModel(
        {
            "serving_default": (Signature(_FEATURES, outputs), default),
            "serving_padded": (Signature(_PADDED, outputs), padded),
        }
    )


def numbers() -> NumpyModel:
    """One output without a name of its own in REST: a forecast of 2 steps."""
    answer = {"predictions": spec(FLOAT, None, 2, 1)}
    return NumpyModel(
        {
            "serving_default": (
                Signature(_FEATURES, answer),
                lambda features: {"predictions": np.stack([features.sum((1, 2)), features.max((1, 2))], 1)[..., None]},
            )
        }
    )


def text() -> NumpyModel:
    """A class for each character: b for upper case; what is behind the end of a text has none."""
    outputs = {name: TensorSpec("x:0", s.dtype, (None, *s.shape)) for name, s in _CLASSES.items()}
    inputs = {"text": spec(STRING, None)}

    def values(text: Array) -> Array:
        rows = [row.decode() for row in text]
        longest = max(map(len, rows))
        return np.array([[1.0 if c.isupper() else -1.0 for c in row] + [np.nan] * (longest - len(row)) for row in rows])

    def stream(text: Array, seen: Array) -> Outputs:
        return {**classes(values(text)), "seen": seen + np.float32([[len(row)] for row in text])}

    states = {"seen": spec(FLOAT, None, 1)}
    return NumpyModel(
        {
            "serving_default": (Signature(inputs, outputs), lambda text: classes(values(text))),
            "stream_step": (Signature({**inputs, **states}, {**outputs, **states}), stream),
        }
    )


class NumpyManager:
    """Models by name and version, which a test may change; `configs` has what was reloaded."""

    def __init__(self, **models: dict[int, NumpyModel]) -> None:
        self.models: dict[str, dict[int, NumpyModel]] = models
        self.label = {"stable": 1}
        self.configs: list[Any] = []
        self.fail: list[ServingError] = []

    @contextmanager
    def handle(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[tuple[int, NumpyModel]]:
        if self.fail:
            raise self.fail.pop(0)
        if label is not None:
            if label not in self.label:
                raise invalid(f"Unrecognized servable version label: {label}")
            version = self.label[label]
        versions = self.models.get(name, {})
        if not versions or (version is not None and version not in versions):
            there = listed(f"versions of {name} here", sorted(versions)) if versions else None
            raise not_found(name, version, there or listed("models here", self.names()))
        served = max(versions) if version is None else version
        yield served, versions[served]

    def statuses(self, name: str) -> list[VersionStatus]:
        return [VersionStatus(version, State.AVAILABLE) for version in sorted(self.models.get(name, {}), reverse=True)]

    def names(self) -> list[str]:
        return sorted(self.models)

    def labels(self, name: str) -> dict[str, int]:
        return dict(self.label)

    def reload(self, config: Any) -> None:
        self.configs.append(config)


@contextmanager
def served(manager: NumpyManager, **options: Any) -> Iterator[SimpleNamespace]:
    """REST at `.rest`, gRPC at `.grpc`, over `.manager`."""
    metrics = Metrics()
    settings = ServerOptions(port=0, rest_api_port=0, page=False, **options)
    http = RestServer(("127.0.0.1", 0), RestApi(manager, settings, metrics), 4)
    http.server_activate()
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    grpc = GrpcServer(manager, settings, metrics)
    grpc.start()
    try:
        port = http.server_address[1]
        yield SimpleNamespace(rest=f"http://127.0.0.1:{port}", grpc=f"127.0.0.1:{grpc.port}", manager=manager)
    finally:
        http.drain(5)
        thread.join()
        grpc.stop(0)
