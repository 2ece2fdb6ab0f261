"""Progress of a run on the terminal: epoch, validation loss and time left."""

from typing import Any, Self

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar(keras.callbacks.Callback):
    """A bar on standard error, or plain lines where there is no terminal.

    The bar disappears when training ends. Used as a context manager, it also disappears when training is interrupted,
    and the terminal's cursor is shown again.

    Args:
        title: Name of the run.
        epochs: The largest number of epochs.
        console: The console to draw on.
    """

    def __init__(self, title: str, epochs: int, console: Console) -> None:
        super().__init__()
        self._title, self._epochs, self._console = title, epochs, console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("at most"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=epochs, figures="")

    def on_train_begin(self, logs: Any = None) -> None:
        if self._console.is_terminal:
            self._bar.start()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        figures = f"validation loss {logs.get('val_loss', float('nan')):.3f}"
        self._bar.update(self._task, completed=epoch + 1, figures=figures)
        tenth = max(1, self._epochs // 10)
        if not self._console.is_terminal and (epoch + 1) % tenth == 0:
            line = f"{self._title}: epoch {epoch + 1} of at most {self._epochs}, {figures}"
            self._console.print(line, soft_wrap=True, highlight=False)

    def on_train_end(self, logs: Any = None) -> None:
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._console.is_terminal:  # without a terminal, stopping would print an empty line
            self._bar.stop()
