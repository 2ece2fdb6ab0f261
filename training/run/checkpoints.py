"""What a killed run needs to be resumed as if nothing had happened.

The local folder of a run, `mlruns/runs/<run id>/`, holds its configuration and its last two checkpoints until the run
has ended. A checkpoint is one `.npz` file: everything that the epochs after it depend on. The order of the data and
its augmentations are functions of seed and epoch, and the generators of dropout are variables of the model, so weights,
optimizer, best epoch and history are all there is.
"""

import hashlib
import io
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from training.files import UNFINISHED, write_safely

KEPT = 2

# Share of the time that checkpoints may take: the next one waits until the last one was worth it.
_COST = 0.02

_NAME = re.compile(r"epoch-(\d{6})-([0-9a-f]{16})\.npz")


class CannotResume(RuntimeError):
    """A run that cannot be resumed, and why."""

    exit_code = 2


class CheckpointNotWritten(OSError):
    """A checkpoint could not be written, as on a full disk; those before it are whole."""

    exit_code = 1


@dataclass
class Checkpoint:
    """The state of a run after an epoch.

    Attributes:
        epochs: Epochs finished.
        facts: What JSON can hold: history, seconds, best epoch.
        arrays: Variables by name.
    """

    epochs: int
    facts: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)


class Checkpoints:
    """The checkpoints in one folder.

    A checkpoint is written under another name, flushed to the disk and renamed, and its name ends with the hash of what
    is in it: a power cut leaves the last one or the one before it, never half of one that passes for whole.

    Args:
        folder: Where they are, this process's alone; made if missing.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(Path(folder))
    ...     for epochs in (1, 2, 3):
    ...         checkpoints.save(Checkpoint(epochs, {"seconds": 0.5 * epochs}, {"kernel": np.ones(2, "float32")}))
    ...     sorted(path.name[:12] for path in Path(folder).iterdir()), checkpoints.latest().facts
    (['epoch-000002', 'epoch-000003'], {'seconds': 1.5})
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(f".*{UNFINISHED}"):
            left_over.unlink()
        self._cost, self._last = 0.0, time.perf_counter()

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed for the next one: writing takes at most 2 % of a long run."""
        return self._cost <= _COST * (time.perf_counter() - self._last)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and delete all but the last two.

        Raises:
            CheckpointNotWritten: The disk is full or refuses; earlier checkpoints are as they were.
        """
        started = time.perf_counter()
        facts = np.frombuffer(json.dumps(checkpoint.facts).encode(), np.uint8)
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f"array/{name}": array for name, array in checkpoint.arrays.items()}
        np.savez(buffer, facts=facts, **arrays)
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:16]
        path = self.folder / f"epoch-{checkpoint.epochs:06}-{digest}.npz"
        try:
            write_safely(path, buffer.getbuffer())
        except OSError as error:
            raise CheckpointNotWritten(
                f"no checkpoint after epoch {checkpoint.epochs} could be written to {self.folder}: {error}. "
                "Free some space, then go on with zoo train --resume"
            ) from error
        for old in self._paths()[KEPT:]:
            old.unlink(missing_ok=True)
        self._last = time.perf_counter()
        self._cost = self._last - started

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is what its name says, or `None`. A damaged one is passed over."""
        for path in self._paths():
            content = path.read_bytes()
            epochs, digest = _NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
            if hashlib.sha256(content).hexdigest()[:16] != digest:
                continue
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = {name.removeprefix("array/"): archive[name] for name in archive if name != "facts"}
                return Checkpoint(int(epochs), json.loads(archive["facts"].tobytes()), arrays)
        return None

    def _paths(self) -> list[Path]:
        """Newest first."""
        return sorted((path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


# === The folder of a run ===


def folder_of(run_id: str) -> Path:
    """Where the run called `run_id` keeps what resuming it takes."""
    return Path("mlruns/runs") / run_id


def find(beginning: str) -> str:
    """The id of the run with a folder here whose id begins so; for where no store knows the runs.

    Raises:
        CannotResume: None does, or more than one.
    """
    here = sorted(path.parent.name for path in folder_of("").glob("*/run.json"))
    hits = [run_id for run_id in here if beginning and run_id.startswith(beginning)]
    if len(hits) != 1:
        found = ", ".join(run_id[:8] for run_id in hits or here) or "none"
        raise CannotResume(f"{len(hits)} runs begin with {beginning!r} in {folder_of('')}, expected 1; there: {found}")
    return hits[0]


@contextmanager
def in_folder(run_id: str) -> Iterator[Path]:
    """The folder of a run, for this process alone.

    Raises:
        CannotResume: Another process is working on the run.
    """
    folder = folder_of(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield folder
    except Timeout:
        raise CannotResume(f"run {run_id[:8]} is being trained by another process: wait for it, or stop it") from None


def write_description(folder: Path, description: Mapping[str, Any]) -> None:
    """Keep what must not change between the parts of a run: configuration and digests of the data."""
    write_safely(folder / "run.json", json.dumps(description, indent=2).encode())


def read_description(run_id: str) -> dict[str, Any]:
    """What `write_description` kept.

    Raises:
        CannotResume: Nothing is there.
    """
    path = folder_of(run_id) / "run.json"
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise CannotResume(
            f"run {run_id[:8]} has no {path} here: it has ended, or was started from another working directory"
        ) from None
    except ValueError as error:
        raise CannotResume(f"{path} is damaged ({error}): start the run anew") from None


def check_description(run_id: str, description: Mapping[str, Any]) -> None:
    """Refuse to resume with another configuration or other data.

    Raises:
        CannotResume: Something differs; the message says what.
    """
    kept = read_description(run_id)
    if kept["config"] != _as_kept(description["config"], kept["config"]):
        raise CannotResume(f"run {run_id[:8]} was started with another configuration: {folder_of(run_id) / 'run.json'}")
    for part, digest in description["data"].items():
        if kept["data"][part] != digest:
            raise CannotResume(
                f"the {part} data of run {run_id[:8]} has changed since it was started (digest {digest[:16]}, was "
                f"{kept['data'][part][:16]}): a resumed run would be neither the one nor the other; start anew"
            )


def _as_kept(config: Any, kept: Any) -> Any:
    """A configuration without the keys that an earlier version did not have."""
    if not isinstance(config, Mapping) or not isinstance(kept, Mapping):
        return config
    return {key: _as_kept(value, kept[key]) for key, value in config.items() if key in kept}


def forget(run_id: str) -> None:
    """Delete the folder of a run that has ended."""
    shutil.rmtree(folder_of(run_id), ignore_errors=True)


def remember(model: Any) -> dict[str, NDArray[Any]]:
    """All variables of a compiled model and its optimizer, by their places."""
    variables = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {
        f"{part}/{place}": variable.numpy() for part, those in variables.items() for place, variable in enumerate(those)
    }


def restore(model: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Set all variables of a compiled model and its optimizer to what `remember` gave.

    Raises:
        CannotResume: They are those of another model.
    """
    model.optimizer.build(model.trainable_variables)
    for part, those in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        kept = [name for name in arrays if name.startswith(f"{part}/")]
        if len(kept) != len(those):
            raise CannotResume(f"the checkpoint has {len(kept)} variables of the {part}, expected {len(those)}")
        for place, variable in enumerate(those):
            value = arrays[f"{part}/{place}"]
            if tuple(value.shape) != tuple(variable.shape):
                raise CannotResume(
                    f"variable {variable.path} has shape {tuple(variable.shape)}, the checkpoint {value.shape}"
                )
            variable.assign(value)
