"""What a person sees of a study at work: how far it is, how long it will take, what runs now."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from training.study.jobs import Died, Ended, Epoch, Event, Job, Started
from training.study.results import Row


class Overview:
    """A bar for the study and one for each run at work; where there is no terminal, a line for each run that ends.

    Args:
        console: Where to draw.
        jobs: What is to be done.
        kept: What has been done before, by which the time left is estimated until runs of this process end.
        slots: How many runs are worked on at once.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], kept: Sequence[Row], slots: int) -> None:
        self._console, self._slots = console, slots
        self._datasets = {job.key: job.dataset for job in jobs}
        self._waiting = set(self._datasets)
        self._took: dict[str, list[float]] = {}
        for row in kept:
            self._took.setdefault(row.dataset, []).append(row.seconds)
        self._since: dict[str, float] = {}
        self._bars: dict[str, TaskID] = {}
        self.outcomes = dict.fromkeys(("converged", "diverged", "failed"), 0)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._whole = self._progress.add_task("runs", total=len(jobs), note="")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def heard(self, event: Event) -> None:
        """Something has happened to a run."""
        if isinstance(event, Started):
            self._waiting.discard(event.key)
            self._since[event.key] = time.monotonic()
        if isinstance(event, Epoch):
            if event.key not in self._bars:
                self._bars[event.key] = self._progress.add_task(f"  {event.key}", total=event.most, note="epochs")
            self._progress.update(self._bars[event.key], completed=event.number)
        if isinstance(event, Ended | Died) and event.key in self._bars:
            self._progress.remove_task(self._bars.pop(event.key))
        if isinstance(event, Died):
            self._waiting.add(event.key)
            self._since.pop(event.key, None)
        if isinstance(event, Ended):
            self._ended(event)

    def _ended(self, event: Ended) -> None:
        row = event.row
        began = self._since.pop(event.key, None)
        if began is not None:
            # Of a resumed run this process saw only the end.
            seconds = max(time.monotonic() - began, row.seconds)
            self._took.setdefault(row.dataset, []).append(seconds)
        self._waiting.discard(event.key)
        self.outcomes[row.outcome] += 1
        done = sum(self.outcomes.values())
        note = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items() if count) + self._left()
        self._progress.update(self._whole, completed=done, note=note)
        if not self._console.is_terminal or row.outcome == "failed":
            took = f"{row.epochs} {'epoch' if row.epochs == 1 else 'epochs'} in {row.seconds:.1f} s"
            line = f"{done} of {len(self._datasets)}: {event.key} {row.outcome}, {took}"
            why = f": {row.reason}" if row.outcome == "failed" else self._left()
            self._console.print(line + why, soft_wrap=True, highlight=False, markup=False)

    def _left(self) -> str:
        now = time.monotonic()
        running = [(self._datasets[key], now - since) for key, since in self._since.items()]
        seconds = time_left([self._datasets[key] for key in self._waiting], running, self._took, self._slots)
        if not seconds:
            return ""
        minutes = round(seconds / 60)
        text = f"{round(seconds)} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
        return f"; about {text} left"


def time_left(
    waiting: Sequence[str],
    running: Sequence[tuple[str, float]],
    took: Mapping[str, Sequence[float]],
    slots: int,
) -> float | None:
    """Seconds until all runs have ended, or `None` while none has.

    Args:
        waiting: The dataset of every run that has not begun.
        running: The dataset of every run at work, and seconds since it began.
        took: Seconds of the runs that have ended, by dataset. A dataset without any counts as the mean of all.
        slots: How many runs are worked on at once.

    Example:
    >>> time_left(["a", "a", "b"], [("a", 4.0)], {"a": [10.0, 14.0]}, slots=2)
    22.0
    """
    every = [seconds for those in took.values() for seconds in those]
    if not every:
        return None

    def expected(dataset: str) -> float:
        seconds = took.get(dataset) or every
        return sum(seconds) / len(seconds)

    parts = [*map(expected, waiting), *(max(0.0, expected(dataset) - since) for dataset, since in running)]
    # One run is not shared by two workers.
    return max(sum(parts) / slots, *parts) if parts else 0.0
