"""The program of a worker process: `python -m training.study.worker_process DESCRIPTOR MODULE THREADS`.

It takes jobs from its end of a pipe and answers with events. The module has `prepare(threads)` and `execute(job,
notify)`. When the other end of the pipe is closed, by the study or by the study's death, the run in hand is
interrupted and the process ends at once.
"""

import importlib
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from training.study.jobs import Ended, Job

READY = "ready"

# Seconds that an interrupted run has for saying so in its records
_GRACE = 1.5


def main(descriptor: int, module: str, threads: int) -> None:
    """Take jobs until the study closes the pipe."""
    connection = Connection(descriptor)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    run = importlib.import_module(module)
    run.prepare(threads)
    connection.send(READY)
    while True:
        job = jobs.get()
        connection.send(Ended(job.key, run.execute(job, connection.send)))


def _listen(connection: "Connection[object, Job]", jobs: "queue.SimpleQueue[Job]") -> None:
    try:
        while True:
            jobs.put(connection.recv())
    except (EOFError, OSError):
        main_thread = threading.main_thread().ident
        if main_thread is not None:
            signal.pthread_kill(main_thread, signal.SIGINT)
        time.sleep(_GRACE)
        os._exit(1)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(0)  # no one reads any longer, and what the libraries do at exit may take its time
