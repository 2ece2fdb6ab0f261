"""One served model: which versions its folder holds, which is loaded, and who is using it."""

import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.errors import Code, ServingError
from serving.runtime import Model

logger = logging.getLogger(__name__)

_LARGEST_VERSION = 2**63 - 1


class State(enum.Enum):
    """Where a version is in its life, by TensorFlow Serving's names."""

    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version, and the error that ended it if there was one."""

    version: int
    state: State
    error: ServingError | None = None


@dataclass
class _Loaded:
    version: int
    model: Model
    users: int = 0
    retired: bool = False


@dataclass
class _Failure:
    retries_left: int
    next_try: float


def find_versions(base_path: Path) -> dict[int, Path]:
    """The versions in a model's folder: every folder whose name is an integer, however it is written.

    Raises:
        OSError: The folder cannot be read.
    """
    versions: dict[int, Path] = {}
    for child in sorted(base_path.iterdir()):
        name = child.name
        if name.isascii() and name.isdecimal() and int(name) <= _LARGEST_VERSION and child.is_dir():
            if int(name) in versions:
                logger.warning("%s and %s are the same version; serving the first", versions[int(name)], child)
            versions.setdefault(int(name), child)
    return versions


class ServedModel:
    """The newest version in a folder, swapped for a newer one while requests go on.

    A request holds a handle on the version it started with; a version that was replaced is freed when its last handle
    is given back. A version that fails to load is tried again a few times, and the version before it stays.

    Args:
        name: The model's name in requests.
        base_path: The folder with the versions.
        load: Loads one version's folder.
        max_num_load_retries: How often a version that failed is tried again.
        load_retry_interval: Seconds between two tries.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        load: Callable[[Path], Model],
        *,
        max_num_load_retries: int = 5,
        load_retry_interval: float = 60.0,
    ) -> None:
        self.name = name
        self.base_path = base_path
        self._load = load
        self._retries = max_num_load_retries
        self._retry_interval = load_retry_interval
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self._current: _Loaded | None = None
        self._statuses: dict[int, VersionStatus] = {}
        self._failures: dict[int, _Failure] = {}

    def load_first(self) -> int:
        """Load the newest version and return its number.

        Raises:
            ServingError: There is none, or it cannot be loaded.
        """
        self.poll()
        with self._lock:
            if self._current is not None:
                return self._current.version
            failed = [status for status in self._statuses.values() if status.error is not None]
        if failed and failed[-1].error is not None:
            error = failed[-1].error
            raise ServingError(
                error.code, f"version {failed[-1].version} of model {self.name!r} cannot be loaded: {error.message}"
            )
        hint = (
            "this is the folder of one version, give the folder that it lies in"
            if (self.base_path / "saved_model.pb").is_file()
            else f"expected folders named by integers, such as {self.base_path / '1' / 'saved_model.pb'}"
        )
        raise ServingError(Code.NOT_FOUND, f"no version of model {self.name!r} in {self.base_path}: {hint}")

    def poll(self) -> None:
        """Look into the folder once, and load the newest version if it is not the one that is served.

        A folder that is missing or empty leaves everything as it is.
        """
        with self._polling:
            try:
                versions = find_versions(self.base_path)
            except OSError as error:
                logger.warning("cannot read %s, keeping what is loaded: %s", self.base_path, error)
                return
            if not versions:
                return
            newest = max(versions)
            with self._lock:
                current = self._current.version if self._current else None
            if newest != current and self._may_try(newest):
                self._try(newest, versions[newest])

    def _may_try(self, version: int) -> bool:
        failure = self._failures.get(version)
        return failure is None or (failure.retries_left > 0 and time.monotonic() >= failure.next_try)

    def _try(self, version: int, path: Path) -> None:
        self._note(VersionStatus(version, State.LOADING))
        try:
            loaded = _Loaded(version, self._load(path))
        except ServingError as error:
            retries_left = self._failures[version].retries_left - 1 if version in self._failures else self._retries
            self._failures[version] = _Failure(retries_left, time.monotonic() + self._retry_interval)
            self._note(VersionStatus(version, State.END, error))
            logger.error(
                "version %d of model %s cannot be loaded, %s: %s",
                version,
                self.name,
                f"trying again in {self._retry_interval:g} s" if retries_left else "not trying again",
                error.described,
            )
            return
        self._failures.pop(version, None)
        with self._lock:
            replaced, self._current = self._current, loaded
            self._statuses[version] = VersionStatus(version, State.AVAILABLE)
        logger.info("serving version %d of model %s", version, self.name)
        if replaced is not None:
            self._retire(replaced)

    def _note(self, status: VersionStatus) -> None:
        with self._lock:
            self._statuses[status.version] = status

    def _retire(self, loaded: _Loaded) -> None:
        with self._lock:
            loaded.retired = True
            self._statuses[loaded.version] = VersionStatus(loaded.version, State.UNLOADING)
            unused = loaded.users == 0
        if unused:
            self._close(loaded)

    def _close(self, loaded: _Loaded) -> None:
        loaded.model.close()
        with self._lock:
            # A version may have come back while this copy of it was still in use.
            if self._statuses[loaded.version].state is State.UNLOADING:
                self._statuses[loaded.version] = VersionStatus(loaded.version, State.END)
        logger.info("unloaded version %d of model %s", loaded.version, self.name)

    @contextmanager
    def handle(self, version: int | None = None) -> Iterator[tuple[int, Model]]:
        """The version that is served now, kept loaded inside the `with` block.

        Args:
            version: The version that is wanted; None for whichever is served.

        Raises:
            ServingError: NOT_FOUND if that version is not served.
        """
        with self._lock:
            loaded = self._current
            if loaded is None or version not in (None, loaded.version):
                wanted = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
            loaded.users += 1
        try:
            yield loaded.version, loaded.model
        finally:
            with self._lock:
                loaded.users -= 1
                unused = loaded.retired and loaded.users == 0
            if unused:
                self._close(loaded)

    def statuses(self) -> list[VersionStatus]:
        """The state of every version seen so far, the newest first."""
        with self._lock:
            return [self._statuses[version] for version in sorted(self._statuses, reverse=True)]

    def close(self) -> None:
        """Serve nothing any more; what is in use is freed when it is given back."""
        with self._polling:
            with self._lock:
                current, self._current = self._current, None
            if current is not None:
                self._retire(current)
