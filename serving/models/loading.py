"""From a version's folder to a model that is ready for requests: loaded, batched if asked for, and warmed up."""

import logging
from pathlib import Path

from serving.batching.batched_model import BatchedModel
from serving.batching.parameters import BatchingParameters, per_model_parameters, read_batching_parameters
from serving.batching.scheduler import BatchScheduler
from serving.errors import invalid
from serving.metrics import Metrics
from serving.models.warmup import warm_up
from serving.options import ServerOptions
from serving.runtime.load import load
from serving.runtime.model import Model

logger = logging.getLogger(__name__)


class ModelLoader:
    """Loads versions as the options say.

    Args:
        options: The server's.
        metrics: Where batches and warm-up are counted.

    Raises:
        ServingError: INVALID_ARGUMENT or UNIMPLEMENTED: the batching parameters cannot be used.
    """

    def __init__(self, options: ServerOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
        self._batching = _batching(options)
        self._scheduler: BatchScheduler | None = None
        if self._batching is not None:
            self._scheduler = BatchScheduler(self._batching.num_batch_threads, self._batching.thread_pool_name)

    def __call__(self, path: Path) -> Model:
        """Load one version.

        Raises:
            ServingError: It cannot be loaded, or a warm-up request failed.
        """
        model = load(path, self._options.runtime)
        try:
            model = self._batched(model, path)
            if self._options.enable_model_warmup:
                warm_up(model, path, max(self._options.num_request_iterations_for_warmup, 1), self._metrics)
        except BaseException:
            model.close()
            raise
        return model

    def _batched(self, model: Model, path: Path) -> Model:
        parameters = self._batching
        if parameters is None or self._scheduler is None:
            return model
        if self._options.enable_per_model_batching_parameters:
            parameters = per_model_parameters(path, parameters)
            if parameters is None:
                logger.info("%s has no batching parameters of its own; its requests run one by one", path)
                return model
        return BatchedModel(model, parameters, self._scheduler, self._metrics)

    def close(self) -> None:
        """End the threads that run batches; no model may be in use any more."""
        if self._scheduler is not None:
            self._scheduler.close()


def _batching(options: ServerOptions) -> BatchingParameters | None:
    if not options.enable_batching:
        if options.batching_parameters_file is not None:
            raise invalid("--batching_parameters_file is set without setting --enable_batching to true.")
        return None
    if options.batching_parameters_file is None:
        return BatchingParameters()
    return read_batching_parameters(options.batching_parameters_file)
