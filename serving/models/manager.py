"""The models that are served, with their versions and labels, and changes to them while requests are answered."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.errors import Code, ServingError, invalid
from serving.models.model_config import ModelConfig, model_configs
from serving.models.versions import Retries, ServedModel, State, VersionStatus, listed, not_found
from serving.release.version_folders import find_versions, is_complete
from serving.runtime.model import Model

logger = logging.getLogger(__name__)


class ModelManager:
    """The served models by name.

    Args:
        load: Loads one version's folder into a model that is ready for requests.
        retries: What happens to a version that failed to load.
        poll_seconds: Seconds between two looks into the models' folders; 0 looks only when the configuration changes.
        num_load_threads: Versions that are loaded at once; 0 loads one after the other between two looks.
        num_unload_threads: Versions that are freed at once; 0 means one.
        allow_labels_for_unavailable: Whether a new label may name a version that is not loaded yet.
    """

    def __init__(
        self,
        load: Callable[[Path], Model],
        *,
        retries: Retries | None = None,
        poll_seconds: float = 1.0,
        num_load_threads: int = 0,
        num_unload_threads: int = 0,
        allow_labels_for_unavailable: bool = False,
    ) -> None:
        self._load = load
        self._retries = retries or Retries()
        self._poll_seconds = poll_seconds
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._loading = ThreadPoolExecutor(num_load_threads, "load") if num_load_threads else None
        self._unloading = ThreadPoolExecutor(max(num_unload_threads, 1), "unload")
        self._reloading = threading.Lock()
        # Both are replaced, never changed, so that a request needs no lock to read them.
        self._models: Mapping[str, ServedModel] = {}
        self._labels: Mapping[str, Mapping[str, int]] = {}
        self._stopping = threading.Event()
        self._poller: threading.Thread | None = None

    @contextmanager
    def handle(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[tuple[int, Model]]:
        """A version of a model that is served now, kept loaded inside the `with` block.

        Args:
            name: The model.
            version: The version that is wanted; None for the newest that is served.
            label: A label for the version, instead of its number.

        Raises:
            ServingError: NOT_FOUND if that is not served; INVALID_ARGUMENT for an unknown label.
        """
        if label is not None:
            version = self._labels.get(name, {}).get(label)
            if version is None:
                known = listed(f"labels of {name}", sorted(self._labels.get(name, {})))
                raise invalid(f"Unrecognized servable version label: {label}; {known}")
        model = self._models.get(name)
        if model is None:
            raise not_found(name, version, listed("models here", self.names()))
        with model.handle(version) as held:
            yield held

    def statuses(self, name: str) -> list[VersionStatus]:
        """The state of every version of a model seen so far, the newest first; empty for an unknown model."""
        model = self._models.get(name)
        return [] if model is None else model.statuses()

    def names(self) -> list[str]:
        """The models that are configured."""
        return sorted(name for name, model in self._models.items() if model.config is not None)

    def labels(self, name: str) -> dict[str, int]:
        """The labels of a model, and the version that each means."""
        return dict(self._labels.get(name, {}))

    def reload(self, config: Any) -> None:
        """Serve the models of a `ModelServerConfig` message and no others; returns when the new ones are loaded.

        Raises:
            ServingError: The configuration is wrong, and nothing has changed; or a new model did not become available,
                and the rest of the configuration is in force.
        """
        if config.WhichOneof("config") is None:
            logger.info("Taking no action for empty config.")
            return
        self.replace(model_configs(config))

    def replace(self, configs: Sequence[ModelConfig]) -> None:
        """As `reload`, from plain data."""
        with self._reloading:
            is_first = not self._models
            labels = self._checked_labels(configs)
            for config in configs:
                _require_versions(config)
            # Labels and folders are checked before anything changes; from here on the configuration is in force.
            models = {**self._models, **{config.name: self._model(config.name) for config in configs}}
            new = [config.name for config in configs if models[config.name].config is None]
            for name in models.keys() - {config.name for config in configs}:
                models[name].configure(None)
            self._models, self._labels = models, labels
            for config in configs:
                models[config.name].configure(config)
            self._wait_for_loads([models[config.name] for config in configs], at_once=is_first)
            self._require_available(new, "servable" if is_first else "model")

    def _model(self, name: str) -> ServedModel:
        # One that was removed is kept, because its versions may still be in use, and its statuses be asked for.
        return self._models.get(name) or ServedModel(name, self._load, self._retries, self._unloading)

    def _checked_labels(self, configs: Sequence[ModelConfig]) -> dict[str, Mapping[str, int]]:
        for config in configs:
            available = {status.version for status in self.statuses(config.name) if status.state is State.AVAILABLE}
            known = self._labels.get(config.name, {})
            for label, version in config.labels.items():
                is_free = self._allow_labels_for_unavailable and known.get(label, version) == version
                if version not in available and not is_free:
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {config.name}, "
                        "which is not currently available for inference",
                    )
        return {config.name: dict(config.labels) for config in configs}

    def _wait_for_loads(self, models: Sequence[ServedModel], *, at_once: bool) -> None:
        if not at_once:
            wait(_polled(models, self._loading))
            return
        # As in TensorFlow Serving: nothing is served yet that loading could slow down.
        with ThreadPoolExecutor(4 * (os.cpu_count() or 1), "first_load") as pool:
            wait(_polled(models, pool))

    def _require_available(self, names: Sequence[str], kind: str) -> None:
        # One loaded version is enough: a model with a broken newest version is served by the one before.
        failed = []
        for name in names:
            statuses = self.statuses(name)
            if not any(status.state is State.AVAILABLE for status in statuses):
                failed += [(name, status) for status in statuses if status.error or status.state is not State.END]
        if failed:
            listed = "".join(
                f"{{{{name: {name} version: {status.version}}}"
                + (f" due to error: {status.error.described}" if status.error else "")
                + "}, "
                for name, status in failed
            )
            raise ServingError(Code.UNKNOWN, f"{len(failed)} {kind}(s) did not become available: {{{listed}}}")

    def start_polling(self) -> None:
        """Look into the folders of the models every `poll_seconds` from now on."""
        if self._poll_seconds > 0:
            self._poller = threading.Thread(target=self._poll, name="poll", daemon=True)
            self._poller.start()

    def _poll(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            try:
                _polled(list(self._models.values()), self._loading)
            except Exception:
                # The server must go on with the versions that it has.
                logger.exception("looking for new versions failed")

    def close(self) -> None:
        """Stop polling, serve nothing any more, and free every version that is not in use."""
        self._stopping.set()
        if self._poller is not None:
            self._poller.join()
        with self._reloading:
            for model in self._models.values():
                model.configure(None)
        if self._loading is not None:
            self._loading.shutdown()
        self._unloading.shutdown()


def _polled(models: Sequence[ServedModel], loading: Executor | None) -> list[Future[None]]:
    return [load for model in models for load in model.poll(loading)]


def _require_versions(config: ModelConfig) -> None:
    try:
        versions = find_versions(config.base_path)
    except OSError as error:
        raise invalid(
            f"Could not find base path {config.base_path} for servable {config.name} with error {error}"
        ) from error
    if not config.policy.choose(versions):
        hint = (
            "this is the folder of one version, give the folder that it lies in"
            if is_complete(config.base_path)
            else f"expected folders named by integers, such as {config.base_path / '1' / 'saved_model.pb'}"
        )
        raise ServingError(
            Code.NOT_FOUND,
            f"Unable to find a numerical version path for servable {config.name} at: {config.base_path}; {hint}",
        )
