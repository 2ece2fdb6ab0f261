"""The jobs that a study gives to an executor, and the events that it gets back."""

from dataclasses import dataclass
from typing import Any, Protocol

from training.study.results import Row


@dataclass(frozen=True)
class Job:
    """One run to be done.

    Attributes:
        key: Its name in the study's folder.
        study: The study's name.
        condition: The label of what was varied.
        dataset: The label of the dataset.
        seed: Seed of the run.
        config: The configuration as nested plain values, from `Config.model_dump`.
        threads: Number of threads that it may use.
        resume: The id of a run to resume, or `None` for a new one.
    """

    key: str
    study: str
    condition: str
    dataset: str
    seed: int
    config: dict[str, Any]
    threads: int
    resume: str | None = None


@dataclass(frozen=True)
class Started:
    """The run has an id: from now on it can be resumed."""

    key: str
    run_id: str


@dataclass(frozen=True)
class Epoch:
    """An epoch ended, of at most so many."""

    key: str
    number: int
    most: int


@dataclass(frozen=True)
class Ended:
    """The run has ended, with any outcome."""

    key: str
    row: Row


@dataclass(frozen=True)
class Died:
    """The process that the run was in is gone, and why."""

    key: str
    reason: str


Event = Started | Epoch | Ended | Died


class CannotExecute(RuntimeError):
    """No run can be started in the requested way."""

    exit_code = 1


class Executor(Protocol):
    """Runs jobs in other processes and reports what happens; must be closed in the end."""

    @property
    def threads(self) -> int:
        """Threads of each run."""

    @property
    def slots(self) -> int:
        """Number of runs at once, as far as it is known."""

    @property
    def has_room(self) -> bool:
        """Whether one more job can be taken now."""

    def submit(self, job: Job) -> None:
        """Take a job; there must be room."""

    def wait(self, seconds: float) -> list[Event]:
        """What has happened since the last call; waits at most so long for something to happen."""

    def close(self) -> None:
        """Stop whatever still runs, and leave no process behind."""
