"""Delivers a journal in order from a background thread, and retries until it has arrived."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from training.tracking.journal import Event, Journal

# Receives events of one kind, which follow each other.
Send = Callable[[Sequence[Event]], None]

# Seconds between two deliveries. Epochs that are shorter are sent together, which costs training less.
PACE = 4.0

# Most seconds between two attempts.
LONGEST = 30.0

# Most events in one delivery.
_TOGETHER = 100


class Refused(Exception):
    """The store answers, and rejects an event for good."""


def deliver(journal: Journal, send: Send, refused: list[str]) -> None:
    """Send what is pending.

    Args:
        journal: The journal whose events are sent.
        send: Takes the events or raises.
        refused: Collects the reasons for which the store rejected events; those are not sent again.

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


class State(Enum):
    """The state of the deliveries of a courier."""

    ARRIVED = "everything that is known of has arrived"
    WAITING = "something is to be sent, once the pause after the last delivery is over"
    SENDING = "a delivery is under way"
    OVERTAKEN = "a delivery is under way, and something was appended after it began"
    RECALLED = "a delivery is under way, and another is to follow it at once"
    STOPPED = "no delivery follows"


_UNDER_WAY = (State.SENDING, State.OVERTAKEN, State.RECALLED)


class Courier:
    """Delivers a journal in the background.

    Args:
        journal: What to deliver.
        send: As for `deliver`.

    Attributes:
        refused: As for `deliver`.
    """

    def __init__(self, journal: Journal, send: Send) -> None:
        self._journal, self._send = journal, send
        self.refused: list[str] = []
        self._changed = threading.Condition()
        self._state = State.ARRIVED
        self._error: Exception | None = None  # of the last delivery that ended
        self._kind: str | None = None  # of the events that are being sent
        self._next = self._progress = time.monotonic()  # earliest next delivery; last sign of life of the store
        threading.Thread(target=self._work, name="delivery", daemon=True).start()

    def wake(self) -> None:
        """Announce that an event was appended."""
        with self._changed:
            if self._state in (State.ARRIVED, State.SENDING):
                self._become(State.WAITING if self._state is State.ARRIVED else State.OVERTAKEN)

    def finish(self, seconds: float) -> Exception | None:
        """Wait until everything has arrived, and stop.

        Args:
            seconds: Give up once nothing has arrived for so long. Files on their way to a store that takes them are
                waited for.

        Returns:
            What is in the way, or `None` where everything has arrived.
        """
        with self._changed:
            self._next = self._progress = time.monotonic()
            # One more delivery even where all seems to have arrived: the last one may have looked too early.
            self._become(State.RECALLED if self._state in _UNDER_WAY else State.WAITING)
            while self._state is not State.ARRIVED:
                left = self._progress + seconds - time.monotonic()
                if left <= 0 and not (self._kind == "files" and self._error is None):
                    break
                self._changed.wait(max(left, 0.1))
            arrived = self._state is State.ARRIVED
            self._become(State.STOPPED)
        return None if arrived else self._error or TimeoutError(f"it has not answered for {seconds:g} seconds")

    def _become(self, state: State) -> None:
        self._state = state
        self._changed.notify_all()

    def _work(self) -> None:
        pause = PACE
        while self._begin():
            try:
                deliver(self._journal, self._sent, self.refused)
            except Exception as error:
                self._end(error, pause)
                pause = min(2 * pause, LONGEST)
            else:
                pause = PACE
                self._end(None, pause)

    def _begin(self) -> bool:
        """Wait until a delivery is due; returns False once the courier has stopped."""
        with self._changed:
            while self._state is not State.STOPPED:
                left = self._next - time.monotonic()
                if self._state is State.WAITING and left <= 0:
                    self._become(State.SENDING)
                    return True
                self._changed.wait(left if self._state is State.WAITING else None)
        return False

    def _sent(self, events: Sequence[Event]) -> None:
        self._kind = events[0]["kind"]
        self._send(events)
        self._progress = time.monotonic()

    def _end(self, error: Exception | None, pause: float) -> None:
        with self._changed:
            self._error, self._kind = error, None
            if self._state is not State.RECALLED:
                self._next = time.monotonic() + pause
            if self._state is not State.STOPPED:
                all_arrived = self._state is State.SENDING and error is None
                self._become(State.ARRIVED if all_arrived else State.WAITING)
