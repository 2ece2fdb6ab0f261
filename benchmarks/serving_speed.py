"""How fast `zoo serve` answers, and what it costs beside the bare C API.

    python benchmarks/serving_speed.py

About five minutes. Latencies: by gRPC and REST, from clients that each wait for their answer, and at random moments at
half of what the server can do. Cost: the same folder with the same threads, in turn callers of TensorFlow's C API in
this process, and as many clients of the server; ratios are of neighbours in time, their median with 10th and 90th
percentile. Clients and server share the cores throughout. Threads: the C API alone, with threads across operations and
with every operation in the thread that calls. Writes docs/results/serving_speed.md.
"""

import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import psutil
from common import machine
from common.timing import alternate, timed

from serving.client import bench, connect
from serving.runtime.load import load
from serving.runtime.options import Options

UNITS, CHANNELS, CLASSES = 64, 12, 9
INTRA, INTER = 1, 2
CALLERS = (1, 2, 4)  # the same on both sides: 1 is a plain loop
ROUNDS, SECONDS = 8, 1.5
NAME = "lstm"
FORMS = {NAME: {}, "relu": {"activation": "relu"}, "bidirectional": {"bidirectional": True}}
MAKE = f"""
import json, sys
import keras
from zoo.export import export
from zoo.models import SequenceTask, build
keras.utils.set_random_seed(0)
shape = SequenceTask(channels={CHANNELS}, classes={CLASSES})
model = build("lstm", shape, units={UNITS}, **json.loads(sys.argv[2]))
task = {{"kind": "classification", "classes": [f"class_{{n}}" for n in range({CLASSES})], "channels": {CHANNELS}}}
export(model, task, sys.argv[1])
"""


@dataclass
class Served:
    """A `zoo serve` process.

    Attributes:
        process: It.
        grpc: Its address for gRPC.
        rest: For REST.
        seconds: From its start to its ready line.
        megabytes: Resident then.
    """

    process: psutil.Process
    grpc: str
    rest: str
    seconds: float
    megabytes: float


@contextmanager
def served(base: Path) -> Iterator[Served]:
    grpc, rest = free_port(), free_port()
    flags = [f"--tensorflow_intra_op_parallelism={INTRA}", f"--tensorflow_inter_op_parallelism={INTER}"]
    command = [sys.executable, "-c", "from zoo.cli import main; main()", "serve", "--model_name", NAME]
    command += ["--model_base_path", str(base), "--port", str(grpc), "--rest_api_port", str(rest), *flags]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        try:
            if child.stdout is None or not child.stdout.readline().startswith("ready"):
                raise RuntimeError(f"the server did not start: {' '.join(command)}")
            seconds, process = time.perf_counter() - began, psutil.Process(child.pid)
            megabytes = process.memory_info().rss / 2**20
            yield Served(process, f"127.0.0.1:{grpc}", f"http://127.0.0.1:{rest}", seconds, megabytes)
        finally:
            child.terminate()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def sequences(batch: int, steps: int) -> Any:
    return np.random.default_rng(0).normal(size=(batch, steps, CHANNELS)).astype("float32")


# === Latencies ===


def latencies(server: Served) -> Iterator[str]:
    for target, batch, steps in itertools.product((server.grpc, server.rest), (1, 32), (29, 128)):
        with connect(target, NAME, retries=0) as client:
            request = [client.prepare({"features": sequences(batch, steps)})]
            capacity = 0.0
            for clients in (1, 4):
                report = bench.run(client, request, bench.Load(clients=clients, seconds=4, warmup=1))
                capacity = max(capacity, report.answered / report.elapsed)
                yield latency_row(target, batch, steps, f"{clients} waiting", report)
            load = bench.Load(rate=capacity / 2, clients=32, seconds=6, warmup=1)
            report = bench.run(client, request, load)
            yield latency_row(target, batch, steps, f"{capacity / 2:.0f} a second", report)


def latency_row(target: str, batch: int, steps: int, clients: str, report: bench.Report) -> str:
    if report.errors:
        raise RuntimeError(f"requests failed: {report.errors}")
    shown = " | ".join(f"{1e3 * report.percentile(percent):.2f}" for percent in (50, 90, 99))
    api = "REST" if target.startswith("http") else "gRPC"
    rate = batch * report.answered / report.elapsed
    return f"| {api} | {batch} | {steps} | {clients} | {shown} | {rate:.0f} |"


