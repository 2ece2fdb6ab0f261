"""Runs in worker processes of this machine. Each worker imports TensorFlow and MLflow once and does run after run."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe, wait as wait_for
from pathlib import Path
from typing import Any

from training.study.jobs import CannotExecute, Died, Ended, Event, Job
from training.study.worker_process import READY

EXECUTION = "training.study.execution"

# Seconds until a worker that should end is killed
_PATIENCE = 4.0


def cores() -> int:
    """Cores that this process may use, as far as its affinity and its control group let it."""
    from joblib import cpu_count  # type: ignore[import-untyped]

    return int(cpu_count())


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables by which the libraries under a run use that many threads; read when they are loaded.

    `training.run.threads` sets those of TensorFlow and the native engine.

    Example:
    >>> thread_variables(2)["OMP_NUM_THREADS"]
    '2'
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return dict.fromkeys(names, str(threads))


def import_path() -> dict[str, str]:
    """The environment variable by which another Python of this machine finds the modules that this one does."""
    return {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)}


class LocalExecutor:
    """Up to `workers` processes, started when they are first needed.

    A worker that dies is reported and replaced. None outlives this process: a worker whose pipe is closed ends.

    Args:
        workers: Runs at once.
        threads: Threads of each.
        log: Folder for what the workers write to their standard error.
        module: What the workers run; it has `prepare` and `execute` as `training.study.execution` has them.
    """

    def __init__(self, workers: int, threads: int, log: Path, module: str = EXECUTION) -> None:
        self.slots, self.threads = workers, threads
        self._log, self._module = log, module
        self._workers: list[_Worker] = []
        self._begun = 0

    @property
    def has_room(self) -> bool:
        return len(self._workers) < self.slots or any(worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        worker = next((worker for worker in self._workers if worker.job is None), None)
        if worker is None:
            self._begun += 1
            worker = _Worker(self._module, self.threads, self._log / f"worker-{self._begun}.log")
            self._workers.append(worker)
        worker.take(job)

    def wait(self, seconds: float) -> list[Event]:
        """As `Executor.wait` says.

        Raises:
            CannotExecute: A worker ended before it was ready: no other would fare better.
        """
        if not self._workers:
            return []
        ready = wait_for([worker.connection for worker in self._workers], seconds)
        events: list[Event] = []
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            try:
                while worker.connection.poll():
                    events += worker.heard(worker.connection.recv())
            except (EOFError, OSError):
                self._workers.remove(worker)
                events += worker.gone()
        return events

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            try:
                worker.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers.clear()


class _Worker:
    """One process and our end of its pipe."""

    def __init__(self, module: str, threads: int, log: Path) -> None:
        self.log = log
        self.job: Job | None = None
        self._ready = False
        log.parent.mkdir(parents=True, exist_ok=True)
        self.connection: Connection[Any, Any]
        self.connection, theirs = Pipe()
        with theirs, log.open("ab") as stream:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "training.study.worker_process",
                    str(theirs.fileno()),
                    module,
                    str(threads),
                ],
                env=_environment(threads),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C is the study's to handle
            )

    def take(self, job: Job) -> None:
        self.job = job
        try:
            self.connection.send(job)
        except OSError:
            return  # it has just died, which the next wait finds

    def heard(self, message: Any) -> list[Event]:
        if message == READY:
            self._ready = True
            return []
        if isinstance(message, Ended):
            self.job = None
        return [message]

    def gone(self) -> list[Event]:
        self.connection.close()
        try:
            code = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # its pipe is closed, but it hangs
            self.process.kill()
            code = self.process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if not self._ready and code >= 0:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise CannotExecute(
                f"a worker process ended with {how} before its first run: {lines[-1] if lines else 'no word why'} "
                f"(all of it: {self.log})"
            )
        hint = "; it was killed from outside, or the machine ran out of memory" if code == -signal.SIGKILL else ""
        return [Died(self.job.key, f"the worker process died by {how}{hint}; its log: {self.log}")] if self.job else []


def _environment(threads: int) -> Mapping[str, str]:
    growth = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}  # several processes may share one accelerator
    return {**os.environ, **import_path(), **growth, **thread_variables(threads)}
