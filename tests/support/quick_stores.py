"""MLflow's tables in a moment: making them takes seconds, and most tests of runs want a store of their own."""

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

from training.tracking import store

_make_tables = store.make_tables


@cache
def first_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        _make_tables(path)
        return path.read_bytes()


def copy_tables(path: Path) -> None:
    """In place of `store.make_tables`: a copy of the first one, with the artifacts of the working directory."""
    path.write_bytes(first_store())
    location = f"{Path('mlruns/artifacts').resolve().as_uri()}/0"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", (location,))


def use() -> None:
    """Do so in this process from now on. What would be lost with the power, no test asks."""
    store.make_tables = copy_tables
    event.listen(Engine, "connect", store.do_not_wait)
