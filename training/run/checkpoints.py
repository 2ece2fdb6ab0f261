"""Checkpoints, from which a killed run is resumed with the same result.

The local folder of a run, `mlruns/runs/<run id>/`, holds its configuration and its last two checkpoints until the run
has ended. A checkpoint is one `.npz` file with everything that later epochs depend on: weights, optimizer, best epoch
and history. Nothing else is needed, since the order of the data and its augmentations are functions of seed and epoch,
and the generators of dropout are variables of the model.
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

# Largest share of the training time that writing checkpoints may take.
_COST = 0.02

_NAME = re.compile(r"epoch-(\d{6})-([0-9a-f]{16})\.npz")


class CannotResume(RuntimeError):
    """A run cannot be resumed; the message says why."""

    exit_code = 2


class CheckpointNotWritten(OSError):
    """A checkpoint could not be written, for example on a full disk; earlier ones are intact."""

    exit_code = 1


@dataclass
class Checkpoint:
    """The state of a run after an epoch.

    Attributes:
        epochs: Number of finished epochs.
        facts: Values for JSON: history, seconds, best epoch.
        arrays: Variables by name.
    """

    epochs: int
    facts: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(repr=False)


class Checkpoints:
    """The checkpoints in one folder.

    A checkpoint is written under another name, flushed to the disk and renamed, and its name ends with the hash of its
    content. So after a power cut the last checkpoint or the one before it is intact, and an incomplete one is detected.

    Args:
        folder: The folder, which no other process uses; created if missing.

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
        """Whether the next checkpoint is due: writing takes at most 2 % of a long run."""
        return self._cost <= _COST * (time.perf_counter() - self._last)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and delete all but the last two.

        Raises:
            CheckpointNotWritten: The disk is full or cannot be written; earlier checkpoints are unchanged.
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
                "Free some space, then continue with zoo train --resume"
            ) from error
        for old in self._paths()[KEPT:]:
            old.unlink(missing_ok=True)
        self._last = time.perf_counter()
        self._cost = self._last - started

    def latest(self) -> Checkpoint | None:
        """Read the newest checkpoint whose content matches the hash in its name, or return `None`."""
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
    """The folder with what is needed to resume the run called `run_id`."""
    return Path("mlruns/runs") / run_id


def find(beginning: str) -> str:
    """Find a run by the beginning of its id, among the folders of runs.

    This needs no tracking store, so it also works where MLflow is not installed.

    Raises:
        CannotResume: No id begins like this, or more than one does.
    """
    here = sorted(path.parent.name for path in folder_of("").glob("*/run.json"))
    hits = [run_id for run_id in here if beginning and run_id.startswith(beginning)]
    if len(hits) != 1:
        found = ", ".join(run_id[:8] for run_id in hits or here) or "none"
        raise CannotResume(f"{len(hits)} runs begin with {beginning!r} in {folder_of('')}, expected 1; there: {found}")
    return hits[0]


@contextmanager
def in_folder(run_id: str) -> Iterator[Path]:
    """Lock the folder of a run, so that no other process works on it.

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
    """Write what must not change when a run is resumed: its configuration and digests of the data."""
    write_safely(folder / "run.json", json.dumps(description, indent=2).encode())


def read_description(run_id: str) -> dict[str, Any]:
    """Read what `write_description` wrote.

    Raises:
        CannotResume: The file is missing or damaged.
    """
    path = folder_of(run_id) / "run.json"
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise CannotResume(
            f"run {run_id[:8]} has no {path} here: it has ended, or was started from another working directory"
        ) from None
    except ValueError as error:
        raise CannotResume(f"{path} is damaged ({error}): start a new run") from None


def check_description(run_id: str, description: Mapping[str, Any]) -> None:
    """Check that a run is resumed with the same configuration and the same data.

    Raises:
        CannotResume: Something differs; the message says what.
    """
    kept = read_description(run_id)
    if kept["config"] != _as_kept(description["config"], kept["config"]):
        raise CannotResume(
            f"run {run_id[:8]} was started with another configuration, which is in {folder_of(run_id) / 'run.json'}: "
            "resume it with that one, or start a new run"
        )
    for part, digest in description["data"].items():
        if kept["data"][part] != digest:
            raise CannotResume(
                f"the {part} data of run {run_id[:8]} has changed since it was started (digest {digest[:16]}, was "
                f"{kept['data'][part][:16]}): a resumed run would mix both; start a new run"
            )


def _as_kept(config: Any, kept: Any) -> Any:
    """Leave out the keys of a configuration that the stored one, of an earlier version, lacks."""
    if not isinstance(config, Mapping) or not isinstance(kept, Mapping):
        return config
    return {key: _as_kept(value, kept[key]) for key, value in config.items() if key in kept}


def forget(run_id: str) -> None:
    """Delete the folder of a run that has ended."""
    shutil.rmtree(folder_of(run_id), ignore_errors=True)


def remember(model: Any) -> dict[str, NDArray[Any]]:
    """Copy all variables of a compiled model and its optimizer, by position."""
    variables = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {
        f"{part}/{place}": variable.numpy() for part, those in variables.items() for place, variable in enumerate(those)
    }


def restore(model: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Set all variables of a compiled model and its optimizer to values from `remember`.

    Raises:
        CannotResume: The values belong to another model.
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
