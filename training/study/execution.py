"""One run of a study, in the process that trains it."""

import math
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import keras
from rich.console import Console

from training.config import Config, find_dataset
from training.run import environment
from training.run.checkpoints import CannotResume
from training.run.loop import Result, load_data
from training.run.tasks import TASKS, guessing, model_task
from training.run.threads import use_threads
from training.study.jobs import Epoch, Event, Job, Started
from training.study.results import Row
from training.train import train_one
from zoo.quiet import import_keras


def prepare(threads: int) -> None:
    """Make this process ready for runs of at most `threads` threads, before anything is computed in it."""
    if keras.backend.backend() != "jax":  # JAX has no setting for the number of threads
        use_threads(threads)
    import_keras(find_devices=False)  # a run may choose its device
    # Imported now, once, and not in the time of the first run.
    from training import tracking

    tracking.warm_up()


def execute(job: Job, notify: Callable[[Event], None]) -> Row:
    """Train what `job` describes; whatever goes wrong is a row too.

    Args:
        job: The run.
        notify: Called with `Started` and with each `Epoch`.
    """
    from training.tracking import RunNotFound

    config = Config(**job.config)
    run_id = job.resume or ""

    def train(resume: str | None) -> Result:
        def started(begun: str) -> None:
            nonlocal run_id
            run_id = begun
            notify(Started(job.key, begun))

        _, result = train_one(config, Console(quiet=True), resume, started, [_Epochs(job.key, notify)])
        return result

    try:
        try:
            result = train(job.resume)
        except (RunNotFound, CannotResume):
            if job.resume is None:
                raise
            result = train(None)  # its checkpoint is on another machine, or deleted: start from the beginning
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return failed(job, run_id, f"{type(error).__name__}: {error}")
    finally:
        keras.utils.clear_session()
    return replace(
        failed(job, run_id, result.reason or ""),
        outcome="converged" if result.outcome == "finished" else "diverged",
        metrics=result.scores,
        history=result.history,
        epochs=len(result.history),
        seconds=result.seconds,
    )


def failed(job: Job, run_id: str, reason: str) -> Row:
    """The row of a failed run."""
    config = Config(**job.config)
    origin = environment.describe()
    return Row(
        study=job.study,
        condition=job.condition,
        dataset=job.dataset,
        seed=job.seed,
        run_id=run_id,
        outcome="failed",
        reason=reason,
        metrics={},
        history=[],
        epochs=0,
        seconds=0.0,
        machine=f"{origin.pop('machine')}, {os.cpu_count()} cores",
        threads=job.threads,
        config=config.flat(),
        environment=origin | {"ended": datetime.now(UTC).isoformat(timespec="seconds")},
        guessing=_guessing(config),
    )


class _Epochs(keras.callbacks.Callback):
    """Tells of every epoch."""

    def __init__(self, key: str, notify: Callable[[Event], None]) -> None:
        super().__init__()
        self._key, self._notify = key, notify

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._notify(Epoch(self._key, epoch + 1, self.params["epochs"]))


def _guessing(config: Config) -> float:
    """The loss of guessing; NaN where that takes data that cannot be read."""
    spec = find_dataset(config.dataset).spec
    if not TASKS[spec.task].guesses_from_data:
        return guessing(model_task(spec))
    try:
        return guessing(model_task(spec, load_data(config).train))
    except Exception:  # the row of the run already holds the error that it failed with
        return math.nan