# === Cost beside the bare C API ===


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


def costs(base: Path, server: Served) -> Iterator[str]:
    for steps, callers in itertools.product((29, 128), CALLERS):
        yield cost_row(base, server, steps, callers)


def cost_row(base: Path, server: Served, steps: int, callers: int) -> str:
    features = sequences(32, steps)
    model = load(base / "1", Options(intra_op_threads=INTRA, inter_op_threads=INTER))
    bare, served = [], []
    with connect(server.grpc, NAME) as client:
        request = client.prepare({"features": features})
        sides = (
            (bare, lambda: model.run("serving_default", {"features": features}), time.process_time),
            (served, lambda: client.send(request), lambda: sum(server.process.cpu_times()[:2])),
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


# === Threads across operations ===


def threads(folder: Path) -> Iterator[str]:
    for form in FORMS:
        path = folder / form / "1"
        pool = load(path, Options(intra_op_threads=INTRA, inter_op_threads=INTER))
        own = load(path, Options(intra_op_threads=INTRA, inter_op_threads=-1))
        for batch, steps in itertools.product((1, 32), (29, 128)):
            feeds = {"features": sequences(batch, steps)}
            sides = {
                "pool": timed(lambda pool=pool, feeds=feeds: pool.run("serving_default", feeds)),
                "own": timed(lambda own=own, feeds=feeds: own.run("serving_default", feeds)),
            }
            times = alternate(sides, SECONDS)
            ratio = spread(times["pool"].seconds / times["own"].seconds)
            yield f"| {form} | {batch} | {steps} | {1e3 * times['pool'].median:.2f} | {ratio} |"
        pool.close()
        own.close()


def spread(ratios: Any) -> str:
    low, high = np.percentile(ratios, [10, 90])
    return f"**{np.median(ratios):.2f}** ({low:.2f}-{high:.2f})"


def shown(rows: Iterator[str]) -> Iterator[str]:
    for row in rows:
        print(row, flush=True)
        yield row


def main() -> None:
    before = machine.load()
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / NAME
        for form, arguments in FORMS.items():
            command = [sys.executable, "-c", MAKE, str(Path(name) / form), json.dumps(arguments)]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        third = list(shown(threads(Path(name))))
        with served(base) as server:
            first, second = list(shown(latencies(server))), list(shown(costs(base, server)))
            megabytes = server.process.memory_info().rss / 2**20
    lines = [
        "# How fast the local server is",
        "",
        *machine.header("python benchmarks/serving_speed.py", before),
        f"- `lstm`, {UNITS} units, {CHANNELS} channels, {CLASSES} classes, as `zoo export` writes it",
        f"- threads: {INTRA} inside an operation, {INTER} across; clients and server on the same cores",
        f"- from starting the process to its ready line, warm-up included: {server.seconds:.1f} s; resident then "
        f"{server.megabytes:.0f} MB, after all of this {megabytes:.0f} MB",
        "",
        "## Latencies",
        "",
        "Clients that wait for their answer, then requests at random moments (Poisson) at half of the most that they",
        "got, where a latency counts from the moment when the request was to leave.",
        "",
        "| API | batch | steps | clients | median, ms | 90 %, ms | 99 %, ms | sequences a second |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
        *first,
        "",
        "## Cost beside the bare C API, gRPC, batch 32",
        "",
        "| steps | callers at once | bare C API, CPU ms a call | calls a second | server's CPU a request / bare "
        "| requests a second / bare |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *second,
        "",
        "## Threads across operations",
        "",
        f"The C API alone, with {INTER} threads and with `--tensorflow_inter_op_parallelism=-1`, one caller.",
        "",
        f"| model | batch | steps | {INTER} threads, ms | {INTER} threads / -1 |",
        "| --- | ---: | ---: | ---: | ---: |",
        *third,
    ]
    path = machine.RESULTS / "serving_speed.md"
    path.write_text("\n".join(lines) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
