"""One served model: the versions in its folder, those that are loaded, and their users."""

import ctypes
import enum
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from serving.errors import Code, ServingError
from serving.models.model_config import ModelConfig
from serving.release.version_folders import find_versions
from serving.runtime.model import Model

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class State(enum.Enum):
    """The states of a version, by TensorFlow Serving's names."""

    START = "START"
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


@dataclass(frozen=True)
class Retries:
    """How often a version that failed to load is tried again, and the seconds between two tries."""

    number: int = 5
    interval: float = 60.0


class _Copy:
    """A version in memory, on its way there, or as it ended. A version that comes back gets a new one."""

    def __init__(self, version: int, path: Path, retries: int) -> None:
        self.version = version
        self.path = path
        self.state = State.START
        self.model: Model | None = None
        self.users = 0
        self.error: ServingError | None = None
        self.retries_left = retries
        self.next_try = 0.0

    @property
    def has_left(self) -> bool:
        """Whether it is gone, or will be once its last user is done."""
        return self.state is State.UNLOADING or (self.state is State.END and self.error is None)

    @property
    def may_be_freed(self) -> bool:
        return self.state is State.UNLOADING and self.users == 0

    @property
    def may_be_retried(self) -> bool:
        return (
            self.state is State.END
            and self.error is not None
            and self.retries_left > 0
            and time.monotonic() >= self.next_try
        )


