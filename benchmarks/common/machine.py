"""Where a number comes from: machine, versions, commit, load."""

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from common.timing import CORES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results"
# The part of a file's name that a package has.
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


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each of `packages`; one that is not installed is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package).partition("+")[0]
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


def origin(command: str, versions: Mapping[str, str], machine: str, commit: str | None = None) -> list[str]:
    """Lines of Markdown that say what made a file.

    Args:
        command: The command line.
        versions: The versions of the packages that matter, by package.
        machine: The processor or GPU that computed.
        commit: The commit, for a machine without git.
    """
    commit = commit or answer("git", "describe", "--always", "--dirty", "--abbrev=10") or "unknown"
    named = ", ".join(f"{package} {version}" for package, version in versions.items())
    return [
        f"- command: `{command}`",
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; commit {commit}",
        f"- versions: {named}; Python {sys.version.split()[0]}",
        f"- machine: {machine}",
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


def slug(*names: str) -> str:
    """This machine, and the versions of `names` or of all in `PACKAGES`, as the part of a file's name."""
    machine = re.sub(r"[^a-z0-9]+", "-", processor().lower()).strip("-")
    short = {package: name for name, package in PACKAGES.items() if name in (names or PACKAGES)}
    versions = "-".join(f"{short[package]}{version}" for package, version in installed(short).items())
    return f"{machine}-{instruction_set()}-{CORES}cores_{versions}"


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def header(command: str, load_before: float) -> list[str]:
    """Lines of Markdown that say what made a file on a CPU, to be asked for at the end of the run."""
    machine = f"{processor()}, {instruction_set()}, {CORES} cores"
    return [
        *origin(command, installed(PACKAGES.values()), machine),
        f"- load average of the last minute: {load_before:.2f} before, {load():.2f} at the end, this program's own "
        f"{CORES} threads among it",
    ]
