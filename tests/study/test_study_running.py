"""A study at work: what is kept, what is done again, what is left behind when something dies."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fake_runs
import psutil
import pytest
from click.testing import CliRunner
from rich.console import Console
from waiting import PATIENCE, until

from training.cli.study import study as verb
from training.study import Study, execution
from training.study.design import PlanError
from training.study.folder import StudyBusy, StudyFolder, StudyNotFound
from training.study.jobs import CannotExecute, Ended, Job, Started
from training.study.results import read_rows
from training.study.running import Stopped, local, run_study, shared_threads
from training.study.workers import LocalExecutor

SUPPORT = str(Path(fake_runs.__file__).parent)


class Here:
    """An executor in this process. A condition called "stops" is where Ctrl-C hits."""

    threads = slots = 1

    def __init__(self, waiting):
        self.job = None
        self.closed = False

    @property
    def has_room(self):
        return self.job is None

    def submit(self, job):
        self.job = job

    def wait(self, seconds):
        job, self.job = self.job, None
        if job.condition == "stops":
            raise KeyboardInterrupt
        with open("executions.txt", "a") as file:
            file.write(f"{job.key} {job.resume} here\n")
        row = fake_runs.row(job, f"run-{job.key}", "failed" if job.condition == "fails" else "converged")
        return [Started(job.key, row.run_id), Ended(job.key, row)]

    def close(self):
        self.closed = True


def small(*conditions, seeds=1, **changes):
    asked = {"conditions": dict.fromkeys(conditions, ()), "overrides": ["model.units=4", "dataset.name=digits_rows"]}
    return Study(**{"name": "s", "seeds": seeds, **asked, **changes})


def go(study, executor=Here):
    folder = StudyFolder(Path("mlruns/studies") / study.name)
    return folder, run_study(study, folder, executor, Console(quiet=True), "zoo study")


def executions():
    return [line.split(" ")[:2] for line in Path("executions.txt").read_text().splitlines()]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(SUPPORT)


# === What is kept ===


def test_a_study_grows_and_failed_runs_are_done_again():
    folder, first = go(small("a", "fails"))
    assert (len(first.rows), first.begun, first.count("failed")) == (2, 2, 1)
    assert not list(folder.runs.glob("*.started"))
    _, second = go(small("fails", "b", "a", seeds=2, baseline="a"))
    assert (len(second.rows), second.begun) == (6, 5)
    assert [key for key, _ in executions()].count("a--digits_rows--0") == 1
    assert folder.plan()["baseline"] == "a"


def test_a_plan_may_not_change():
    go(small("a", "b", seeds=2))
    for changed, message in (
        (small("a", "b"), "seeds 1 are left out"),
        (small("a", seeds=2), "condition 'b' on 'digits_rows' is left out"),
        (small("a", "b", seeds=2, overrides=["dataset.name=digits_rows"]), "model.units was 4, now 100"),
    ):
        with pytest.raises(PlanError, match="may only grow") as caught:
            go(changed)
        assert message in str(caught.value)
    assert len(executions()) == 4


def test_ctrl_c_keeps_what_has_ended_and_says_how_to_go_on():
    executor = []
    with pytest.raises(Stopped, match="1 of 2 runs have ended"):
        go(small("a", "stops"), lambda waiting: executor.append(Here(waiting)) or executor[0])
    assert executor[0].closed


def test_two_processes_at_one_study():
    folder = StudyFolder(Path("mlruns/studies/s"))
    with folder.alone(), pytest.raises(StudyBusy, match="another process"):
        go(small("a"))
    go(small("a"))


def test_reports_need_runs():
    with pytest.raises(StudyNotFound, match="there is none yet"):
        StudyFolder(Path("mlruns/studies/s")).report()
    go(small("a"))
    with pytest.raises(StudyNotFound, match="there are: s"):
        StudyFolder(Path("mlruns/studies/t")).report()
    Path("mlruns/studies/s/plan.json").write_text("{")
    with pytest.raises(PlanError, match="damaged"):
        StudyFolder(Path("mlruns/studies/s")).report()


def test_one_number_of_threads_for_all():
    with pytest.raises(PlanError, match="differs"):
        shared_threads(small(conditions={"a": ["train.threads=1"], "b": ["train.threads=2"]}).runs())
    executor = local(None, Path("logs"))(small("a", "b", "c", overrides=["train.threads=1"]).runs())
    assert executor.threads == 1
    assert 1 <= executor.slots <= 3


# === What dies ===


def fakes(waiting):
    return LocalExecutor(2, 1, Path("logs"), "fake_runs")


def test_a_worker_that_dies_costs_its_run_after_one_retry():
    folder, summary = go(small("a", "dies", "dies once", "b"), fakes)
    rows = {row.condition: row for row in summary.rows}
    assert [rows[name].outcome for name in ("a", "b", "dies once")] == ["converged"] * 3
    dead = rows["dies"]
    assert (dead.outcome, dead.run_id, dead.threads) == ("failed", "run-dies--digits_rows--0", 1)
    assert "SIGKILL" in dead.reason
    assert "logs/worker-" in dead.reason
    assert dead.config["model.units"] == 4
    for key in ("dies", "dies-once"):  # the second time they go on
        tries = [resume for run, resume in executions() if run == f"{key}--digits_rows--0"]
        assert tries == ["None", f"run-{key}--digits_rows--0"]
    assert not list(folder.runs.glob("*.started"))


def test_workers_that_cannot_start_are_no_failed_runs():
    with pytest.raises(CannotExecute, match=r"exit code 1 before its first run.*no_such_module.*worker-1\.log"):
        go(small("a"), lambda waiting: LocalExecutor(1, 1, Path("logs"), "no_such_module"))
    assert not list(Path("mlruns/studies/s/runs").glob("*.json"))


@pytest.mark.slow
def test_workers_do_not_outlive_a_study_that_is_killed():
    script = (
        "from rich.console import Console; from pathlib import Path\n"
        "from training.study import Study\n"
        "from training.study.folder import StudyFolder\n"
        "from training.study.running import run_study\n"
        "from training.study.workers import LocalExecutor\n"
        "study = Study('s', {'a': [], 'waits': []}, seeds=2, overrides=['model.units=4', 'dataset.name=digits_rows'])\n"
        "executor = lambda waiting: LocalExecutor(2, 1, Path('logs'), 'fake_runs')\n"
        "run_study(study, StudyFolder(Path('mlruns/studies/s')), executor, Console(quiet=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL)
    runs = Path("mlruns/studies/s/runs")
    until(lambda: len(list(runs.glob("waits*.started"))) == len(list(runs.glob("a*.json"))) == 2)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
    assert not alive
    done = len(executions())
    _, summary = go(small("a", "waits", seeds=2), fakes)
    assert summary.count("converged") == 4
    again = sorted(executions()[done:])
    assert again == [[f"waits--digits_rows--{seed}", f"run-waits--digits_rows--{seed}"] for seed in (0, 1)]


# === Real runs ===


def job(**changes):
    (run,) = small("a").runs()
    return Job("k", "s", "a", "digits_rows", 0, run.config.model_dump(), 1, **changes)


def test_an_exception_is_a_failed_row(monkeypatch):
    def broken(config, console, resume, started, callbacks):
        started("1234")
        raise OSError("no space left")

    monkeypatch.setattr(execution, "train_one", broken)
    events = []
    row = execution.execute(job(), events.append)
    assert (row.outcome, row.run_id, row.reason, row.epochs) == ("failed", "1234", "OSError: no space left", 0)
    assert events == [Started("k", "1234")]
    assert type(row).from_json(row.to_json()) == row


def test_a_run_that_cannot_be_gone_on_with_begins_anew(monkeypatch):
    tried = []

    def train_one(config, console, resume, started, callbacks):
        tried.append(resume)
        raise execution.CannotResume("gone")

    monkeypatch.setattr(execution, "train_one", train_one)
    assert execution.execute(job(resume="old"), print).reason == "CannotResume: gone"
    assert tried == ["old", None]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_from_question_to_report(data_directory, workers):
    command = ["--activation", "tanh,relu", "--seeds", "2", "--workers", str(workers), "--json", "model.units=4"]
    command += ["dataset.name=digits_rows", "train.epochs=1"]
    answer = json.loads(CliRunner().invoke(verb, command, catch_exceptions=False).stdout)
    folder = Path("mlruns/studies/activation")
    assert answer == {
        "study": "activation",
        "runs": 4,
        "converged": 4,
        "diverged": 0,
        "failed": 0,
        "report": str(folder / "report.html"),
    }
    for name in ("plan.json", "results.csv", "report.md", "report.html", "logs/worker-1.log"):
        assert (folder / name).stat().st_size or name.endswith(".log")
    assert (folder / "diagnostics.csv").is_file()  # with rows where there was time to look
    rows = read_rows(folder / "runs")
    assert {row.threads for row in rows} == {max(1, (os.cpu_count() or 1) // workers)}
    assert {row.epochs for row in rows} == {1}
    assert all(0 <= row.metrics["test/accuracy"] <= 1 for row in rows)
    from training import tracking

    stored = {run.run_id: run for run in tracking.runs()}
    assert set(stored) == {row.run_id for row in rows}
    for row in rows:
        tags = stored[row.run_id].tags
        assert (tags["study"], tags["condition"], tags["seed"]) == ("activation", row.condition, str(row.seed))
        assert stored[row.run_id].metrics["test/accuracy"] == row.metrics["test/accuracy"]
    page = (folder / "report.html").stat().st_mtime_ns
    shown = CliRunner().invoke(verb, ["--name", "activation", "--report-only"], catch_exceptions=False)
    assert "4 runs, 4 converged" in shown.stdout
    assert (folder / "report.html").stat().st_mtime_ns > page


def test_what_the_verb_refuses():
    for command, message in (
        ([], "say what varies"),
        (["--activation", "tanh,relu", "--seeds", "many"], "give how many"),
        (["--activation", "tanh", "--address", "auto"], "--executor ray"),
    ):
        answer = CliRunner().invoke(verb, command)
        assert answer.exit_code == 2
        assert message in answer.output
    with pytest.raises(PlanError, match="one STUDY"):
        CliRunner().invoke(verb, ["activations", "activations"], catch_exceptions=False)
    with pytest.raises(PlanError, match="says what varies"):
        CliRunner().invoke(verb, ["activations", "model.units=4,8"], catch_exceptions=False)


def test_on_ray(monkeypatch):
    pytest.importorskip("ray")
    from training.study.ray_executor import RayExecutor

    _, summary = go(small("a", "dies once", "b"), lambda waiting: RayExecutor(1, 2, module="fake_runs"))
    assert summary.count("converged") == 3
    assert ["dies-once--digits_rows--0", "run-dies-once--digits_rows--0"] in executions()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(CannotExecute, match="tracking server"):
        RayExecutor(1, None, "ray://cluster:10001")


def test_ray_that_is_missing_says_how_to_get_it(monkeypatch):
    from training.study.ray_executor import RayExecutor

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CannotExecute, match=r"sequence-zoo\[ray\]"):
        RayExecutor(1, None)
