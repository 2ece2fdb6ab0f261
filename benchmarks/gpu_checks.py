"""Everything that only a machine with an NVIDIA GPU can say about the GPU engines, in one run of under nine minutes.

    make gpu                                                    # or: python benchmarks/gpu_checks.py
    python benchmarks/gpu_checks.py --only racecheck --only ncu

The GPU tests on torch and JAX, compute-sanitizer's race and memory checks, the benchmark (`gpu_lstm.py`) on torch and
on JAX, and Nsight Compute on both kernels. Each has its own time limit; one that fails or is late costs the others
nothing, and when time is short the least important sizes of the benchmark are skipped, by name. Pages, tables, picture
and log go to one folder, and a summary is printed last.
"""

import importlib.util
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path

import click
from common.machine import ROOT, answer, plain
from gpu import logs, machine
from gpu.jobs import Job, Outcome, Stage, run
from gpu.plan import FRAMEWORKS
from gpu_lstm import GRACE, environment

TESTS = tuple(f"tests/kernels/test_{name}_engine.py" for name in ("cuda", "cudnn", "loop"))
BENCHMARKS = Path(__file__).parent
SMALL, PROFILED = "b16_t8_d8_h32,b16_t8_d8_h128", "b64_t128_d32_h128"
LONGEST = 200_000  # characters of one program's output that are kept, the last ones


@click.command()
@click.option("--only", multiple=True, help="Only this; may be repeated. A name of the summary.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=ROOT / "build/gpu", help="Folder; build/gpu if none."
)
@click.option("--seconds", type=float, default=525.0, show_default=True, help="For everything together.")
@click.option("--commit", help="What to call the version where there is no git.")
@click.option("--dry", is_flag=True, help="The benchmark in its dry run: to see on a CPU that all of this runs.")
def main(only: tuple[str, ...], output: Path, seconds: float, commit: str | None, dry: bool) -> None:
    """Check and time the GPU engines on this machine."""
    begun = time.monotonic()
    if machine.gpu() == machine.NO_GPU and not dry:
        raise click.UsageError("there is no NVIDIA GPU here (nvidia-smi does not answer); --dry runs on a CPU")
    chosen = select(stages(output.resolve(), commit, dry), only)
    output.mkdir(parents=True, exist_ok=True)
    log, before = output / "gpu_checks.log", machine.state()
    log.write_text(about(), encoding="utf-8")

    def say(outcome: Outcome) -> None:
        print(line_of(outcome), flush=True)
        with log.open("a", encoding="utf-8") as file:  # now, not at the end: whoever started us may stop us before
            file.write(f"\n===== {line_of(outcome)}\n{outcome.text[-LONGEST:]}\n")

    outcomes = run(chosen, begun + seconds, say)
    command = " ".join(["python benchmarks/gpu_checks.py", *plain(sys.argv[1:], "--output", "--commit")])
    states = [
        f"- driver, clocks, temperature, power, memory {when}: {what}"
        for when, what in (("before", before), ("after", machine.state()))
        if what
    ]
    took = f"- {time.monotonic() - begun:.0f} s of {seconds:.0f}"
    text = page(outcomes, [*machine.header(command, commit), *states, took])
    (output / f"gpu_checks_{machine.slug()}.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    sys.exit(0 if all(outcome.verdict.good for outcome in outcomes) else 1)


# === What is run ===


def stages(output: Path, commit: str | None, dry: bool) -> list[Stage]:
    """Everything, the most important first. What looks for errors runs side by side; what is timed runs alone."""
    checks = [_tests(framework) for framework in FRAMEWORKS]
    checks += [_sanitizer("racecheck"), _sanitizer("memcheck")]
    return [
        Stage(130, 60, tuple(checks)),
        Stage(180, 75, (_benchmark("torch", output, commit, dry),)),
        Stage(240, 75, (_benchmark("jax", output, commit, dry),)),
        Stage(60, 40, (_ncu(),)),
        Stage(20, 15, (_report(output, commit, dry),)),
    ]


def select(found: Sequence[Stage], only: Sequence[str]) -> list[Stage]:
    """The stages with the jobs of these names; all where none is named.

    Raises:
        click.BadParameter: There is no job of that name.
    """
    names = [job.name for stage in found for job in stage.jobs]
    for name in only:
        if name not in names:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(names)}")
    kept = [replace(s, jobs=tuple(job for job in s.jobs if not only or job.name in only)) for s in found]
    return [stage for stage in kept if stage.jobs]


