"""What the commands may print: every line of every one of them is ours, or a test fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

ZOO = str(Path(sys.executable).parent / "zoo")

# Lines of a table, a rule, or of nothing.
TABLE = r"|[\s─━┃┏┓┳┡╇┩└┴┘│├┤┼]*|[ │┃].*"
PROGRESS = r"[\w./()-]+: epoch \d+ of at most \d+, validation loss \S+"
RESULT = r"run [0-9a-f]{8}: validation loss .* epochs? in \d+\.\d s"
COMPARED = r"[\w./]+, model .*|picture: mlruns/\w+\.png|MLflow's page: zoo ui [0-9a-f ]+|[0-9a-f]{8} .*"
LOG = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO (loading|played|serving|unloaded|stopped|saved|serve) .*"
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


def run(folder: Path, *arguments: str, code: int = 0, **changes: str) -> str:
    """Run the `zoo` command; gives all that it printed, standard error too."""
    done = subprocess.run(
        [ZOO, *arguments],
        cwd=folder,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != code:
        raise AssertionError(f"zoo {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
