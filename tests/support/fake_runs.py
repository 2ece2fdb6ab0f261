"""What worker processes run in tests instead of training: the condition's label says what happens.

Every call is a line in `executions.txt` in the working directory: key, the run it goes on with, the process.
"""

import os
import signal
import time

from waiting import PATIENCE

from training.study.jobs import Epoch, Started
from training.study.results import Row


def prepare(threads):
    assert os.environ["OMP_NUM_THREADS"] == str(threads)


def execute(job, notify):
    with open("executions.txt", "a") as file:
        file.write(f"{job.key} {job.resume} {os.getpid()}\n")
    run_id = job.resume or f"run-{job.key}"
    notify(Started(job.key, run_id))
    notify(Epoch(job.key, 1, 2))
    if job.condition == "dies" or (job.condition == "dies once" and job.resume is None):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.condition == "waits" and job.resume is None:
        time.sleep(10 * PATIENCE)
    return row(job, run_id)


def row(job, run_id="", outcome="converged"):
    accuracy = {"best_validation/accuracy": 0.9, "best_validation/loss": 0.1, "test/accuracy": 0.8, "test/loss": 0.2}
    return Row(
        study=job.study,
        condition=job.condition,
        dataset=job.dataset,
        seed=job.seed,
        run_id=run_id,
        outcome=outcome,
        reason="",
        metrics=accuracy if outcome == "converged" else {},
        history=[{"train/loss": 0.2, "validation/loss": 0.1, "validation/accuracy": 0.9}],
        epochs=1,
        seconds=0.5,
        machine="a machine",
        threads=job.threads,
        config={"model.units": 4},
        environment={"backend": "none"},
        guessing=2.0,
    )
