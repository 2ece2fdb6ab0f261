"""Puts requests that arrive together into batches, which a few threads run.

Nothing here polls: a thread sleeps until a batch is full or the oldest one has waited long enough, and of all the
threads only one keeps time.
"""

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from serving.batching.parameters import BatchingParameters
from serving.errors import Code, ServingError, invalid
from serving.runtime.model import Array

logger = logging.getLogger(__name__)


class Task:
    """The rows of one request, or a part of them, on their way through a batch.

    Args:
        feeds: An array for every input, each with `size` rows.
        size: How many rows.
        deadline: When the caller gives up, by `time.monotonic`; infinite for never.
    """

    __slots__ = ("_finished", "deadline", "enqueued", "error", "feeds", "is_abandoned", "is_taken", "outputs", "size")

    def __init__(self, feeds: dict[str, Array], size: int, deadline: float) -> None:
        self.feeds = feeds
        self.size = size
        self.deadline = deadline
        self.enqueued = time.monotonic()
        self.outputs: dict[str, Array] = {}
        self.error: ServingError | None = None
        self.is_taken = False
        self.is_abandoned = False
        # A bare lock is the cheapest thing that one thread can wait for and another end.
        self._finished = threading.Lock()
        self._finished.acquire()

    def finish(self) -> None:
        """Wake the caller up; `outputs` or `error` is there."""
        self._finished.release()

    def wait(self) -> bool:
        """Whether the task was finished before its deadline."""
        if self.deadline == float("inf"):
            return self._finished.acquire()
        return self._finished.acquire(timeout=max(self.deadline - time.monotonic(), 0))

    def split(self, first: int, limit: int) -> list["Task"]:
        """Tasks for the first `first` rows (none if that is 0) and then for `limit` rows each."""
        bounds = [*([0] if first else []), *range(first, self.size, limit), self.size]
        return [
            Task({name: array[start:end] for name, array in self.feeds.items()}, end - start, self.deadline)
            for start, end in itertools.pairwise(bounds)
        ]


class Batch:
    """Tasks that will run together: of one signature, and equal in shape but for the number of rows."""

    __slots__ = ("is_closed", "queue", "shape", "size", "tasks")

    def __init__(self, queue: "Queue", shape: Hashable) -> None:
        self.queue = queue
        self.shape = shape
        self.tasks: list[Task] = []
        self.size = 0
        self.is_closed = False


@dataclass
class Queue:
    """The batches of one signature.

    Attributes:
        parameters: How they are made.
        run: Runs one: gives every task its outputs or an error, and never raises.
        enqueued: How many wait for a thread.
        running: How many run.
        open: Of each shape, the batch that may still take tasks.
    """

    parameters: BatchingParameters
    run: Callable[[Batch], None]
    enqueued: int = 0
    running: int = 0
    open: dict[Hashable, Batch] = field(default_factory=dict)

    def require_room(self, task: Task, batch: Batch | None) -> None:
        """Refuse a task that is too large or finds the queue full, as TensorFlow Serving does.

        Args:
            task: The task.
            batch: The open batch of its shape.

        Raises:
            ServingError: INVALID_ARGUMENT or UNAVAILABLE.
        """
        parameters = self.parameters
        if task.size > parameters.max_batch_size:
            raise invalid(f"Task size {task.size} is larger than maximum input batch size {parameters.max_batch_size}")
        free = max(parameters.max_enqueued_batches - self.enqueued, 0)
        room = parameters.limit - batch.size if batch else 0
        full = "The batch scheduling queue to which this task was submitted is full; "
        if parameters.enable_large_batch_splitting:
            capacity = free * parameters.limit + room
            if task.size > capacity:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"{full}task size is {task.size} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={self.enqueued}, max_enqueued_batches={parameters.max_enqueued_batches}, "
                    f"open_batch_size={batch.size if batch else 0}, max_execution_batch_size={parameters.limit})",
                )
        elif task.size > room and not free:
            raise ServingError(
                Code.UNAVAILABLE,
                f"{full}currently {self.enqueued} batches enqueued and max_enqueued_batches is "
                f"{parameters.max_enqueued_batches}",
            )


