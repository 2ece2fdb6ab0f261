"""Which versions of a model are served, and under which labels: `models.config`, which TensorFlow Serving polls.

    models/models.config            all models: where they are, which versions, which label on which version
    models/<name>/labels.json       the versions that each label has been on, oldest first; since when each is served

A version is served while a label is on it, and while it is the one that a label was on before, so that a rollback finds
it loaded. TensorFlow Serving sets labels before it loads anything: where an existing label is to move to a version that
is not loaded, it refuses the whole file, at every poll, and never loads that version. So a version is put into the file
first, and the label on it once the servers have read that.

The history is written first and `models.config` last, each whole or not at all. The history is read only as far as the
version that `models.config` says, so whatever a crash between the two has left there, the same command again is right.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from google.protobuf import text_format

from serving.config_protos import model_server_config, read_text_proto
from serving.errors import ServingError
from serving.release.files import write_safely
from serving.release.version_folders import complete_versions

CONFIG = "models.config"
HISTORY = "labels.json"

# So many versions of a label are remembered.
_KEPT = 50

# Given the folder of a version, and since when (seconds since 1970) it is to be served: returns once it is loaded.
Wait = Callable[[Path, float], None]


class PromotionError(ValueError):
    """The version or the label cannot be served as requested."""

    exit_code = 2


@dataclass(frozen=True)
class Promotion:
    """The result of a change of a label.

    Attributes:
        config: The `models.config` that says so.
        version: The version that now has the label.
        before: The version that had it, or `None`.
        served: All versions of the model that are served now.
        base_path: Where the server looks for the model.
    """

    config: Path
    version: int
    before: int | None
    served: tuple[int, ...]
    base_path: str


def version_folder(root: Path, name: str, version: int) -> Path:
    """The folder of one version.

    Raises:
        PromotionError: It is not there.
    """
    there = complete_versions(root / name)
    if version not in there:
        versions = f"its versions are {', '.join(map(str, there))}" if there else f"{root / name} has no version at all"
        raise PromotionError(f"there is no version {version} of {name} in {root}: {versions}; zoo export makes one")
    return there[version]


def promote(
    root: Path,
    name: str,
    version: int,
    label: str,
    served_at: str | None,
    wait: Wait,
    announce: Callable[[Path], None],
) -> Promotion:
    """Put `label` on a version of a model.

    Args:
        root: The folder with the models and `models.config`.
        name: The model.
        version: Which is in `root/name`.
        label: Taken away from whatever version has it.
        served_at: Where the server sees `root`; `None` leaves the model where it is, or puts a new one beside the
            others, or at the absolute path of `root` where it is the first.
        wait: Called where a label moves from one version to another. What it raises undoes everything.
        announce: Called with the version's folder before the servers get to know of the label.

    Raises:
        PromotionError: The version is not there, or `models.config` cannot be understood.
    """
    with _open(root) as file:
        folder = version_folder(root, name, version)
        entry = file.entry(name, served_at)
        past = file.past(entry, label)
        if not past or past[-1] != version:
            past.append(version)
        return file.put(entry, label, folder, past, wait, announce)


def rollback(root: Path, name: str, label: str, wait: Wait, announce: Callable[[Path], None]) -> Promotion:
    """Put `label` back on the version that had it before.

    Args:
        root: The folder with the models and `models.config`.
        name: The model.
        label: A label of it.
        wait: As of `promote`.
        announce: As of `promote`.

    Raises:
        PromotionError: The model or the label is unknown, there was no version before, or its folder is gone.
    """
    with _open(root) as file:
        entry = file.found(name)
        labels = dict(entry.version_labels) if entry is not None else {}
        if label not in labels:
            known = f"its labels are {', '.join(sorted(labels))}" if labels else "it was never promoted"
            raise PromotionError(f"{name} has no label {label!r} in {file.path}: {known}")
        past = file.past(entry, label)
        if len(past) < 2:
            raise PromotionError(
                f"the label {label!r} of {name} has been on version {past[-1]} only, so there is none to go back to; "
                "zoo promote puts it on another"
            )
        return file.put(entry, label, version_folder(root, name, past[-2]), past, wait, announce)


@contextmanager
def _open(root: Path) -> Iterator["_ModelsConfig"]:
    if not root.is_dir():
        raise PromotionError(f"there is no folder {root}; zoo export makes it, --root names another")
    with FileLock(root / f".{CONFIG}.lock"):
        yield _ModelsConfig(root)


class _ModelsConfig:
    """`models.config` under a lock. Other models, and comments before the first line, are kept."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / CONFIG
        self._config = self._read()
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        lines = text.splitlines(keepends=True)
        first = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
        self._head = "".join(lines[:first])
        self._histories: dict[str, dict[str, dict[str, Any]]] = {}

    def _read(self) -> Any:
        """The message in the file; an empty one where there is no file."""
        if not self.path.exists():
            return model_server_config()()
        try:
            config = read_text_proto(self.path, model_server_config())
        except ServingError as error:
            raise PromotionError(error.message) from error
        if config.HasField("custom_model_config"):
            raise PromotionError(f"{self.path} has a custom_model_config; labels need a model_config_list")
        # A server refuses such a file at every poll, so a label in it would never move.
        names = Counter(entry.name for entry in config.model_config_list.config)
        for name in [name for name, count in names.items() if count > 1]:
            raise PromotionError(f"{self.path}: Illegal to list model {name} multiple times in config list")
        return config

    def found(self, name: str) -> Any:
        """The entry of a model, or `None`."""
        return next((entry for entry in self._config.model_config_list.config if entry.name == name), None)

    def entry(self, name: str, served_at: str | None) -> Any:
        """The entry of a model, added if missing."""
        others = {entry.base_path.rpartition("/")[0] for entry in self._config.model_config_list.config}
        entry = self.found(name)
        if entry is None:
            entry = self._config.model_config_list.config.add(name=name, model_platform="tensorflow")
            place = served_at or (others.pop() if len(others) == 1 else str(self.root.resolve()))
            entry.base_path = f"{place.rstrip('/')}/{name}"
        elif served_at is not None:
            entry.base_path = f"{served_at.rstrip('/')}/{name}"
        return entry

    def past(self, entry: Any, label: str) -> list[int]:
        """The versions that a label has been on, up to the one that it is on now."""
        past: list[int] = list(self._history(entry.name)["labels"].get(label, []))
        if label not in entry.version_labels:
            return past
        now = int(entry.version_labels[label])
        if now not in past:
            return [*past, now]  # put there by hand
        return past[: len(past) - past[::-1].index(now)]

    def _history(self, name: str) -> dict[str, dict[str, Any]]:
        path = self.root / name / HISTORY
        if name not in self._histories:
            history: dict[str, dict[str, Any]] = {"labels": {}, "since": {}}
            try:
                history |= json.loads(path.read_text()) if path.exists() else {}
            except (ValueError, TypeError) as error:
                raise PromotionError(
                    f"{path} is damaged ({error}); delete it, and the labels start with an empty history"
                ) from error
            self._histories[name] = history
        return self._histories[name]

    def put(
        self, entry: Any, label: str, folder: Path, past: list[int], wait: Wait, announce: Callable[[Path], None]
    ) -> Promotion:
        """Put a label on the version in `folder`; its history, `past`, is written first."""
        version = int(folder.name)
        before = int(entry.version_labels[label]) if label in entry.version_labels else None
        for other, labelled in entry.version_labels.items():
            if other != label:
                version_folder(self.root, entry.name, labelled)  # a server refuses the whole file for one that is gone
        if before not in (None, version) and not entry.model_version_policy.HasField("all"):
            self._load_first(entry, folder, wait)
        announce(folder)
        self._history(entry.name)["labels"][label] = past[-_KEPT:]
        entry.version_labels[label] = version
        return Promotion(self.path, version, before, self._write(entry), entry.base_path)

    def _load_first(self, entry: Any, folder: Path, wait: Wait) -> None:
        """Let the servers load a version while all labels stay where they are."""
        text, version = self.path.read_bytes(), int(folder.name)
        if version not in entry.model_version_policy.specific.versions:
            self._write(entry, version)
        try:
            wait(folder, self._history(entry.name)["since"].get(str(version), self.path.stat().st_mtime))
        except BaseException:  # Ctrl-C too
            write_safely(self.path, text)
            raise

    def _write(self, entry: Any, *more: int) -> tuple[int, ...]:
        """Write history and configuration. Unless all versions are served, those are that labels need, and `more`."""
        served = list(complete_versions(self.root / entry.name))
        history, listed = self._history(entry.name), set(entry.model_version_policy.specific.versions)
        if not entry.model_version_policy.HasField("all"):
            needed = {version for label in entry.version_labels for version in self.past(entry, label)[-2:]}
            served = [version for version in served if version in needed.union(more)]
            entry.model_version_policy.specific.versions[:] = served
        known = {int(version): since for version, since in history["since"].items() if int(version) in listed}
        history["since"] = {str(version): known.get(version, time.time()) for version in served}
        write_safely(self.root / entry.name / HISTORY, json.dumps(history, indent=1).encode() + b"\n")
        write_safely(self.path, (self._head + str(text_format.MessageToString(self._config))).encode())
        return tuple(served)
