"""What a run ran on: code, versions, machine."""

import importlib.metadata
import platform
import subprocess

import keras

PACKAGES = ("sequence-zoo", "keras", "tensorflow", "jax", "torch", "numpy", "mlflow")


def describe() -> dict[str, str]:
    """Tags that say where a number came from.

    Returns:
        "backend", "device", "machine", "python", a version for each installed package and, inside a git
        checkout, "git_commit" and "git_dirty".

    Example:
    >>> sorted(set(describe()) & {"backend", "device", "version.keras"})
    ['backend', 'device', 'version.keras']
    """
    tags = {
        "backend": keras.backend.backend(),
        "device": device(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            tags[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["git_commit"] = tags["mlflow.source.git.commit"] = commit
        tags["git_dirty"] = str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower()
    return tags


def device() -> str:
    """The device that Keras computes on, such as "cpu:0" or "gpu:0"."""
    devices = keras.distribution.list_devices()
    accelerators = [name for name in devices if not name.startswith("cpu")]
    return str((accelerators or devices or ["cpu:0"])[0])


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
        return ""  # no git here: the run is recorded without a commit
    return done.stdout.strip() if done.returncode == 0 else ""
