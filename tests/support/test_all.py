"""Run everything, part by part, and write docs/results/test_all.md: `make test-all`, about an hour on two cores.

python tests/support/test_all.py             all parts, in this order
python tests/support/test_all.py jax soak    these alone; the page keeps the rows of the others
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from training.run import environment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/results/test_all.md"
PARALLEL = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True)
class Found:
    """What came of a part: whether it is good, what it says of itself, and the slowest tests in seconds."""

    good: bool
    says: str
    slowest: tuple[tuple[float, str], ...] = ()


def call(*command: str, folder: Path = ROOT, **variables: str) -> int:
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, cwd=folder, env=os.environ | QUIET | variables, check=False).returncode


def pytest(backend: str, *arguments: str, python: str = sys.executable, folder: Path = ROOT) -> Found:
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.xml"
        command = [python, "-m", "pytest", *PARALLEL, f"--junitxml={report}", *arguments]
        code = call(*command, folder=folder, KERAS_BACKEND=backend)
        if not report.exists():
            return Found(False, f"exit code {code}, no report")
        suite = next(ElementTree.parse(report).iter("testsuite"))
    count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    bad = count["failures"] + count["errors"]
    passed = count["tests"] - bad - count["skipped"]
    times = sorted(((float(case.get("time", 0)), named(case)) for case in suite.iter("testcase")), reverse=True)
    return Found(
        code == 0 and passed > 0, f"{passed} passed, {bad} failed, {count['skipped']} skipped", tuple(times[:5])
    )


def named(case: ElementTree.Element) -> str:
    return f"{str(case.get('classname')).removeprefix('tests.')}::{case.get('name')}"


def checks() -> Found:
    codes = [call("make", target, folder=ROOT) for target in ("lint", "types", "imports")]
    return Found(not any(codes), "ruff, mypy, import-linter")


def soak() -> Found:
    return Found(not call("make", "soak"), "pages: [runs](soak.md), [server](serving_soak.md)")


def newest() -> Found:
    """The demo and the tests of `make test` in a fresh clone, on the newest releases that pyproject.toml admits."""
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "sequence-zoo"
        home = Path(name) / "home"
        home.mkdir()
        if call("git", "clone", "-q", str(ROOT), str(clone)) or call("make", ".venv/bin/python", folder=clone):
            return Found(False, "could not be set up")
        python = str(clone / ".venv/bin/python")
        if call(python, "-m", "pip", "install", "-q", "-e", ".[dev]", folder=clone):
            return Found(False, "could not be installed")
        listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
        versions = ", ".join(re.findall(r"^(?:keras|tensorflow|mlflow|numpy|jax)==.*$", listed, re.MULTILINE))
        if call(python, "examples/demo.py", folder=clone, HOME=str(home)):
            return Found(False, f"the demo failed; {versions}")
        found = pytest("tensorflow", "-m", "not slow", python=python, folder=clone)
        return Found(found.good, f"demo; {found.says}; {versions}", found.slowest)


PARTS: dict[str, Callable[[], Found]] = {
    "checks": checks,
    "tensorflow": lambda: pytest("tensorflow"),
    "jax": lambda: pytest("jax", "-m", "any_backend"),
    "torch": lambda: pytest("torch", "-m", "any_backend"),
    "soak": soak,
    "newest": newest,
}


def row(name: str) -> tuple[bool, str]:
    """Run a part. Gives whether it is good, and its lines of the page."""
    commit, began = state_of_the_code(), time.monotonic()
    found = PARTS[name]()
    slowest = "<br>".join(f"{seconds:.0f} s {test.replace('|', '/')}" for seconds, test in found.slowest)
    cells = (
        *(name, "good" if found.good else "**FAILED**", found.says, f"{(time.monotonic() - began) / 60:.1f}"),
        *(f"{datetime.now(UTC):%Y-%m-%d %H:%M}", commit, slowest),
    )
    return found.good, f"| {' | '.join(cells)} |"


def state_of_the_code() -> str:
    """The commit, with a plus where something else than a result is not committed."""
    commit, changed = (
        subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for command in (["rev-parse", "--short=10", "HEAD"], ["status", "--porcelain", "--", ".", ":!docs/results"])
    )
    return commit.strip() + "+" * bool(changed.strip())


def write(new: dict[str, str]) -> None:
    old = dict(re.findall(r"^(\| (\w+) \|.*)$", PAGE.read_text(), re.MULTILINE)[1:]) if PAGE.exists() else {}
    kept = {name: line for line, name in old.items() if name in PARTS}
    about = environment.describe()
    lines = [
        "# The last run of everything",
        "",
        "- command: `make test-all`; what each part is: `tests/support/test_all.py`",
        f"- machine of the newest rows: {about['machine']}; Python {about['python']}",
        "",
        "| part | result | what | minutes | ended (UTC) | commit | longest tests |",
        "| --- | --- | --- | ---: | --- | --- | --- |",
        *((kept | new)[name] for name in PARTS if name in kept | new),
    ]
    PAGE.write_text("\n".join(lines) + "\n")


def main(names: list[str]) -> int:
    if unknown := set(names) - PARTS.keys():
        print(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or PARTS:
        good, line = row(name)
        write({name: line})
        print(line, flush=True)
        failed += [] if good else [name]
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