def _tests(framework: str) -> Job:
    def command(_: float) -> Sequence[str] | str:
        here = [name for name in TESTS if (ROOT / name).exists()]
        if not here or not importlib.util.find_spec("pytest"):
            return "pytest is not installed" if here else "this version has no tests of the GPU engines"
        # Warnings of versions that are newer than ours are no reason to learn nothing of the kernels.
        return [sys.executable, "-m", "pytest", "-v", "-W", "default", "-p", "no:cacheprovider", *here]

    return Job(f"tests-{framework}", command, logs.of_pytest, environment(framework), ROOT)


def _benchmark(framework: str, output: Path, commit: str | None, dry: bool) -> Job:
    def command(seconds: float) -> Sequence[str] | str:
        if importlib.util.find_spec(framework) is None:
            return f"{framework} is not installed"
        own = ["--framework", framework, "--seconds", f"{seconds - GRACE - 10:.0f}", "--output", str(output)]
        return [sys.executable, "gpu_lstm.py", *own, *_common(commit, dry)]

    def read(code: int, text: str) -> logs.Verdict:
        return replace(_of_benchmark(code, text), more=())  # the report has them once more, of both frameworks

    return Job(f"bench-{framework}", command, read, folder=BENCHMARKS)


def _report(output: Path, commit: str | None, dry: bool) -> Job:
    """The benchmark's pages once more: a process that was stopped has written its measurements, and no page."""
    command = [sys.executable, "gpu_lstm.py", "--report", "--output", str(output), *_common(commit, dry)]
    return Job("report", lambda _: command, _of_benchmark, folder=BENCHMARKS)


def _common(commit: str | None, dry: bool) -> list[str]:
    return [*(["--commit", commit] if commit else []), *(["--dry"] if dry else [])]


def _of_benchmark(code: int, text: str) -> logs.Verdict:
    """The paragraph "Where we lose", which is what a reader should know first."""
    lost = text.partition("## Where we lose\n\n")[2].partition("\n##")[0].strip().splitlines()
    says = lost[0] if lost else f"no tables (exit code {code}): {' '.join(text.split())[-200:]}"
    return logs.Verdict(code == 0 and bool(lost), says, tuple(line for line in lost[1:] if line))


def _sanitizer(tool: str) -> Job:
    def command(_: float) -> Sequence[str] | str:
        program = _find("compute-sanitizer")
        named = [part for name in logs.KERNELS for part in ("--kernel-name", f"kne={name}")]
        own = ["--tool", tool, "--error-exitcode", "9", *named, *_one_step("--cells", SMALL)]
        return [program, *own] if program else "compute-sanitizer is not to be found"

    return Job(tool, command, logs.of_sanitizer, environment("torch"), BENCHMARKS)


def _ncu() -> Job:
    def command(_: float) -> Sequence[str] | str:
        program = _find("ncu")
        metrics = ",".join([*logs.METRICS.values(), *logs.STALLS.values()])
        # Of three steps the last one, two launches; the clocks are left as they are.
        own = ["--clock-control", "none", "--csv", "--print-units", "base", "--metrics", metrics]
        own += ["--kernel-name", f"regex:^({'|'.join(logs.KERNELS)})$", "--launch-skip", "4", "--launch-count", "2"]
        return [program, *own, *_one_step("--cells", PROFILED, "--more", "2")] if program else "ncu is not to be found"

    return Job("ncu", command, logs.of_ncu, environment("torch"), BENCHMARKS)


def _one_step(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gpu.one_step", *arguments]


def _find(program: str) -> str | None:
    """On the PATH, or where CUDA's installers put it."""
    usual = ("/usr/local/cuda*/bin", "/opt/nvidia/nsight-compute/*", "/usr/local/cuda*/nsight-compute*")
    folders = [folder for pattern in usual for folder in sorted(glob(pattern), reverse=True)]
    return shutil.which(program) or next((at for f in folders if (at := shutil.which(program, path=f))), None)


# === What is said ===


def about() -> str:
    """What the driver and the tools say of themselves."""
    asked = (["nvidia-smi"], ["nvcc", "--version"], ["ncu", "--version"], [sys.executable, "-m", "pip", "list"])
    return "\n\n".join(answer(*command) for command in asked) + "\n"


def line_of(outcome: Outcome) -> str:
    verdict = outcome.verdict
    return f"{outcome.name}: {'good' if verdict.good else 'NOT GOOD'}, {outcome.seconds:.0f} s: {verdict.says}"


def page(outcomes: Sequence[Outcome], header: Sequence[str]) -> str:
    """What came of everything, as a page of Markdown."""
    text = ["# The GPU engines, checked on a GPU", "", *header, ""]
    text += [f"- {line_of(outcome)}" for outcome in outcomes]
    for outcome in outcomes:
        if outcome.verdict.more:
            text += ["", f"## {outcome.name}", "", *outcome.verdict.more]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
