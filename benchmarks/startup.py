"""How long the command takes before it does anything: CPU seconds of listing verbs, of a wrong key, and of a training.

    python benchmarks/startup.py [ROUNDS] [--output FILE]

Every number is of a process of its own, in a folder with one run, whose files the operating system has read before.
`zoo train` is cut in two: `import tensorflow`, which no program that trains on TensorFlow is spared, and all from there
until Keras's `fit` is given the batches. CPU time is of all threads, user and system.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common.machine import RESULTS, header, load

ROUNDS = 5
TRAIN = ("train", "train.epochs=1", "dataset.name=digits_rows", "model.units=8")

# What is measured, and the most seconds that it may take on an idle machine; None where it is not ours to say.
COMMANDS: dict[str, tuple[tuple[str, ...], float]] = {
    "zoo compare": (("compare",), 3.0),
    "zoo datasets": (("datasets",), 3.0),
    "zoo models": (("models",), 3.0),
    "zoo train model.unit=3 (refused)": (("train", "model.unit=3"), 2.0),
}
IMPORT, FIRST_BATCH = "import tensorflow", "zoo train, from there to the first batch"

# Runs the command line, and says what was spent when TensorFlow had been imported and when training began.
CHILD = """
import json, os, sys, time
import tensorflow
imported = time.process_time()
import keras

def fit(*arguments, **options):
    print(json.dumps([imported, time.process_time() - imported]), flush=True)
    os._exit(0)

keras.Model.fit = fit
from zoo.cli import main
main(sys.argv[1:])
"""


def main() -> None:
    arguments = sys.argv[1:]
    output = Path(arguments[arguments.index("--output") + 1]) if "--output" in arguments else RESULTS / "startup.md"
    rounds = next((int(argument) for argument in arguments if argument.isdecimal()), ROUNDS)
    before = load()
    seconds: dict[str, list[float]] = {name: [] for name in (*COMMANDS, IMPORT, FIRST_BATCH)}
    with tempfile.TemporaryDirectory() as folder:
        for command in (TRAIN, ("compare",)):  # the run that is compared, delivered; and all files are read once
            spent(folder, [zoo(), *command])
        for number in range(rounds):
            for name, (command, _) in COMMANDS.items():
                seconds[name].append(spent(folder, [zoo(), *command]))
            # In a copy: cut off as it begins, it leaves a run that the next command would have to mark as killed.
            with tempfile.TemporaryDirectory() as copy:
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                imported, rest = json.loads(run(copy, [sys.executable, "-c", CHILD, *TRAIN]).stdout.splitlines()[-1])
            seconds[IMPORT].append(imported)
            seconds[FIRST_BATCH].append(rest)
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    limits = {name: limit for name, (_, limit) in COMMANDS.items()} | {FIRST_BATCH: 3.0}
    lines = ["# Starting the command", "", *header("python benchmarks/startup.py", before), ""]
    lines += [
        f"CPU seconds of {rounds} processes each, user and system, in turns. Where other programs share the cores, the",
        "same work takes more of them: `import tensorflow` tells how much. Limits are those of an idle machine.",
        "",
    ]
    lines += ["| what | median | lowest | highest | at most |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, values in seconds.items():
        figures = " | ".join(f"{value:.2f}" for value in (statistics.median(values), min(values), max(values)))
        lines.append(f"| {name} | {figures} | {limits.get(name, 'not ours')} |")
    text = "\n".join(lines) + "\n"
    print(text)
    output.write_text(text)


def zoo() -> str:
    return str(Path(sys.executable).parent / "zoo")


def run(folder: str, command: list[str]) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def spent(folder: str, command: list[str]) -> float:
    """CPU seconds of a command, those of its own children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(folder, command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
