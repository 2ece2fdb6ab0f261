"""The width of printed tables."""

import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def width() -> int | None:
    """The columns of the terminal, or the value of `COLUMNS`; `None` in a pipe or file, where a row stays one line.

    Example:
    >>> import os
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, COLUMNS="80"):
    ...     width()
    80
    """
    if os.environ.get("COLUMNS", "").isdecimal() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def natural_width(table: "Table") -> int:
    """The columns of a table without wrapped lines."""
    from rich.console import Console
    from rich.measure import Measurement

    unbounded = Console(width=10_000)
    return Measurement.get(unbounded, unbounded.options, table).maximum


def show(table: "Table") -> None:
    """Print a table on standard output, in the width of the terminal."""
    from rich.console import Console

    Console(width=width() or natural_width(table)).print(table)
