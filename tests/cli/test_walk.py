"""A newcomer's first minutes, as processes: every line that is printed is ours, and a mistake is answered with help."""

import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from terminal import (
    ANSWERS,
    COMPARED,
    LOG,
    PROGRESS,
    READY,
    RESULT,
    STUDY,
    TABLE,
    ZOO,
    environment,
    foreign,
    run,
)
from waiting import PATIENCE, until

DEMO = Path(__file__).parents[2] / "examples/demo.py"
SMALL = ("dataset.name=digits_rows", "model.units=4", "train.epochs=1")


def lines_of(text, *patterns):
    assert not foreign(text, *patterns), "\n".join(foreign(text, *patterns))
    return text.splitlines()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def process(folder, *command):
    started = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background job is started deaf to Ctrl-C, and so are its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.mark.slow
def test_the_whole_walk(tmp_path):
    data = {"TFDS_DATA_DIR": str(tmp_path / "data")}
    prepare = run(tmp_path, "datasets", "prepare", "japanese_vowels", **data)
    prepared = lines_of(prepare, "preparing .*", ".* is prepared, .*")
    assert len(prepared) == 2
    trained = lines_of(run(tmp_path, "train", "train.epochs=2", "model.units=8", **data), PROGRESS, RESULT)
    run_id = trained[-1].removeprefix("run ")[:8]
    lines_of(run(tmp_path, "compare"), COMPARED, TABLE)
    lines_of(run(tmp_path, "export", run_id, "--name", "speakers"), "models/speakers/1", "without regress: .*")
    study = ("study", "--activation", "tanh,relu", "--seeds", "1", "--workers", "1", *SMALL)
    lines_of(run(tmp_path, *study), STUDY)
    port, grpc = free_port(), free_port()
    np.savez(tmp_path / "sequences.npz", *(np.zeros((steps, 12)) for steps in (5, 9)))
    serve = ("serve", "--model_name=speakers", f"--model_base_path={tmp_path / 'models/speakers'}")
    with process(tmp_path, ZOO, *serve, f"--rest_api_port={port}", f"--port={grpc}") as server:
        served = []
        for line in server.stdout:
            served.append(line)
            if line.startswith("ready:"):
                break
        for target in (f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc}"):
            answer = run(tmp_path, "predict", "--target", target, "--model_name", "speakers", "sequences.npz")
            lines_of(answer, ANSWERS)
            mistakes(tmp_path, target)
        server.send_signal(signal.SIGINT)
        served += server.communicate(timeout=PATIENCE)[0].splitlines(keepends=True)
    lines_of("".join(served), LOG, READY)
    assert server.returncode == 0


def mistakes(folder, target):
    """What a client sends by mistake, and the beginning of the answer."""
    np.savez(folder / "five.npz", np.zeros((4, 5)))
    np.savez(folder / "training.npz", x=np.zeros((40, 10, 3)), y=np.zeros(40))
    (folder / "series.csv").write_text("time,x\n1,2\n")
    (folder / "hello.txt").write_text("hello\n")
    for model, name, code, said in (
        ("speakers", "five.npz", 2, "Error: speakers: step 0 of sequence 0 has 5 values; the model takes 12"),
        ("speakers", "training.npz", 2, "Error: the file holds x, y, which is data for training"),
        ("speakers", "series.csv", 2, "Error: cannot read 'series.csv'; .csv files are for zoo train --data"),
        ("speakers", "hello.txt", 2, "Error: speakers: these are texts; the model takes sequences of numbers"),
        ("nosuch", "sequences.npz", 1, "Error: the server answered .*; models here: speakers"),
    ):
        answer = run(folder, "predict", "--target", target, "--model_name", model, name, code=code)
        (line,) = answer.splitlines()
        assert re.match(said, line)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_says_how_it_goes_on(tmp_path, number):
    command = ("train", *SMALL[:2], "train.epochs=100000", "train.patience=none")
    with process(tmp_path, ZOO, *command) as training:
        until(lambda: training.poll() is not None or list((tmp_path / "mlruns/runs").glob("*/epoch-*")))
        training.send_signal(number)
        said, _ = training.communicate(timeout=PATIENCE)
    *_, last = lines_of(said, PROGRESS, "Error: interrupted: run .*")
    (run_id,) = re.findall(r"run ([0-9a-f]{32})", last)
    assert last == f"Error: interrupted: run {run_id} is kept; resume it with zoo train --resume {run_id[:8]}"
    assert training.returncode == 1
    assert (tmp_path / "mlruns/runs" / run_id / "run.json").is_file()


@pytest.mark.slow
def test_the_demo(tmp_path):
    done = subprocess.run(
        [sys.executable, DEMO],
        cwd=tmp_path,
        env=environment(COLUMNS="80"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * PATIENCE,
        check=True,
    )
    steps = r"─+ .* ─+|\$ zoo .*|server stopped|\d+ s in all\. .*|the .*:|  (\.venv/bin/zoo ui|docker run) .*"
    told = ("preparing .*", "  run [0-9a-f]{8}: .*", "models/.*")
    lines_of(done.stdout, PROGRESS, COMPARED, TABLE, LOG, READY, steps, *told)


def test_a_librarys_message_is_shown_where_a_command_fails_because_of_it(tmp_path):
    script = (
        "import os\nfrom zoo.quiet import hold_back_stderr\n"
        "with hold_back_stderr():\n    os.write(2, b'the library says why\\n')\n    raise OSError('no')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "the library says why" in done.stderr
    assert "OSError: no" in done.stderr
