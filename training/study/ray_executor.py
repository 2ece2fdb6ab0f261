"""Runs as tasks of a Ray cluster: one task a run, whose row comes back to the study, which writes it.

Ray is the `ray` extra. The hosts need this package at the same version, the datasets, and a tracking server.
"""

import importlib
import logging
import os
from typing import Any

from training.study.jobs import CannotExecute, Died, Ended, Event, Job
from training.study.workers import EXECUTION, import_path, thread_variables

INSTALL = 'pip install "sequence-zoo[ray]"'

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

# How a run on another host finds the tracking server
_HANDED_ON = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


class RayExecutor:
    """Tasks on a Ray cluster, each of `threads` CPUs.

    Args:
        threads: Number of threads of each run.
        limit: The most runs at once; `None` leaves that to the cluster, which queues what it has no room for.
        address: Address of the cluster, as `ray.init` takes it; `None` starts one on this machine.
        module: What the tasks run; it has `prepare` and `execute` as `training.study.execution` has them.

    Raises:
        CannotExecute: Ray is not installed, the cluster does not answer, or its hosts would have no tracking server.
    """

    def __init__(self, threads: int, limit: int | None, address: str | None = None, module: str = EXECUTION) -> None:
        server = os.environ.get("MLFLOW_TRACKING_URI", "")
        if address is not None and not server.startswith("http"):
            raise CannotExecute(
                f"runs on {address} record to a tracking server, and MLFLOW_TRACKING_URI is {server!r}: start one with "
                "mlflow server, and set it to its address, such as http://host:5000"
            )
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray starts
        try:
            # By name, so that types are checked alike where it is not installed.
            ray, queues = importlib.import_module("ray"), importlib.import_module("ray.util.queue")
        except ImportError as error:
            raise CannotExecute(f"--executor ray needs Ray: {INSTALL} ({error})") from error
        self._ray: Any = ray
        self.threads, self._limit = threads, limit
        handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
        variables = thread_variables(threads) | (import_path() if address is None else handed_on)
        try:
            ray.init(address=address or "local", runtime_env={"env_vars": variables}, **_QUIET)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise CannotExecute(f"no Ray cluster at {address or 'this machine'}: {error}") from error
        self.slots = max(1, int(ray.cluster_resources().get("CPU", 1) // threads))
        if limit is not None:
            self.slots = min(self.slots, limit)
        self._events: Any = queues.Queue(actor_options={"num_cpus": 0})
        # A run that dies is tried again by the study, which resumes it from its checkpoint.
        self._task: Any = ray.remote(max_retries=0, num_cpus=threads)(_run)
        self._folder = os.getcwd() if address is None else None
        self._module = module
        self._keys: dict[Any, str] = {}

    @property
    def has_room(self) -> bool:
        return self._limit is None or len(self._keys) < self._limit

    def submit(self, job: Job) -> None:
        self._keys[self._task.remote(job, self._module, self._events, self._folder)] = job.key

    def wait(self, seconds: float) -> list[Event]:
        if not self._keys:
            return []
        ended, _ = self._ray.wait(list(self._keys), num_returns=1, timeout=seconds)
        # The queue second: what a run said comes before its end.
        events: list[Event] = self._events.get_nowait_batch(self._events.qsize())
        for reference in ended:
            key = self._keys.pop(reference)
            try:
                events.append(Ended(key, self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                why = getattr(error, "cause", None) or str(error).strip().splitlines()[0]
                events.append(Died(key, f"its Ray task died: {why}"))
        return events

    def close(self) -> None:
        for reference in self._keys:
            self._ray.cancel(reference, force=True)
        self._keys.clear()
        self._ray.shutdown()


def _run(job: Job, module: str, events: Any, folder: str | None) -> Any:
    """The task."""
    if folder is not None:
        os.chdir(folder)
    run = importlib.import_module(module)
    run.prepare(job.threads)
    return run.execute(job, events.put)
