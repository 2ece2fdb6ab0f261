"""Run programs one after the other or side by side, each for a limited time, within a limit for all of them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gpu.logs import Verdict


@dataclass(frozen=True)
class Job:
    """A program and how to read what it says.

    Attributes:
        name: For `--only` and the summary.
        command: From the seconds that it may take to its command line; a string says why it cannot run here.
        read: From exit code and output to what came of it.
        environment: Added to this process's own.
        folder: Where it runs.
    """

    name: str
    command: Callable[[float], Sequence[str] | str]
    read: Callable[[int, str], Verdict]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()


@dataclass(frozen=True)
class Stage:
    """Jobs that run side by side.

    Attributes:
        wants: Seconds that are enough.
        least: Seconds without which they are not begun.
        jobs: Them.
    """

    wants: float
    least: float
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        name: Of the job.
        verdict: What was found.
        seconds: That it took.
        text: All that it wrote.
    """

    name: str
    verdict: Verdict
    seconds: float = 0.0
    text: str = field(default="", repr=False)


def allowance(stages: Sequence[Stage], number: int, left: float) -> float:
    """Seconds for a stage: what it wants, unless later ones would be left with less than their least; 0 if too few.

    Args:
        stages: All of them.
        number: Of the stage.
        left: Seconds for it and all later ones.

    Example:
    >>> stages = [Stage(100, 50, ()), Stage(200, 60, ())]
    >>> [allowance(stages, 0, left) for left in (300, 150, 109)], allowance(stages, 1, 250)
    ([100, 90, 0.0], 200)
    """
    reserved = sum(stage.least for stage in stages[number + 1 :])
    given = min(stages[number].wants, left - reserved)
    return given if given >= stages[number].least else 0.0


def run(stages: Sequence[Stage], until: float, say: Callable[[Outcome], None]) -> list[Outcome]:
    """Run the stages in order, and say what came of each job.

    Args:
        stages: The most important first.
        until: The moment of `time.monotonic` at which all must be over.
        say: Called with each outcome as it is known.
    """
    found = []
    for number, stage in enumerate(stages):
        seconds = allowance(stages, number, until - time.monotonic())
        if seconds:
            outcomes = _side_by_side(stage.jobs, seconds)
        else:
            late = Verdict(False, f"skipped: less than {stage.least:.0f} s were left for it")
            outcomes = [Outcome(job.name, late) for job in stage.jobs]
        for outcome in outcomes:
            say(outcome)
        found += outcomes
    return found


def _side_by_side(jobs: Sequence[Job], seconds: float) -> list[Outcome]:
    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job: _one(job, seconds), jobs))


def _one(job: Job, seconds: float) -> Outcome:
    begun, command = time.monotonic(), job.command(seconds)
    if isinstance(command, str):
        return Outcome(job.name, Verdict(False, f"left out: {command}"))
    try:
        process = subprocess.Popen(
            command,
            cwd=job.folder,
            env=os.environ | dict(job.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that it can be stopped together with what it has started
        )
    except OSError as error:
        return Outcome(job.name, Verdict(False, f"left out: {error}"))
    late = False
    try:
        text, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        late, text = True, process.communicate()[0]
    verdict = job.read(process.returncode, text)
    if late:
        verdict = Verdict(False, f"stopped after {seconds:.0f} s: {verdict.says}", verdict.more)
    return Outcome(job.name, verdict, time.monotonic() - begun, text)
