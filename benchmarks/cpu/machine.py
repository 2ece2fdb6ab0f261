"""Where a number comes from: machine, versions, commit, load; and how fast the machine can multiply."""

import importlib.metadata
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cpu.timing import CORES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results"
PACKAGES = {"tf": "tensorflow", "keras": "keras", "torch": "torch", "ort": "onnxruntime"}


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def processor() -> str:
    """The processor's own name, without its marks."""
    return re.sub(r"\((R|TM)\)", "", _cpuinfo("model name")) or "unknown processor"


def instruction_set() -> str:
    """The widest vectors of the processor: "avx512", "avx2" or "portable"."""
    flags = set(_cpuinfo("flags").split())
    return "avx512" if "avx512f" in flags else "avx2" if {"avx2", "fma"} <= flags else "portable"


def versions(*names: str) -> dict[str, str]:
    """The installed version of each of `names`, or of all in `PACKAGES`; one that is not installed is left out."""
    found = {}
    for name in names or PACKAGES:
        try:
            found[name] = importlib.metadata.version(PACKAGES[name]).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def slug(*names: str) -> str:
    """Machine and versions as the part of a file's name."""
    machine = re.sub(r"[^a-z0-9]+", "-", processor().lower()).strip("-")
    return f"{machine}-{instruction_set()}-{CORES}cores_" + "-".join(f"{n}{v}" for n, v in versions(*names).items())


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def header(command: str, load_before: float) -> list[str]:
    """Lines of Markdown that say what made a file, to be asked for at the end of the run."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    named = ", ".join(f"{PACKAGES[name]} {version}" for name, version in versions().items())
    return [
        f"- command: `{command}`",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; commit {commit.stdout.strip() or 'unknown'}",
        f"- versions: {named}; Python {sys.version.split()[0]}",
        f"- machine: {processor()}, {instruction_set()}, {CORES} cores",
        f"- load average of the last minute: {load_before:.2f} before, {load():.2f} at the end, this program's own "
        f"{CORES} threads among it",
    ]


def matmul_peak(size: int, tries: int = 10) -> float:
    """Operations a second of TensorFlow's product of two (size, size) matrices of float32, the best of `tries`."""
    import tensorflow as tf

    a, b = (tf.random.stateless_normal((size, size), (seed, 0)) for seed in (1, 2))
    product: Any = tf.function(tf.matmul)
    product(a, b)
    best = float("inf")
    for _ in range(tries):
        started = time.perf_counter()
        product(a, b).numpy()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def call_floor(calls: int = 200, tries: int = 10) -> float:
    """Seconds of calling a `tf.function` that adds 1: no layer of TensorFlow can answer sooner. The best of `tries`."""
    import tensorflow as tf

    x, add = tf.zeros((1,)), tf.function(lambda x: x + 1)
    add(x)
    best = float("inf")
    for _ in range(tries):
        started = time.perf_counter()
        for _ in range(calls):
            add(x).numpy()
        best = min(best, (time.perf_counter() - started) / calls)
    return best
