"""How far a benchmark has come: a bar on standard error, or a line for every tenth where there is no terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show how many of `total` are done: the block gets a function to call after each, with what was done.

    Args:
        title: What is being done.
        total: How many times the function will be called.
    """
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, transient=True)
    task, started, count = bar.add_task(title, total=total), time.monotonic(), 0

    def done(what: str) -> None:
        nonlocal count
        count += 1
        bar.update(task, completed=count, description=what)
        if not console.is_terminal and (count == total or count % max(1, total // 10) == 0):
            seconds = (time.monotonic() - started) * (total - count) / count
            console.print(f"{title}: {count} of {total}, about {seconds:.0f} s left", highlight=False)

    if console.is_terminal:
        bar.start()
    try:
        yield done
    finally:
        bar.stop()
