"""Kill runs and studies at random moments, go on with them, and compare with what was never killed.

    python tests/support/kills.py            the full counts, about ten minutes; writes docs/results/soak.md

`make test` kills a run at chosen points; see `dying_zoo`.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from terminal import in_turn

ZOO = (str(Path(sys.executable).parent / "zoo"),)
RUN = (
    *("train", "--json", "dataset.name=digits_rows", "model.units=16", "model.dropout=0.2", "train.patience=none"),
    *("train.threads=1", 'dataset.augment=["jitter(0.05)"]'),
)


STUDY = (
    *("study", "--json", "--seeds", "6", "--activation", "tanh,relu", "--dataset", "digits_rows", "model.units=8"),
    *("train.epochs=15", "train.threads=1", "--workers", "2"),
)


DYING_ZOO = (sys.executable, str(Path(__file__).with_name("dying_zoo.py")))


@dataclass
class Outcome:
    """What came of killing a run.

    Attributes:
        kills: Processes killed while they worked.
        epochs_at_kill: Epochs in the newest checkpoint at each kill; -1 where there was none yet.
        equal: Whether every weight is the same, bit for bit.
    """

    kills: int
    epochs_at_kill: list[int]
    equal: bool


def start(folder: Path, *arguments: str, command: Sequence[str] = ZOO) -> subprocess.Popen[str]:
    """The `zoo` command at work in `folder`, in a process group of its own."""
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with (folder / "stderr.log").open("a") as errors:
        return subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )


def finished(process: subprocess.Popen[str], folder: Path) -> Any:
    """The JSON answer of a process that must end well."""
    answer, _ = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}: {errors_of(folder)}")
    return json.loads(answer)


def errors_of(folder: Path) -> str:
    """What the processes in `folder` wrote to their standard errors."""
    return (folder / "stderr.log").read_text()


def weights(folder: Path, run_id: str) -> dict[str, Any]:
    """All weights of the model that a run left."""
    (path,) = (folder / "mlruns/artifacts").glob(f"{run_id}/**/model.keras")
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return found


def killed_run(folder: Path, points: Sequence[tuple[str, int]], epochs: int) -> Outcome:
    """A run that dies at each of `points` in turn, as `dying_zoo` names them, against one that is left alone."""
    arguments = [*RUN, f"train.epochs={epochs}"]
    at_work, outcome, run_id = folder / "killed", Outcome(0, [], False), ""
    at_work.mkdir()
    for point, epoch in points:
        resumed = ["train", "--json", "--resume", run_id] if run_id else arguments
        process = start(at_work, point, str(epoch), *resumed, command=DYING_ZOO)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"{point} {epoch}: ended with {process.returncode}: {errors_of(at_work)}")
        run_id = note_kill(at_work, outcome)
    outcome.equal = ends_equal(folder, arguments, run_id)
    return outcome


def run_killed_at_random(folder: Path, kills: int, epochs: int, seed: int) -> Outcome:
    """A run that is killed `kills` times, each at a random moment, against one that is left alone."""
    random = np.random.default_rng(seed)
    arguments = [*RUN, f"train.epochs={epochs}"]
    at_work, outcome, run_id = folder / "killed", Outcome(0, [], False), ""
    at_work.mkdir()
    while outcome.kills < kills:
        process = start(at_work, *(["train", "--json", "--resume", run_id] if run_id else arguments))
        before, early = newest_epoch(at_work), random.random() < 0.2
        while not early and process.poll() is None and newest_epoch(at_work) == before:
            time.sleep(0.01)
        try:
            process.wait(random.uniform(0, 20 if early else 0.3))
            raise RuntimeError(f"the run ended after {outcome.kills} kills: give it more epochs")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if list((at_work / "mlruns/runs").glob("*/run.json")):
            run_id = note_kill(at_work, outcome)
    outcome.equal = ends_equal(folder, arguments, run_id)
    return outcome


def newest_epoch(at_work: Path) -> int:
    """Epochs in the newest checkpoint; -1 where there is none."""
    names = sorted(path.name for path in (at_work / "mlruns/runs").glob("*/epoch-*.npz"))
    return int(names[-1][6:12]) if names else -1


def note_kill(at_work: Path, outcome: Outcome) -> str:
    """Count a kill. Gives the id of the one run there is."""
    (run_id,) = [path.parent.name for path in (at_work / "mlruns/runs").glob("*/run.json")]
    outcome.kills += 1
    outcome.epochs_at_kill.append(newest_epoch(at_work))
    return run_id


def ends_equal(folder: Path, arguments: Sequence[str], run_id: str) -> bool:
    """Resume a run to its end, train the same without a break, and compare weights and figures."""
    (folder / "whole").mkdir()
    commands = {"whole": arguments, "killed": ["train", "--json", "--resume", run_id]}
    both = in_turn(*((folder / name, command) for name, command in commands.items()))
    process = start(folder, command=both)
    printed, _ = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"ended with {process.returncode}: {errors_of(folder)}")
    answers = {name: json.loads(line) for name, line in zip(commands, printed.splitlines(), strict=True)}
    left, right = (weights(folder / name, answer["run_id"]) for name, answer in answers.items())
    return (
        left.keys() == right.keys()
        and all(np.array_equal(left[name], right[name]) for name in left)
        and all(
            answers["whole"][name] == answers["killed"][name]
            for name in answers["whole"].keys() - {"run_id", "seconds"}
        )
    )


@dataclass
class StudyOutcome:
    """What came of killing a study.

    Attributes:
        kills: Times that the study and its workers were killed.
        kept: Runs that had ended at each kill.
        lost: Runs that had ended and were not there any more, or were done again.
        equal: Whether every run gives the figures that it gives in a study that was not killed.
    """

    kills: int
    kept: list[int]
    lost: int
    equal: bool


def rows(folder: Path, name: str) -> dict[str, bytes]:
    """The files of the runs of a study that have ended."""
    return {path.name: path.read_bytes() for path in (folder / f"mlruns/studies/{name}/runs").glob("*.json")}


def figures(files: dict[str, bytes]) -> dict[str, Any]:
    """What must not depend on when and how often a run was interrupted."""
    found = {name: json.loads(content) for name, content in files.items()}
    return {name: [row["outcome"], row["metrics"], row["history"]] for name, row in found.items()}


def killed_study(folder: Path, kills: int, seed: int) -> StudyOutcome:
    """A study that is killed `kills` times, with its workers, against one that is not."""
    random = np.random.default_rng(seed)
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    began = time.perf_counter()
    finished(start(folder / "whole", *STUDY, "--name", "s"), folder / "whole")
    length = time.perf_counter() - began
    at_work, outcome, before = folder / "killed", StudyOutcome(0, [], 0, False), dict[str, bytes]()
    while outcome.kills < kills:
        process = start(at_work, *STUDY, "--name", "s")
        try:
            process.wait(random.uniform(0.2, 0.5) * length)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        before = rows(at_work, "s")
        outcome.kills += 1
        outcome.kept.append(len(before))
        time.sleep(3)  # workers are in a session of their own and notice that nobody is there any more
        after = rows(at_work, "s")
        outcome.lost += sum(after.get(name) != content for name, content in before.items())
    finished(start(at_work, *STUDY, "--name", "s"), at_work)
    outcome.lost += sum(rows(at_work, "s").get(name) != content for name, content in before.items())
    outcome.equal = figures(rows(folder / "whole", "s")) == figures(rows(at_work, "s"))
    return outcome


def two_studies(folder: Path) -> bool:
    """Two studies at once on one store: whether every run of both is there, in their folders and in the store."""
    both = [start(folder, *STUDY, "--name", name) for name in ("one", "two")]
    for process in both:
        finished(process, folder)
    stored = json.loads(subprocess.check_output([*ZOO, "compare", "--json", "--last", "100"], cwd=folder))
    ids = {json.loads(content)["run_id"] for name in ("one", "two") for content in rows(folder, name).values()}
    return len(ids) == 24 and ids == {run["run_id"] for run in stored if run["outcome"] == "finished"}


def main() -> None:
    """The full counts."""
    import tempfile

    from training.run import environment

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("run", "study", "two"):
            (folder / part).mkdir()
        began = time.perf_counter()
        run = run_killed_at_random(folder / "run", kills=20, epochs=600, seed=1)
        print(run, flush=True)
        study = killed_study(folder / "study", kills=5, seed=2)
        print(study, flush=True)
        both = two_studies(folder / "two")
        print(both, flush=True)
        seconds = time.perf_counter() - began
    about = environment.describe()
    lines = [
        "# Killed and resumed",
        "",
        "- command: `make soak`",
        f"- commit {about.get('git_commit', 'unknown')[:10]}; Python {about['python']}, "
        + ", ".join(f"{package} {about[f'version.{package}']}" for package in ("keras", "tensorflow", "mlflow")),
        f"- machine: {about['machine']}",
        f"- time: {seconds / 60:.0f} minutes",
        "",
        "| what | kills (SIGKILL, at random moments) | found |",
        "| --- | --- | --- |",
        f"| one run, resumed after every kill | {run.kills} | weights, figures and epochs "
        f"{'equal bit for bit' if run.equal else 'DIFFER'}; newest checkpoint at each kill: "
        f"{', '.join(str(epochs) if epochs >= 0 else 'none' for epochs in run.epochs_at_kill)} epochs |",
        f"| a study of 12 runs by 2 workers, started again after every kill | {study.kills} | {study.lost} of the runs "
        f"that had ended were lost; all figures {'equal' if study.equal else 'DIFFER'}; ended at each kill: "
        f"{', '.join(map(str, study.kept))} |",
        f"| two studies of 12 runs at once on one store | 0 | {'nothing lost' if both else 'RUNS MISSING'} |",
    ]
    target = Path(__file__).parents[2] / "docs/results/soak.md"
    target.write_text("\n".join(lines) + "\n")
    sys.exit(not (run.equal and study.equal and both and not study.lost))


if __name__ == "__main__":
    main()
