"""The `zoo` command as a process, and what it may print: every line is ours, or a test fails."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ZOO = str(Path(sys.executable).parent / "zoo")

# Lines of a table, a rule, or of nothing.
TABLE = r"|[\s─━┃┏┓┳┡╇┩└┴┘│├┤┼]*|[ │┃].*"
PROGRESS = r"[\w./()-]+: epoch \d+ of at most \d+, validation loss \S+"
RESULT = r"run [0-9a-f]{8}: validation loss .* epochs? in \d+\.\d s"
COMPARED = r"[\w./]+, model .*|picture: mlruns/\w+\.png|MLflow's page: zoo ui [0-9a-f ]+|[0-9a-f]{8} .*"
LOG = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO (loading|loaded|played|serving|unloaded|stopped|saved|serve) .*"
READY = r"ready: http\S+/v1/models/\w+.* \(version 1, \d+\.\d s\); page: http\S+/"
ANSWERS = r"row +length +label +probability| *\d+ +\d+ +\w+ +[01]\.\d{4}"
STUDY = (
    r"study \w+: \d+ runs.*|up to \d+ at once, each with \d+ threads?|.* (converged|diverged|failed).*|"
    r"\w+: (run \d+ of \d+|\d+ of \d+ runs).*"
)


def environment(**changes: str) -> dict[str, str]:
    """Of a person's shell: nothing that would keep a library quiet."""
    kept = {name: value for name, value in os.environ.items() if name not in ("TF_CPP_MIN_LOG_LEVEL", "COLUMNS")}
    return {**kept, "KERAS_BACKEND": "tensorflow", **changes}


def foreign(text: str, *patterns: str) -> list[str]:
    """The lines of a command's output that are not as one of `patterns`."""
    ours = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    return [line for line in text.splitlines() if not ours.fullmatch(line.rstrip())]


# Several commands, of which each stands in a list of its arguments: one process imports TensorFlow for all of them.
IN_TURN = """
import json, os, sys
from zoo.cli import main
for folder, arguments in json.loads(sys.argv[1]):
    os.chdir(folder)
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            raise
"""


def in_turn(*commands: tuple[Path, Sequence[str]]) -> list[str]:
    """A process that runs `zoo` commands one after another, each in a folder of its own."""
    given = [(str(folder), list(arguments)) for folder, arguments in commands]
    return [sys.executable, "-c", IN_TURN, json.dumps(given)]


def run(folder: Path, *arguments: str, code: int = 0, **changes: str) -> str:
    """Run the `zoo` command; gives all that it printed, standard error too."""
    return _printed([ZOO, *arguments], folder, code, changes)


def run_in_turn(folder: Path, *commands: Sequence[str], **changes: str) -> str:
    """Run `zoo` commands one after another in one process; gives all that they printed, standard error too."""
    return _printed(in_turn(*((folder, arguments) for arguments in commands)), folder, 0, changes)


def _printed(command: list[str], folder: Path, code: int, changes: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != code:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
