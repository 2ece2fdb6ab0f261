"""What serving by gRPC costs beside the bare C API: the server's CPU a request, and what arrives end to end.

    python benchmarks/serving_cost.py

About three minutes. The same folder with the same threads, batches of 32: in turn callers of TensorFlow's C API in this
process, and as many clients of a `zoo serve` process on the same cores. Ratios are of neighbours in time, their
median with 10th and 90th percentile. Writes docs/results/serving_cost.md.
"""

import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import psutil
from cpu import machine

from serving.client import connect
from serving.runtime import Options, load

UNITS, CHANNELS, CLASSES, BATCH = 64, 12, 9, 32
INTRA, INTER = 1, 2
CALLERS = (1, 2, 4)  # the same on both sides: 1 is a plain loop
ROUNDS, SECONDS = 8, 1.5
NAME = "lstm"
MAKE = f"""
import sys
import keras
from zoo.export import export
from zoo.models import SequenceTask, build
keras.utils.set_random_seed(0)
model = build("lstm", SequenceTask(channels={CHANNELS}, classes={CLASSES}), units={UNITS})
task = {{"kind": "classification", "classes": [f"class_{{n}}" for n in range({CLASSES})], "channels": {CHANNELS}}}
export(model, task, sys.argv[1])
"""


@dataclass
class Turn:
    """Calls a second, and CPU seconds a call of the process that ran the model."""

    rate: float
    cpu: float


def turn(call: Callable[[], Any], cpu: Callable[[], float], callers: int) -> Turn:
    """Some callers at once, each again and again."""
    counts, over = [0] * callers, time.perf_counter() + SECONDS

    def again(number: int) -> None:
        while time.perf_counter() < over:
            call()
            counts[number] += 1

    threads = [threading.Thread(target=again, args=(number,)) for number in range(callers)]
    began, before = time.perf_counter(), cpu()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calls = sum(counts)
    return Turn(calls / (time.perf_counter() - began), (cpu() - before) / calls)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def serve(base: Path, port: int) -> subprocess.Popen[str]:
    flags = [f"--tensorflow_intra_op_parallelism={INTRA}", f"--tensorflow_inter_op_parallelism={INTER}"]
    command = [sys.executable, "-c", "from zoo.cli import main; main()", "serve", "--model_name", NAME]
    command += ["--model_base_path", str(base), "--port", str(port), "--rest_api_port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if process.stdout is None or not process.stdout.readline().startswith("ready"):
        raise RuntimeError(f"the server did not start: {' '.join(command)}")
    return process


def row(base: Path, address: str, process: psutil.Process, steps: int, callers: int) -> str:
    features = np.random.default_rng(0).normal(size=(BATCH, steps, CHANNELS)).astype("float32")
    model = load(base / "1", Options(intra_op_threads=INTRA, inter_op_threads=INTER))
    bare, served = [], []
    with connect(address, NAME) as client:
        request = client.prepare({"features": features})
        sides = (
            (bare, lambda: model.run("serving_default", {"features": features}), time.process_time),
            (served, lambda: client.send(request), lambda: sum(process.cpu_times()[:2])),
        )
        for _ in range(1 + ROUNDS):
            for found, call, cpu in sides:
                found.append(turn(call, cpu, callers))
    model.close()
    bare, served = bare[1:], served[1:]  # the first warms up
    cpu = [s.cpu / b.cpu for s, b in zip(served, bare, strict=True)]
    rate = [s.rate / b.rate for s, b in zip(served, bare, strict=True)]
    absolute = f"{1e3 * statistics.median(b.cpu for b in bare):.2f} | {statistics.median(b.rate for b in bare):.0f}"
    return f"| {steps} | {callers} | {absolute} | {spread(cpu)} | {spread(rate)} |"


def spread(ratios: list[float]) -> str:
    low, high = np.percentile(ratios, [10, 90])
    return f"**{statistics.median(ratios):.2f}** ({low:.2f}-{high:.2f})"


def main() -> None:
    before = machine.load()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / NAME
        subprocess.run([sys.executable, "-c", MAKE, str(base)], check=True, stderr=subprocess.DEVNULL)
        port = free_port()
        process = serve(base, port)
        try:
            rows = []
            for steps, callers in itertools.product((29, 128), CALLERS):
                rows.append(row(base, f"127.0.0.1:{port}", psutil.Process(process.pid), steps, callers))
                print(rows[-1], flush=True)
        finally:
            process.terminate()
            process.wait(60)
    lines = [
        "# What serving costs",
        "",
        *machine.header("python benchmarks/serving_cost.py", before),
        f"- `lstm`, {UNITS} units, {CHANNELS} channels, {CLASSES} classes, as `zoo export` writes it; batch {BATCH}",
        f"- threads: {INTRA} inside an operation, {INTER} across; clients and server on the same cores",
        "",
        "| steps | callers at once | bare C API, CPU ms a call | calls a second | server's CPU a request / bare "
        "| requests a second / bare |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    path = machine.RESULTS / "serving_cost.md"
    path.write_text("\n".join(lines) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
