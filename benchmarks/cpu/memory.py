"""Peak memory of training: a process for each side, which runs three steps and looks at what it took at most."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.cells import Cell

from cpu.cells import Case

STEPS = 3
SIDES = ("native", "reference", "keras graph", "keras xla")


def peak_bytes() -> int:
    """The most memory that this process ever held, VmHWM. Linux."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if not found:
        raise OSError("/proc/self/status holds no VmHWM; the memory of a process is read on Linux only")
    return 1024 * int(found[1])


def forget_peak() -> None:
    """Let VmHWM start again from what is held now: importing TensorFlow takes more for a moment than it keeps."""
    with contextlib.suppress(OSError):  # where it is not allowed the difference is too small, for every side alike
        Path("/proc/self/clear_refs").write_text("5")


def rows(cells: tuple[Cell, ...], names: tuple[str, ...], done: Callable[[], object]) -> list[dict[str, Any]]:
    """A row for each cell and side; `done` is called after each."""
    found = []
    for cell in cells:
        for name in names:
            command = [sys.executable, "-m", "cpu.memory", name, str(cell)]
            ran = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
            if ran.returncode:
                raise RuntimeError(f"the memory of {name} at {cell} could not be measured: {ran.stderr[-2000:]}")
            found.append({"cell": str(cell), "side": name, "megabytes": json.loads(ran.stdout)["bytes"] / 1e6})
            done()
    return found


def main() -> None:
    from zoo.quiet import import_keras

    import_keras()
    from cpu.sides import TENSORFLOW_SIDES

    side, cell = TENSORFLOW_SIDES[sys.argv[1]], Cell.parse(sys.argv[2])
    # Once small: threads, and with XLA its compiler, which a side has once and not for every layer.
    side.prepare(Case(Cell(2, 3, 4, 5), "tanh", "training"))
    forget_peak()
    before = peak_bytes()
    side.prepare(Case(cell, "tanh", "training")).run(STEPS - 1)
    print(json.dumps({"bytes": peak_bytes() - before}))


if __name__ == "__main__":
    main()
