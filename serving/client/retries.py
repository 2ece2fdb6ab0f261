"""Deadlines that hold for all tries together, and when to try again."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from serving.client.errors import DeadlineExceeded, ServerError, Unreachable

FIRST_PAUSE = 0.1  # s
LONGEST_PAUSE = 5.0  # s
_UNAVAILABLE = 503

Answer = TypeVar("Answer")


class Deadline:
    """The moment at which a call must end.

    Args:
        seconds: From now.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds up to it; negative once it has passed."""
        return self._end - time.monotonic()


def pause(attempt: int) -> float:
    """Seconds to wait after try number `attempt` (from 0): twice as long each time, and random, so that clients that
    were turned away together do not come back together.

    Example:
    >>> FIRST_PAUSE <= pause(1) <= 2 * FIRST_PAUSE
    True
    """  # noqa: D205  (one sentence)
    longest: float = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)


def call(once: Callable[[float], Answer], deadline: Deadline, retries: int) -> Answer:
    """Call `once` with the seconds left, and again after a lost connection or "unavailable".

    Nothing else is repeated: another refusal would be the same again, and a deadline that has passed has passed.

    Raises:
        DeadlineExceeded: The deadline passed before the first try.
        ServerError: As `once` raised it last.
        Unreachable: Likewise.
    """
    attempt = 0
    while True:
        seconds = deadline.left()
        if seconds <= 0:
            raise DeadlineExceeded(f"no time was left to ask: the deadline of {deadline.seconds:g} s has passed")
        try:
            return once(seconds)
        except (ServerError, Unreachable) as error:
            wait = pause(attempt)
            if attempt == retries or not _may_repeat(error) or wait >= deadline.left():
                raise
        time.sleep(wait)
        attempt += 1


def _may_repeat(error: ServerError | Unreachable) -> bool:
    if isinstance(error, ServerError):
        return error.status == _UNAVAILABLE
    return not isinstance(error, DeadlineExceeded)
