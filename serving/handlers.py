"""TensorFlow Serving's services, whichever API a request comes by: choose the model, run it, count."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from serving.calls.messages import classify, multi_inference, predict, regress
from serving.errors import Code, ServingError, invalid
from serving.metrics import Metrics
from serving.models.versions import VersionStatus, listed
from serving.protos import apis
from serving.runtime.model import Array, Model, Wrapped

_PREFIX = ":tensorflow:serving:"
# Requests for models that are not served are counted under this name: invented names must not fill the memory.
_NOT_SERVED = ""


class Manager(Protocol):
    """The part of `serving.models.manager.ModelManager` that the services use."""

    def handle(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> AbstractContextManager[tuple[int, Model]]: ...

    def statuses(self, name: str) -> list[VersionStatus]: ...

    def names(self) -> list[str]: ...

    def reload(self, config: Any) -> None: ...


class _TimedModel(Wrapped):
    """A model that measures its runs."""

    def __init__(self, model: Model, metrics: Metrics, name: str, api: str) -> None:
        super().__init__(model)
        self._metrics = metrics
        self._labels = {"model_name": name, "API": api, "runtime": "TF1"}

    def run(
        self,
        signature_name: str,
        feeds: Mapping[str, Array],
        output_filter: Sequence[str] | None = None,
        *,
        timeout_in_ms: int = 0,
    ) -> dict[str, Array]:
        started = time.perf_counter()
        outputs = self._model.run(signature_name, feeds, output_filter, timeout_in_ms=timeout_in_ms)
        self._metrics.observe(f"{_PREFIX}runtime_latency", 1e6 * (time.perf_counter() - started), **self._labels)
        return outputs


class Handlers:
    """The services over the models of a manager.

    Args:
        manager: Which models there are.
        metrics: Where requests are counted.
        as_tensor_content: Whether predict answers carry their numbers as bytes.
        check_method_names: Whether the method name of a signature must match the request.
    """

    def __init__(
        self, manager: Manager, metrics: Metrics, *, as_tensor_content: bool = False, check_method_names: bool = False
    ) -> None:
        self.manager = manager
        self._metrics = metrics
        self._as_tensor_content = as_tensor_content
        self._check = check_method_names

    def predict(self, request: Any, timeout_in_ms: int = 0) -> Any:
        """`PredictionService.Predict`."""
        return self._on_model(
            "Predict",
            request,
            lambda model: predict(
                model,
                request,
                timeout_in_ms,
                as_tensor_content=self._as_tensor_content,
                check_method_name=self._check,
            ),
        )

    def classify(self, request: Any, timeout_in_ms: int = 0) -> Any:
        """`PredictionService.Classify`."""
        response = self._on_model(
            "Classify", request, lambda model: classify(model, request, timeout_in_ms, check_method_name=self._check)
        )
        self.count_examples(response.model_spec.name, len(response.result.classifications))
        return response

    def regress(self, request: Any, timeout_in_ms: int = 0) -> Any:
        """`PredictionService.Regress`."""
        response = self._on_model(
            "Regress", request, lambda model: regress(model, request, timeout_in_ms, check_method_name=self._check)
        )
        self.count_examples(response.model_spec.name, len(response.result.regressions))
        return response

    def multi_inference(self, request: Any, timeout_in_ms: int = 0) -> Any:
        """`PredictionService.MultiInference`: the first task chooses the model and version for all."""
        spec = request.tasks[0].model_spec if request.tasks else apis("model_pb2").ModelSpec()
        with (
            self.recorded(spec.name, "MultiInference", "GRPC"),
            self._chosen(spec, "MultiInference") as (version, model),
        ):
            response = multi_inference(model, request, timeout_in_ms, check_method_name=self._check)
        for result in response.results:
            result.model_spec.name = spec.name
            result.model_spec.version.value = version
        examples = request.input
        self.count_examples(spec.name, len(getattr(examples, examples.WhichOneof("kind")).examples))
        return response

    def metadata(self, request: Any, timeout_in_ms: int = 0) -> Any:
        """`PredictionService.GetModelMetadata`: the signatures."""
        del timeout_in_ms  # nothing is run
        module = apis("get_model_metadata_pb2")
        _require_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        signatures = module.SignatureDefMap()
        with self._chosen(request.model_spec, "GetModelMetadata") as (version, model):
            for name, definition in model.signature_def_map.items():
                signatures.signature_def[name].CopyFrom(definition)
                signatures.signature_def[name].ClearField("defaults")
        response = module.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request: Any, timeout_in_ms: int = 0) -> Any:
        """`ModelService.GetModelStatus`. A label is ignored, as in TensorFlow Serving."""
        del timeout_in_ms
        module = apis("get_model_status_pb2")
        _require_spec(request)
        spec = request.model_spec
        version = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
        response = module.GetModelStatusResponse()
        for status in self.statuses(spec.name, version):
            written = response.model_version_status.add(version=status.version)
            written.state = module.ModelVersionStatus.State.Value(status.state.value)
            written.status.error_code = status.error.code if status.error else 0
            written.status.error_message = status.error.message if status.error else ""
        return response

    def statuses(self, name: str, version: int | None) -> list[VersionStatus]:
        """The states of a model's versions, or of one of them.

        Raises:
            ServingError: NOT_FOUND.
        """
        statuses = self.manager.statuses(name)
        known = [status.version for status in statuses]
        there = listed(f"versions of {name} here", known) if known else listed("models here", self.manager.names())
        if version is not None:
            statuses = [status for status in statuses if status.version == version]
            if not statuses:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}; {there}")
        if not statuses:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}; {there}")
        return statuses

    def reload(self, request: Any, timeout_in_ms: int = 0) -> Any:
        """`ModelService.HandleReloadConfigRequest`: replaces the whole set of models, and waits for it."""
        del timeout_in_ms
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        self.manager.reload(request.config)
        response = apis("model_management_pb2").ReloadConfigResponse()
        response.status.SetInParent()
        return response

    def _on_model(self, api: str, request: Any, work: Callable[[Model], Any]) -> Any:
        with self.recorded(request.model_spec.name, api, "GRPC"):
            _require_spec(request)
            with self._chosen(request.model_spec, api) as (version, model):
                response = work(model)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        return response

    def _chosen(self, spec: Any, api: str) -> AbstractContextManager[tuple[int, Model]]:
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        version = spec.version.value if choice == "version" else None
        return self.model(spec.name, version, spec.version_label if choice == "version_label" else None, api)

    @contextmanager
    def model(self, name: str, version: int | None, label: str | None, api: str) -> Iterator[tuple[int, Model]]:
        """A model held until the end of the block, whose runs are measured under the name of an API."""
        with self.manager.handle(name, version, label) as (served, model):
            yield served, _TimedModel(model, self._metrics, name, api)

    @contextmanager
    def recorded(self, name: str, api: str, entrypoint: str) -> Iterator[None]:
        """Count the request in the block, by how it ends, and measure it if it succeeds."""
        started = time.perf_counter()
        status = Code.INTERNAL.name
        try:
            yield
            status = "OK"
        except ServingError as error:
            status = error.code.name
            raise
        finally:
            known = name if name in self.manager.names() else _NOT_SERVED
            self._metrics.count(f"{_PREFIX}request_count", model_name=known, status=status)
            # Refusals take microseconds, and would make the latencies look better than they are.
            if status == "OK":
                latency = 1e6 * (time.perf_counter() - started)
                self._metrics.observe(
                    f"{_PREFIX}request_latency", latency, model_name=known, API=api, entrypoint=entrypoint
                )

    def count_examples(self, name: str, number: int) -> None:
        """Count the examples of one request."""
        self._metrics.count(f"{_PREFIX}request_example_count_total", number, model=name)
        self._metrics.observe(f"{_PREFIX}request_example_counts", number, model=name)


def _require_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
