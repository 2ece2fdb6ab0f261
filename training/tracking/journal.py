"""What a run reports to the tracking store, written to a file first, so that no store can lose it or delay the run.

Knows neither MLflow nor the network. `delivery.py` reads the journal and sends it.
"""

import json
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from training.files import write_safely

Event = dict[str, Any]

NAME = "journal.jsonl"
OUTBOX = "outbox"


class JournalInUse(RuntimeError):
    """Another process writes this run's journal, or delivers it."""

    exit_code = 1


class JournalNotWritten(OSError):
    """The journal cannot be written, for example on a full disk."""

    exit_code = 1


class Journal:
    """The events of one run, one JSON object a line, and how far they have been delivered.

    It may be appended to from one thread and read from another. A line that a killed process left half written is
    dropped when the journal is opened again.

    Args:
        folder: The folder of the run; created if missing.
        store: The store that the events are for, without a password; kept in the first line.
        run: In place of `store`, where there is none yet: what a store needs to make the run. With neither, a journal
            that is there is opened.

    Attributes:
        store: The store in the first line; `None` where no store knows the run yet.
        run: What a store needs to create the run, where no store knows it yet.

    Raises:
        FileNotFoundError: No journal is there, and neither `store` nor `run` was given.
        JournalInUse: Another process has it.
        JournalNotWritten: The disk is full or cannot be written.

    Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     journal = Journal(Path(folder), "sqlite:///mlflow.db")
    ...     journal.append("tags", values={"seed": "0"})
    ...     [(event, end)] = journal.pending()
    ...     journal.delivered_to(end)
    ...     event["kind"], journal.pending(), journal.close()
    ('tags', [], None)
    """

    def __init__(self, folder: Path, store: str | None = None, run: Event | None = None) -> None:
        # Absolute, since a delivery may outlive a change of the working directory.
        self.folder = folder.resolve()
        self._path, self._mark = self.folder / NAME, self.folder / "journal.delivered"
        if store is None and run is None and not self._path.exists():
            raise FileNotFoundError(f"there is no {self._path}")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / "journal.lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise JournalInUse(f"{self._path} is in use by another process: wait for it, or stop it") from None
        self._writing = threading.Lock()
        self._drop_half_a_line()
        if not self._path.stat().st_size:
            self.append("store", uri=store, run=run)
        self._read_first_line()

    def _read_first_line(self) -> None:
        with self._path.open("rb") as file:
            first = file.readline()
        about = _parsed(first) or {}
        self.store: str | None = about.get("uri")
        self.run: Event = about.get("run") or {}
        self._delivered = max(self._marked(), len(first))

    def _drop_half_a_line(self) -> None:
        try:
            with self._path.open("ab+") as file:
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        except OSError as error:
            raise JournalNotWritten(f"{self._path} cannot be written: {error}") from error

    def _marked(self) -> int:
        try:
            return int(self._mark.read_text())
        except (OSError, ValueError):
            return 0  # what is delivered twice does no harm

    @property
    def outbox(self) -> Path:
        """Where files wait that are to become artifacts."""
        return self.folder / OUTBOX

    def append(self, kind: str, **content: Any) -> None:
        """Write down an event: by the time this returns a killed process cannot lose it.

        Raises:
            JournalNotWritten: The disk is full or refuses.
        """
        line = json.dumps({"kind": kind, **content}).encode() + b"\n"
        try:
            with self._writing, self._path.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise JournalNotWritten(
                f"{self._path} cannot be written: {error}. Free some space, then continue with zoo train --resume"
            ) from error

    def pending(self) -> list[tuple[Event, int]]:
        """The events that are not delivered yet, in order, and for each the place behind it."""
        return self._read(self._delivered)

    def all(self) -> list[Event]:
        """Every event, delivered or not."""
        return [event for event, _ in self._read(0)]

    @property
    def has_ended(self) -> bool:
        """Whether the last word on the run is how it ended."""
        return bool(self.all()[-1]["kind"] == "end")

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended in a way after which it is never resumed."""
        return any(event["kind"] == "end" and event["complete"] for event in self.all())

    def belongs_to(self, store: str) -> None:
        """Let `store` be the one that the events are for; nothing counts as delivered."""
        _, _, events = self._path.read_bytes().partition(b"\n")
        self._mark.unlink(missing_ok=True)
        write_safely(self._path, json.dumps({"kind": "store", "uri": store}).encode() + b"\n" + events)
        self._read_first_line()

    def _read(self, place: int) -> list[tuple[Event, int]]:
        with self._writing, self._path.open("rb") as file:
            file.seek(place)
            lines = file.readlines()
        events = []
        for line in lines:
            place += len(line)
            event = _parsed(line)
            if event is not None:
                events.append((event, place))
        return events

    def delivered_to(self, place: int) -> None:
        """Remember that everything before `place` has arrived."""
        self._delivered = place
        with suppress(OSError):  # it will then be delivered twice, which does no harm
            self._mark.write_text(str(place))

    def close(self) -> None:
        """Let other processes have the journal."""
        self._lock.release()

    def discard(self) -> None:
        """Close the journal and delete it, with the files that waited."""
        shutil.rmtree(self.outbox, ignore_errors=True)
        for path in (self._path, self._mark):
            path.unlink(missing_ok=True)
        self.close()


def _parsed(line: bytes) -> Event | None:
    """The event in a line, or `None` of what a power cut left there."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return None
