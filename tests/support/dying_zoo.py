"""The `zoo` command, in a process that kills itself with SIGKILL at a chosen point of a training run.

    python tests/support/dying_zoo.py POINT EPOCH train ...

Nobody has to hit a moment from outside, so the point is the same however fast or busy the machine is. Checkpoints are
written after every epoch. POINT is one of:

    started     the run has its folder and its description, and no epoch has begun
    training    in EPOCH (1 is the first), after its first batch
    writing     while the checkpoint of EPOCH is written: half of its bytes lie on the disk, under the hidden name
    written     right after the checkpoint of EPOCH has its name
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import keras

from training.run import checkpoints, loop
from zoo import cli


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(point: str, epoch: int) -> None:
    """Let this process die when it gets to `point`."""
    checkpoints.Checkpoints.is_due = True  # type: ignore[assignment, method-assign]
    save, write = checkpoints.Checkpoints.save, checkpoints.write_safely
    if point == "started":
        loop.run = lambda *_: die()
    elif point == "training":
        train = loop.run
        loop.run = lambda config, callbacks, *rest: train(config, [*callbacks, Dies(epoch)], *rest)
    elif point == "writing":

        def half(path: Path, content: Any) -> None:
            if path.name.startswith(f"epoch-{epoch:06}"):
                (path.parent / f".{path.name}.half{checkpoints.UNFINISHED}").write_bytes(content[: len(content) // 2])
                die()
            write(path, content)

        checkpoints.write_safely = half
    elif point == "written":

        def saved(self: Any, checkpoint: Any) -> None:
            save(self, checkpoint)
            if checkpoint.epochs == epoch:
                die()

        checkpoints.Checkpoints.save = saved  # type: ignore[method-assign]
    else:
        sys.exit(f"unknown point {point!r}")


class Dies(keras.callbacks.Callback):
    """Dies after the first batch of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch, self._now = epoch, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._now = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._now == self._epoch:
            die()


if __name__ == "__main__":
    arrange(sys.argv[1], int(sys.argv[2]))
    cli.main(sys.argv[3:])
