"""The GPU engines of zoo.layers.LSTM against Keras on JAX and against torch.nn.LSTM, both on cuDNN where it can.

    python benchmarks/gpu_lstm.py
    python benchmarks/gpu_lstm.py --dry --output DIRECTORY    # tiny sizes on a CPU: does it run here?

About five minutes on a GPU that has nothing else to do. Each framework has a process of its own, in which the sides
take turns; the least important sizes are skipped when its time is up. Writes a CSV file, a page of tables, a picture
and the raw lines to docs/results/, named by GPU and versions.
"""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import click
from common.machine import RESULTS, ROOT, plain
from common.progress import console
from common.tables import write_csv
from gpu import machine, picture, report
from gpu.plan import DRY_MAIN, FRAMEWORKS, MAIN

# A dry run is about our code: the threads and the compilers of others may take it easy.
DRY = {
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}
GRACE = 45.0  # seconds a process may go on after its time is up: the case that it began


@click.command()
@click.option("--framework", "names", type=click.Choice(FRAMEWORKS), multiple=True, help="Only this; may be repeated.")
@click.option("--seconds", type=float, default=300.0, show_default=True, help="A framework begins cases for so long.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder; docs/results where left out.")
@click.option("--report", "only_report", is_flag=True, help="Measure nothing: write the files from the raw lines.")
@click.option("--commit", help="What to call the version where there is no git.")
@click.option("--dry", is_flag=True, help="Tiny sizes and few rounds, on a CPU too: nothing of it is a measurement.")
def main(
    names: tuple[str, ...], seconds: float, output: Path | None, only_report: bool, commit: str | None, dry: bool
) -> None:
    """Time the GPU engines of zoo.layers.LSTM against others."""
    if dry and output is None:
        raise click.UsageError("a dry run measures nothing that docs/results may hold; pass --output")
    if not dry and not only_report and machine.gpu() == machine.NO_GPU:
        raise click.UsageError("there is no NVIDIA GPU here (nvidia-smi does not answer); --dry runs on a CPU")
    folder, name = output or RESULTS, f"gpu_lstm_{machine.slug()}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / f"{name}.jsonl"
    for framework in () if only_report else names or FRAMEWORKS:
        forget(lines, framework)
        if importlib.util.find_spec(framework) is None:
            console.print(f"{framework} is left out: it is not installed")
        else:
            measure(framework, lines, seconds, dry)

    found = report.read(lines)
    rows = report.rows_of(found)
    command = " ".join(["python benchmarks/gpu_lstm.py", *plain(sys.argv[1:], "--output", "--commit")])
    header = machine.header(command, commit)
    text = report.page(found, ["**A dry run: none of this is a measurement.**", "", *header] if dry else header)
    if rows:
        write_csv(folder / f"{name}.csv", rows)
        picture.step_times(rows, DRY_MAIN if dry else MAIN).savefig(folder / f"{name}.png", dpi=110)
        text += f"\n![Time of a training step by size and side]({name}.png)\n"
    (folder / f"{name}_summary.md").write_text(text)
    print(text)


def forget(lines: Path, framework: str) -> None:
    """Remove what an earlier run has measured of `framework`."""
    text = lines.read_text() if lines.exists() else ""
    kept = [line for line in text.splitlines() if f'"framework": "{framework}"' not in line]
    lines.write_text("".join(f"{line}\n" for line in kept))


def measure(framework: str, lines: Path, seconds: float, dry: bool) -> None:
    """Run the measuring process; when it dies, once more from that case on, that one without our kernels."""
    until, start, spare = time.monotonic() + seconds, 0, list[int]()
    while (left := until - time.monotonic()) > 0:
        options = ["--lines", str(lines.resolve()), "--seconds", f"{left:.1f}", "--start", str(start)]
        options += ["--spare", ",".join(map(str, spare)), *(["--dry"] if dry else [])]
        try:
            code = subprocess.run(
                [sys.executable, "-m", "gpu.measure", framework, *options],
                cwd=Path(__file__).parent,
                env=environment(framework) | (DRY if dry else {}),
                timeout=left + GRACE,
            ).returncode
        except subprocess.TimeoutExpired:
            console.print(f"{framework}: stopped {GRACE:.0f} s after its time was up")
            return
        begun = [line for line in report.read(lines) if (line["kind"], line["framework"]) == ("begins", framework)]
        if code == 0 or not begun:
            return
        number = begun[-1]["number"]
        start = number + (number in spare)  # it died without our kernels too
        spare.append(number)
        console.print(f"{framework}: the process ended (exit code {code}) at {begun[-1]['case']}")


def environment(framework: str) -> dict[str, str]:
    """What a process needs so that `framework` is Keras's backend and takes only the memory that it uses."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {
        "KERAS_BACKEND": framework,
        "PYTHONPATH": path,
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


if __name__ == "__main__":
    main()
