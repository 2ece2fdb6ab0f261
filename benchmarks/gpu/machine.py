"""Where a number comes from: GPU, driver, versions, commit. Runs where there is no GPU, no git and no framework."""

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from cpu.machine import ROOT, processor

PACKAGES = ("torch", "jax", "keras")
NO_GPU = "cpu"


def versions() -> dict[str, str]:
    """The installed version of each of `PACKAGES`; one that is not installed is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def answer(*command: str) -> str:
    """What a command prints, or "" where it cannot be run."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def gpu() -> str:
    """The GPU's name as its driver has it, or `NO_GPU`."""
    return answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").partition("\n")[0] or NO_GPU


def state() -> str:
    """Driver, clocks, temperature and power of the GPU at this moment, or ""."""
    wanted = "driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw,memory.used"
    return answer("nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader")


def slug() -> str:
    """GPU and versions as the part of a file's name."""
    name = re.sub(r"[^a-z0-9]+", "-", gpu().lower()).strip("-")
    return f"{name}_" + "-".join(f"{package}{version}" for package, version in versions().items())


def header(command: str, commit: str | None = None) -> list[str]:
    """Lines of Markdown that say what made a file."""
    commit = commit or answer("git", "describe", "--always", "--dirty", "--abbrev=10") or "unknown"
    named = ", ".join(f"{package} {version}" for package, version in versions().items())
    return [
        f"- command: `{command}`",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; commit {commit}",
        f"- versions: {named}; Python {sys.version.split()[0]}",
        f"- machine: {gpu()}; {processor()}",
    ]


def plain(arguments: Sequence[str], *paths: str) -> list[str]:
    """A command line without the options of these names, which are paths of one machine, and their values.

    Example:
    >>> plain(["--dry", "--output", "/here", "--commit=a"], "--output")
    ['--dry', '--commit=a']
    """
    kept: list[str] = []
    follows = False
    for argument in arguments:
        name, assigned, _ = argument.partition("=")
        if not follows and name not in paths:
            kept.append(argument)
        follows = name in paths and not assigned
    return kept
