"""Waiting for what must happen. How long it takes decides nothing; only a wait that would never end is broken off."""

import time
from collections.abc import Callable

PATIENCE = 300.0  # seconds, far more than the slowest machine needs


def until(condition: Callable[[], object], what: str = "") -> None:
    """Return once `condition` holds.

    Raises:
        AssertionError: It does not hold after `PATIENCE` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {PATIENCE:.0f} s: {what or condition}"
        time.sleep(0.002)
