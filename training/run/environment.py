"""The code, versions and machine of a run."""

import importlib.metadata
import os
import platform
import subprocess
import sys

import keras
import psutil

from zoo import devices

PACKAGES = ("sequence-zoo", "keras", "tensorflow", "jax", "torch", "numpy", "mlflow")


def describe() -> dict[str, str]:
    """Tags for the code, the versions and the machine of a run.

    Returns:
        "backend", "device", of a GPU "device_kind", "machine", "threads", "python", a version for each installed
        package and, inside a git checkout, "git_commit" and "git_dirty".

    Example:
    >>> sorted(set(describe()) & {"backend", "device", "threads", "version.keras"})
    ['backend', 'device', 'threads', 'version.keras']
    """
    device = devices.computing()
    tags = {
        "backend": keras.backend.backend(),
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "threads": str(threads()),
        "python": platform.python_version(),
    }
    for gpu in devices.gpus():
        if gpu.name == device:
            tags["device_kind"] = gpu.kind
    tags |= {f"version.{package}": version for package, version in versions().items()}
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["git_commit"] = tags["mlflow.source.git.commit"] = commit
        tags["git_dirty"] = str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower()
    return tags


def versions() -> dict[str, str]:
    """Versions of the installed packages that a result depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def threads() -> int:
    """Number of threads that one operation may use.

    It is the backend's setting, or all cores that this process may use.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return int(torch.get_num_threads())
    chosen = 0
    if backend == "tensorflow":
        import tensorflow as tf

        chosen = int(tf.config.threading.get_intra_op_parallelism_threads())
    return chosen or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def peak_memory() -> float:
    """Largest memory of this process so far, in MB of 2^20 bytes, earlier runs in it included."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
        return ", ".join(sorted(names)) or platform.processor()
    except OSError:
        return platform.processor() or "unknown processor"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""  # git is not installed: the run is recorded without a commit
    return done.stdout.strip() if done.returncode == 0 else ""