class BatchScheduler:
    """The threads that run batches, shared by all models.

    Args:
        threads: How many.
        name: Their name.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)  # waits for work
        self._clock = threading.Condition(self._lock)  # waits for work until the next batch is due
        self._drained = threading.Condition(self._lock)
        self._idle_threads = 0
        self._has_timekeeper = False
        self._closed: deque[Batch] = deque()
        self._due: list[tuple[float, int, Batch]] = []
        self._order = itertools.count()
        self._is_stopped = False
        self._threads = [threading.Thread(target=self._work, name=f"{name}_{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, queue: Queue, shape: Hashable, task: Task) -> list[Task]:
        """Put a task into a batch.

        Args:
            queue: The batches of its signature.
            shape: What tasks of one batch have in common.
            task: The task.

        Returns:
            The task, or those that it was split into.

        Raises:
            ServingError: It is too large, or the queue is full.
        """
        limit = queue.parameters.limit
        with self._lock:
            batch = queue.open.get(shape)
            queue.require_room(task, batch)
            room = limit - batch.size if batch else 0
            # As TensorFlow Serving does, the open batch is filled up with the first part.
            is_split = queue.parameters.enable_large_batch_splitting and task.size > (room or limit)
            tasks = task.split(room, limit) if is_split else [task]
            for part in tasks:
                self._add(queue, shape, part)
        return tasks

    def abandon(self, task: Task) -> bool:
        """Take back a task; whether no batch had run it yet."""
        with self._lock:
            task.is_abandoned = not task.is_taken
            return task.is_abandoned

    def drain(self, queues: list[Queue]) -> None:
        """Wait until these queues are empty; nothing may be submitted to them any more."""
        with self._lock:
            self._drained.wait_for(lambda: all(queue.enqueued == queue.running == 0 for queue in queues))

    def close(self) -> None:
        """Run what waits, then end the threads."""
        with self._lock:
            self._is_stopped = True
            self._idle.notify_all()
            self._clock.notify_all()
        for thread in self._threads:
            thread.join()

    def _add(self, queue: Queue, shape: Hashable, task: Task) -> None:
        limit = queue.parameters.limit
        batch = queue.open.get(shape)
        if batch is not None and batch.size + task.size > limit:
            # Tasks are not reordered: one that does not fit ends the batch, even if a smaller one might come.
            self._close(batch)
            batch = None
        if batch is None:
            batch = queue.open[shape] = Batch(queue, shape)
            queue.enqueued += 1
            # The clock of a batch runs from its first task, so no task waits longer than the timeout.
            self._remind(batch, time.monotonic() + queue.parameters.batch_timeout_micros / 1e6)
        batch.tasks.append(task)
        batch.size += task.size
        if batch.size >= limit:
            self._close(batch)

    def _remind(self, batch: Batch, due: float) -> None:
        is_earliest = not self._due or due < self._due[0][0]
        heapq.heappush(self._due, (due, next(self._order), batch))
        if is_earliest and self._has_timekeeper:
            self._clock.notify()  # it sleeps until a later moment
        elif is_earliest:
            self._idle.notify()

    def _close(self, batch: Batch) -> None:
        self._seal(batch)
        self._closed.append(batch)
        self._wake()

    def _seal(self, batch: Batch) -> None:
        batch.is_closed = True
        del batch.queue.open[batch.shape]

    def _wake(self) -> None:
        (self._idle if self._idle_threads else self._clock).notify()

    def _work(self) -> None:
        while (batch := self._take()) is not None:
            try:
                batch.queue.run(batch)
            except Exception:
                logger.exception("a batch failed in a way that it should not")
            with self._lock:
                batch.queue.running -= 1
                self._drained.notify_all()

    def _take(self) -> Batch | None:
        with self._lock:
            while (batch := self._ready()) is None:
                if self._is_stopped:
                    return None
                if self._due and not self._has_timekeeper:
                    self._has_timekeeper = True
                    self._clock.wait(max(self._due[0][0] - time.monotonic(), 0))
                    self._has_timekeeper = False
                else:
                    self._idle_threads += 1
                    self._idle.wait()
                    self._idle_threads -= 1
            batch.queue.enqueued -= 1
            batch.queue.running += 1
            for task in batch.tasks:
                task.is_taken = True
            if self._closed or self._due:
                # Another takes what is left, or keeps time.
                self._wake()
            return batch

    def _ready(self) -> Batch | None:
        if self._closed:
            return self._closed.popleft()
        # A batch that filled up stays in the heap until its time comes: taking it out would cost a search.
        while self._due and self._due[0][2].is_closed:
            heapq.heappop(self._due)
        if not self._due or (self._due[0][0] > time.monotonic() and not self._is_stopped):
            return None
        batch = heapq.heappop(self._due)[2]
        self._seal(batch)
        return batch