class Inline(Executor):
    """An executor that does the work at once, in the thread that hands it over."""

    def submit(self, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        done: Future[_T] = Future()
        done.set_result(work(*args, **kwargs))
        return done


class ServedModel:
    """The versions of one model that its policy asks for, loaded and freed while requests go on.

    A request holds a handle on the version it started with; a version that is not wanted any more is freed when its
    last handle is given back. The last version that is served is kept until one of those that are wanted instead is
    loaded. A version that fails to load is tried again a few times.

    Args:
        name: The model's name in requests.
        load: Loads one version's folder.
        retries: What happens to a version that failed.
        unloading: Where versions are freed.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[Path], Model],
        retries: Retries | None = None,
        unloading: Executor | None = None,
    ) -> None:
        self.name = name
        self._load = load
        self._retries = retries or Retries()
        self._unloading = unloading or Inline()
        self._config: ModelConfig | None = None
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self._copies: dict[int, _Copy] = {}
        self._wanted: set[int] = set()
        self._latest: _Copy | None = None

    @property
    def config(self) -> ModelConfig | None:
        """What is served; None if nothing is any more."""
        return self._config

    def configure(self, config: ModelConfig | None) -> None:
        """Change what the next poll serves; with None, free everything now.

        A version number that is loaded stays what it is, even if the new base path holds it too.
        """
        with self._polling:
            if config is None or self._config is None or config.base_path != self._config.base_path:
                with self._lock:
                    self._forget_failures(set(self._copies))
            self._config = config
            if config is None:
                with self._lock:
                    self._wanted = set()
                self._settle()

    def poll(self, loading: Executor | None = None) -> list[Future[None]]:
        """Look into the folder once: load the versions that are wanted and not there, free those not wanted.

        A folder that is missing leaves everything as it is; one without versions frees everything.

        Args:
            loading: Where versions are loaded; None loads them here, before this returns.

        Returns:
            The loads that have begun.
        """
        with self._polling:
            if self._config is None:
                return []
            try:
                wanted = self._config.policy.choose(find_versions(self._config.base_path))
            except OSError as error:
                # A disk that is away for a moment must not end the service.
                logger.warning("cannot read %s, keeping what is loaded: %s", self._config.base_path, error)
                return []
            with self._lock:
                self._wanted = set(wanted)
                self._forget_failures(set(self._copies) - self._wanted)
                begun = self._begin(wanted)
            self._settle()
            return [(loading or Inline()).submit(self._try, copy) for copy in begun]

    def _forget_failures(self, versions: set[int]) -> None:
        """Give versions all their tries again, should they be wanted once more."""
        for version in versions:
            self._copies[version].retries_left = self._retries.number
            self._copies[version].next_try = 0.0

    def _begin(self, wanted: dict[int, Path]) -> list[_Copy]:
        begun = []
        for version, path in wanted.items():
            copy = self._copies.get(version)
            if copy is None or copy.has_left:
                copy = self._copies[version] = _Copy(version, path, self._retries.number)
            elif copy.may_be_retried:
                copy.path = path
                copy.state = State.START
                copy.retries_left -= 1
            else:
                continue
            begun.append(copy)
        return begun

    def _try(self, copy: _Copy) -> None:
        with self._lock:
            # It waited for a thread, and the policy may have changed meanwhile.
            if copy.version not in self._wanted:
                copy.state, copy.error = State.END, None
                return
            copy.state = State.LOADING
        try:
            model = self._load(copy.path)
        except ServingError as error:
            self._failed(copy, error)
        except Exception as error:
            # Whatever a version does to the loader, the server keeps serving the others.
            logger.exception("loading version %d of model %s failed", copy.version, self.name)
            self._failed(copy, ServingError(Code.INTERNAL, f"loading failed: {error!r}"))
        else:
            with self._lock:
                copy.model, copy.error, copy.state = model, None, State.AVAILABLE
                self._update_latest()
            logger.info("serving version %d of model %s", copy.version, self.name)
        self._settle()

    def _failed(self, copy: _Copy, error: ServingError) -> None:
        with self._lock:
            copy.error, copy.state = error, State.END
            copy.next_try = time.monotonic() + self._retries.interval
        logger.error(
            "version %d of model %s cannot be loaded, %s: %s",
            copy.version,
            self.name,
            f"trying again in {self._retries.interval:g} s" if copy.retries_left else "not trying again",
            error.described,
        )

    def _settle(self) -> None:
        """Retire versions that the policy no longer asks for, but never the last before another is loaded."""
        with self._lock:
            # Requests must always find a version: until a wanted one is loaded, the newest old one stays.
            served = [copy for copy in self._copies.values() if copy.state is State.AVAILABLE]
            retired = sorted(
                (copy for copy in served if copy.version not in self._wanted), key=lambda copy: copy.version
            )
            if self._wanted and len(retired) == len(served):
                retired = retired[:-1]
            for copy in retired:
                copy.state = State.UNLOADING
            self._update_latest()
            # The others are freed by the request that gives back the last handle.
            unused = [copy for copy in retired if copy.users == 0]
        for copy in unused:
            self._free(copy)

    def _update_latest(self) -> None:
        served = [copy for copy in self._copies.values() if copy.state is State.AVAILABLE]
        self._latest = max(served, key=lambda copy: copy.version, default=None)

    def _free(self, copy: _Copy) -> None:
        try:
            self._unloading.submit(self._close, copy)
        except RuntimeError:  # the pool has been shut down: this was a last request, after the server had stopped
            self._close(copy)

    def _close(self, copy: _Copy) -> None:
        # Outside the lock: freeing a large model takes long, and requests for other versions must not wait.
        model, copy.model = copy.model, None
        try:
            if model is not None:
                model.close()
        except ServingError as error:
            logger.error("version %d of model %s was not freed: %s", copy.version, self.name, error.described)
        with self._lock:
            copy.state = State.END
        _give_memory_back()
        logger.info("unloaded version %d of model %s", copy.version, self.name)

    @contextmanager
    def handle(self, version: int | None = None) -> Iterator[tuple[int, Model]]:
        """A version that is served now, kept loaded inside the `with` block.

        Args:
            version: The version that is wanted; None for the newest that is served.

        Raises:
            ServingError: NOT_FOUND if that version is not served.
        """
        with self._lock:
            copy = self._latest if version is None else self._copies.get(version)
            if copy is None or copy.state is not State.AVAILABLE or copy.model is None:
                served = sorted(key for key, each in self._copies.items() if each.state is State.AVAILABLE)
                raise not_found(self.name, version, listed(f"versions of {self.name} here", served))
            copy.users += 1
            model = copy.model
        try:
            yield copy.version, model
        finally:
            with self._lock:
                copy.users -= 1
                may_be_freed = copy.may_be_freed
            if may_be_freed:
                self._free(copy)

    def statuses(self) -> list[VersionStatus]:
        """The state of every version seen so far, the newest first."""
        with self._lock:
            copies = sorted(self._copies.items(), reverse=True)
            return [VersionStatus(version, copy.state, copy.error) for version, copy in copies]


def _give_memory_back() -> None:
    """Let the C library return what it keeps of freed memory: 0.4 MB a swap of even a small model, under load."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)


def not_found(name: str, version: int | None, there: str) -> ServingError:
    """The error for a model, or a version of it, that is not served: TensorFlow Serving's message, and what is there.

    Args:
        name: The model that was wanted.
        version: The version that was wanted; None for the newest.
        there: What is served, such as "models here: digits, speakers".
    """
    wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}; {there}")


def listed(kind: str, names: Iterable[object]) -> str:
    """What there is of a kind.

    Example:
    >>> listed("models", ["digits", "speakers"]), listed("versions of digits", [])
    ('models: digits, speakers', 'versions of digits: none')
    """
    return f"{kind}: {', '.join(map(str, names)) or 'none'}"
