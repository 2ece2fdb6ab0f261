"""Delivering a journal: in order, from one background thread, again and again until the store takes it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from training.tracking.journal import Event, Journal

# Receives events of one kind, which follow each other.
Send = Callable[[Sequence[Event]], None]

# Seconds between two deliveries: epochs that are shorter travel together, which costs training less.
PACE = 4.0

# Most seconds between two attempts.
LONGEST = 30.0

# Most events in one delivery.
_TOGETHER = 100


class Refused(Exception):
    """The store is alive and will never take this."""


def deliver(journal: Journal, send: Send, refused: list[str]) -> None:
    """Send what is pending.

    Args:
        journal: Whose.
        send: Takes the events or raises.
        refused: Gets why the store refused what it refused; that is not tried again.

    Raises:
        Exception: What `send` raised, other than `Refused`; nothing after that event has been sent.
    """
    while pending := journal.pending():
        for events, end in _groups(pending):
            try:
                send(events)
            except Refused as error:
                refused.append(str(error))
            journal.delivered_to(end)


def _groups(pending: Sequence[tuple[Event, int]]) -> Iterator[tuple[list[Event], int]]:
    """Metrics that follow each other together, anything else by itself."""
    group: list[Event] = []
    last = 0
    for event, end in pending:
        if group and (event["kind"] != "metrics" or group[-1]["kind"] != "metrics" or len(group) == _TOGETHER):
            yield group, last
            group = []
        group.append(event)
        last = end
    if group:
        yield group, last


class Courier:
    """Delivers a journal while something else goes on.

    Args:
        journal: What to deliver.
        send: As of `deliver`.

    Attributes:
        refused: As of `deliver`.
    """

    def __init__(self, journal: Journal, send: Send) -> None:
        self._journal, self._send = journal, send
        self.refused: list[str] = []
        self._changed = threading.Condition()
        self._waiting = self._hurried = self._stopped = self._sending = self._files = False
        self._error: Exception | None = None
        self._arrived = time.monotonic()
        threading.Thread(target=self._work, name="delivery", daemon=True).start()

    def wake(self) -> None:
        """Say that something was appended."""
        with self._changed:
            self._waiting = True
            self._changed.notify_all()

    def finish(self, seconds: float) -> Exception | None:
        """Wait until everything has arrived, and stop.

        Args:
            seconds: Give up once nothing has arrived for so long. Files on their way to a store that takes them are
                waited for.

        Returns:
            What is in the way, or `None` where everything has arrived.
        """
        with self._changed:
            self._arrived = time.monotonic()
            self._waiting = self._hurried = True
            self._changed.notify_all()
            while self._waiting or self._sending:
                left = self._arrived + seconds - time.monotonic()
                if left <= 0 and not (self._files and self._error is None):
                    break
                self._changed.wait(max(left, 0.1))
            arrived = not (self._waiting or self._sending)
            self._stopped = True
            self._changed.notify_all()
        return None if arrived else self._error or TimeoutError(f"it has not answered for {seconds:g} seconds")

    def _work(self) -> None:
        pause = PACE
        while self._begin():
            try:
                deliver(self._journal, self._sent, self.refused)
            except Exception as error:
                self._end(error)
                self._rest(pause)
                pause = min(2 * pause, LONGEST)
            else:
                self._end(None)
                pause = PACE
                self._rest(pause)

    def _begin(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            self._waiting, self._sending = False, True
            return not self._stopped

    def _sent(self, events: Sequence[Event]) -> None:
        self._files = events[0]["kind"] == "files"
        self._send(events)
        self._arrived = time.monotonic()

    def _end(self, error: Exception | None) -> None:
        with self._changed:
            self._error, self._sending = error, False
            self._waiting |= error is not None
            self._changed.notify_all()

    def _rest(self, seconds: float) -> None:
        with self._changed:
            hurried, self._hurried = self._hurried, False
            if hurried:  # said while this delivery went on: what it found may be older
                return
            self._changed.wait_for(lambda: self._hurried or self._stopped, timeout=seconds)
            self._hurried = False
