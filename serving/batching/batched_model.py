"""A model that runs requests of several clients as one batch."""

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np

from serving.batching.parameters import BatchingParameters
from serving.batching.scheduler import Batch, BatchScheduler, Queue, Task
from serving.errors import Code, ServingError, invalid
from serving.metrics import Metrics
from serving.runtime.model import Array, Model, Wrapped, resolve

logger = logging.getLogger(__name__)

_Key = tuple[str, tuple[str, ...]]


class BatchedModel(Wrapped):
    """Runs requests of one signature, for the same outputs and of equal shapes, as one along axis 0.

    Args:
        model: The model; closed with this one.
        parameters: How batches are made.
        scheduler: Runs them.
        metrics: Where waiting times are counted.
    """

    def __init__(
        self, model: Model, parameters: BatchingParameters, scheduler: BatchScheduler, metrics: Metrics | None = None
    ) -> None:
        super().__init__(model)
        self._parameters = parameters
        self._scheduler = scheduler
        self._metrics = metrics
        self._queues: dict[_Key, Queue] = {}

    def run(
        self,
        signature_name: str,
        feeds: Mapping[str, Array],
        output_filter: Sequence[str] | None = None,
        *,
        timeout_in_ms: int = 0,
    ) -> dict[str, Array]:
        checked, outputs = resolve(self.signatures, signature_name, feeds, output_filter)
        size = _rows(checked)
        if size == 0:
            # Nothing to share a run with; the graph decides whether it takes no rows.
            return self._model.run(signature_name, feeds, output_filter, timeout_in_ms=timeout_in_ms)
        deadline = time.monotonic() + timeout_in_ms / 1000 if timeout_in_ms > 0 else float("inf")
        shape = tuple(checked[alias].shape[1:] for alias in self.signatures[signature_name].inputs)
        queue = self._queue((signature_name, tuple(sorted(outputs))))
        tasks = self._scheduler.submit(queue, shape, Task(checked, size, deadline))
        answers = [self._answer(task) for task in tasks]
        if len(answers) == 1:
            return {alias: answers[0][alias] for alias in outputs}
        return {alias: np.concatenate([answer[alias] for answer in answers]) for alias in outputs}

    def _queue(self, key: _Key) -> Queue:
        queue = self._queues.get(key)
        if queue is None:
            # Of two threads that come here at once, both get the one that was first.
            queue = self._queues.setdefault(key, Queue(self._parameters, lambda batch: self._run(key, batch)))
        return queue

    def _answer(self, task: Task) -> dict[str, Array]:
        if not task.wait():
            if self._scheduler.abandon(task):
                raise _timed_out_waiting()
            raise ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        if task.error is not None:
            # Raised in several threads, so each gets its own.
            raise ServingError(task.error.code, task.error.message)
        return task.outputs

    def _run(self, key: _Key, batch: Batch) -> None:
        now = time.monotonic()
        tasks = [task for task in batch.tasks if not task.is_abandoned]
        alive = [task for task in tasks if task.deadline > now]
        try:
            if alive:
                self._run_together(key, alive, now)
        except ServingError as error:
            _fail(alive, error)
        except Exception as error:
            logger.exception("running a batch of signature %r failed", key[0])
            _fail(alive, ServingError(Code.INTERNAL, f"running a batch failed: {error!r}"))
        finally:
            _fail([task for task in tasks if task.deadline <= now], _timed_out_waiting())
            for task in tasks:
                task.finish()
            if self._metrics is not None:
                if alive:
                    self._metrics.count(":tensorflow:serving:batching_session:wrapped_run_count")
                for task in tasks:
                    self._metrics.observe(
                        ":tensorflow:serving:batching_session:queuing_latency",
                        (now - task.enqueued) * 1e6,
                        thread_pool_name=self._parameters.thread_pool_name,
                    )

    def _run_together(self, key: _Key, tasks: list[Task], now: float) -> None:
        size = sum(task.size for task in tasks)
        filled = self._parameters.filled(size)
        # The run may last as long as its most patient caller waits; the others leave on their own.
        latest = max(task.deadline for task in tasks)
        timeout_in_ms = 0 if latest == float("inf") else max(int((latest - now) * 1000), 1)
        outputs = self._model.run(key[0], _merged(tasks, filled - size), key[1], timeout_in_ms=timeout_in_ms)
        for array in outputs.values():
            if array.ndim == 0:
                raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
            if len(array) != filled:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    "input tensors",
                )
        start = 0
        for task in tasks:
            task.outputs = {alias: array[start : start + task.size] for alias, array in outputs.items()}
            start += task.size

    def close(self) -> None:
        # A caller that gave up leaves its batch behind.
        self._scheduler.drain(list(self._queues.values()))
        super().close()


def _rows(feeds: Mapping[str, Array]) -> int:
    if not feeds:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _merged(tasks: list[Task], padding: int) -> dict[str, Array]:
    if len(tasks) == 1 and not padding:
        return tasks[0].feeds
    last = tasks[-1].feeds
    return {
        # A row that came with a request is always safe to repeat.
        alias: np.concatenate([*(task.feeds[alias] for task in tasks), *[last[alias][:1]] * padding])
        for alias in last
    }


def _fail(tasks: list[Task], error: ServingError) -> None:
    for task in tasks:
        task.error = error


def _timed_out_waiting() -> ServingError:
    return ServingError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
