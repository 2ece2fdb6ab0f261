"""Runs a study: keeps the runs that have ended, resumes those that were interrupted, and begins the rest."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from training.study.design import PlanError, Planned, Study
from training.study.folder import StudyFolder
from training.study.jobs import Died, Ended, Event, Executor, Job, Started
from training.study.progress import Overview
from training.study.results import Row

# A run whose process dies is tried once more: the machine may have been the reason.
_ATTEMPTS = 2


class Stopped(RuntimeError):
    """Ctrl-C: what has ended is kept."""

    exit_code = 1


@dataclass(frozen=True)
class Summary:
    """What a call of `run_study` came to.

    Attributes:
        rows: Every run of the study that has ended.
        begun: How many of them this call did.
    """

    rows: list[Row]
    begun: int

    def count(self, outcome: str) -> int:
        """Number of runs with that outcome."""
        return sum(row.outcome == outcome for row in self.rows)


def run_study(
    study: Study,
    folder: StudyFolder,
    executor: Callable[[Sequence[Planned]], Executor],
    console: Console,
    command: str = "",
) -> Summary:
    """Do every run of `study` that has not been done; those that failed before are done again.

    Args:
        study: What to do.
        folder: Where its files are.
        executor: Makes what the runs are done by; called with those to be done, if there are any.
        console: For progress.
        command: The command that ran it, for the report.

    Raises:
        PlanError: The study is not valid, or its folder holds another one.
        StudyBusy: Another process is at work on it.
        Stopped: Ctrl-C.
    """
    planned = study.runs()
    with folder.alone():
        folder.keep_plan(study, planned, command)
        kept = [row for row in folder.rows() if row.outcome != "failed"]
        done = {row.key for row in kept}
        waiting = [run for run in planned if (run.condition, run.dataset, run.seed) not in done]
        console.print(_first_line(study, planned, waiting), soft_wrap=True, highlight=False)
        if waiting:
            made = executor(waiting)
            threads = "1 thread" if made.threads == 1 else f"{made.threads} threads"
            console.print(f"up to {made.slots} at once, each with {threads}", highlight=False)
            try:
                _do(_jobs(study, waiting, folder, made.threads), kept, folder, made, console)
            except KeyboardInterrupt:
                left = len(planned) - len(folder.rows())
                raise Stopped(
                    f"stopped: {len(planned) - left} of {len(planned)} runs have ended and are kept in {folder.path}; "
                    "the same command continues with the others, and resumes those that were running"
                ) from None
            finally:
                made.close()
        return Summary(folder.rows(), len(waiting))


def shared_threads(planned: Sequence[Planned]) -> int | None:
    """The `train.threads` of all runs.

    Raises:
        PlanError: They differ; the number of threads of a process is fixed once it has computed.
    """
    found = {run.config.train.threads for run in planned}
    if len(found) > 1:
        raise PlanError(f"train.threads differs between runs ({', '.join(map(str, found))}): give all runs the same")
    return found.pop()


def _first_line(study: Study, planned: Sequence[Planned], waiting: Sequence[Planned]) -> str:
    datasets = len({run.dataset for run in planned})
    sizes = f"{len(study.conditions)} conditions x {datasets} datasets x {len(study.all_seeds)} seeds"
    return f"study {study.name}: {len(planned)} runs ({sizes}), {len(planned) - len(waiting)} done before"


def _jobs(study: Study, waiting: Sequence[Planned], folder: StudyFolder, threads: int) -> list[Job]:
    return [
        Job(
            key=run.key,
            study=study.name,
            condition=run.condition,
            dataset=run.dataset,
            seed=run.seed,
            config=run.config.model_dump(),
            threads=threads,
            resume=folder.started(run.key),
        )
        for run in waiting
    ]


def _do(jobs: Sequence[Job], kept: Sequence[Row], folder: StudyFolder, executor: Executor, console: Console) -> None:
    queue, at_work, attempts = deque(jobs), dict[str, Job](), dict[str, int]()
    with Overview(console, jobs, kept, executor.slots) as overview:
        while queue or at_work:
            while queue and executor.has_room:
                job = queue.popleft()
                attempts[job.key] = attempts.get(job.key, 0) + 1
                at_work[job.key] = job
                executor.submit(job)
            for event in executor.wait(0.5):
                if isinstance(event, Died) and attempts[event.key] >= _ATTEMPTS:
                    event = _give_up(at_work[event.key], event, folder)
                overview.heard(event)
                _handle(event, queue, at_work, folder)


def _handle(event: Event, queue: deque[Job], at_work: dict[str, Job], folder: StudyFolder) -> None:
    if isinstance(event, Started):
        folder.note_start(event.key, event.run_id)
    if isinstance(event, Ended):
        del at_work[event.key]
        folder.keep(event.key, event.row)
    if isinstance(event, Died):
        queue.appendleft(replace(at_work.pop(event.key), resume=folder.started(event.key)))


def _give_up(job: Job, event: Died, folder: StudyFolder) -> Ended:
    from training.study.execution import failed

    return Ended(job.key, failed(job, folder.started(job.key) or "", f"{event.reason} (tried {_ATTEMPTS} times)"))


def local(workers: int | None, logs: Path) -> Callable[[Sequence[Planned]], Executor]:
    """Worker processes of this machine, which share its cores.

    Args:
        workers: How many; `None` for one a core on a CPU, and one on an accelerator.
        logs: Folder for what they write to standard error.
    """

    def make(waiting: Sequence[Planned]) -> Executor:
        from training.study.workers import LocalExecutor, cores
        from zoo.devices import computing

        threads, available = shared_threads(waiting), cores()
        most = workers or (max(1, available // (threads or 1)) if computing().startswith("cpu") else 1)
        number = min(most, len(waiting))
        return LocalExecutor(number, threads or max(1, available // number), logs)

    return make


def on_ray(workers: int | None, address: str | None) -> Callable[[Sequence[Planned]], Executor]:
    """Tasks of a Ray cluster.

    Args:
        workers: The most runs at once; `None` for as many as the cluster takes.
        address: Address of the cluster, as `ray.init` takes it; `None` starts one on this machine.
    """

    def make(waiting: Sequence[Planned]) -> Executor:
        from training.study.ray_executor import RayExecutor

        return RayExecutor(shared_threads(waiting) or 1, workers, address)

    return make
