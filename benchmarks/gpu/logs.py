"""What the output of other programs says: pytest, compute-sanitizer, ncu. Text in, text out."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

KERNELS = ("forward", "backward")  # of zoo.kernels.cuda
# What ncu is asked for, by the name that it has in our table.
METRICS = {
    "duration, us": "gpu__time_duration.sum",
    "tensor pipe, %": "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
    "issue slots, %": "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "warps active, %": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "occupancy at most, %": "sm__maximum_warps_per_active_cycle_pct",
    "registers a thread": "launch__registers_per_thread",
    "static shared memory, bytes": "launch__shared_mem_per_block_static",
    "dynamic shared memory, bytes": "launch__shared_mem_per_block_dynamic",
    "local loads": "smsp__sass_inst_executed_op_local_ld.sum",
    "device memory, bytes": "dram__bytes.sum",
}
STALLS = {
    name: f"smsp__average_warps_issue_stalled_{name}_per_issue_active.ratio"
    for name in (
        "long_scoreboard",
        "short_scoreboard",
        "barrier",
        "wait",
        "math_pipe_throttle",
        "mio_throttle",
        "lg_throttle",
        "not_selected",
        "dispatch_stall",
        "no_instruction",
        "branch_resolving",
        "membar",
    )
}


@dataclass(frozen=True)
class Verdict:
    """What came of a program.

    Attributes:
        good: Whether it found what was hoped for.
        says: In one line.
        more: Lines of Markdown beneath it.
    """

    good: bool
    says: str
    more: tuple[str, ...] = ()


def of_pytest(code: int, text: str) -> Verdict:
    r"""From pytest's exit code and output: its counts, and the tests that failed.

    Example:
    >>> of_pytest(1, "FAILED tests/a.py::test_b - no\n==== 1 failed, 2 passed in 3.4s ====").says
    '1 failed, 2 passed in 3.4s'
    """
    counts = re.findall(r"^=* ?((?:\d+ [a-z]+(?:, )?)+ in [\d.]+s)", text, re.MULTILINE)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+.*)$", text, re.MULTILINE)
    passed = bool(counts) and " passed" in counts[-1]
    says = counts[-1] if counts else f"no counts in its output (exit code {code})"
    if code == 0 and not passed:
        says += "; nothing ran, so that nothing is shown"
    return Verdict(code == 0 and passed, says, tuple(f"- {line[:200]}" for line in failed[:20]))


def of_sanitizer(code: int, text: str) -> Verdict:
    r"""From exit code and output of compute-sanitizer's memcheck or racecheck: the summary, and the first reports.

    Example:
    >>> of_sanitizer(0, "b8: done\n========= ERROR SUMMARY: 0 errors")
    Verdict(good=True, says='ERROR SUMMARY: 0 errors', more=())
    """
    found = re.findall(r"^=+ ((?:RACECHECK|ERROR) SUMMARY: .*)$", text, re.MULTILINE)
    if not found or "refused:" in text:
        refused = re.search(r"^refused: .*$", text, re.MULTILINE)
        return Verdict(False, refused[0] if refused else f"no summary in its output (exit code {code})")
    clean = re.match(r"\w+ SUMMARY: 0 (errors|hazards)", found[-1]) and ": done" in text
    reports = re.findall(r"^=+ ((?:Error|Warning|Invalid|Race|Program hit|Misaligned).*)$", text, re.MULTILINE)
    return Verdict(code == 0 and bool(clean), found[-1], tuple(f"- {line}" for line in reports[:10]))


@dataclass(frozen=True)
class Kernel:
    """A launch that ncu looked at.

    Attributes:
        name: Without its arguments.
        grid: Blocks, as ncu writes them.
        block: Threads of a block.
        metrics: Value and unit by metric; "n/a" where the chip does not have it.
    """

    name: str
    grid: str
    block: str
    metrics: dict[str, tuple[str, str]]

    def value(self, metric: str) -> float | None:
        """The number, in base units; `None` where there is none."""
        text = self.metrics.get(metric, ("", ""))[0].replace(",", "")
        try:
            return float(text)
        except ValueError:
            return None


def kernels(text: str) -> list[Kernel]:
    """The launches in the output of `ncu --csv --print-units base`, among whatever else was printed."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    found: dict[str, Kernel] = {}
    for row in csv.DictReader(lines):
        name = row["Kernel Name"].partition("(")[0]
        kernel = found.setdefault(row["ID"], Kernel(name, row.get("Grid Size", ""), row.get("Block Size", ""), {}))
        kernel.metrics[row["Metric Name"]] = (row["Metric Value"], row["Metric Unit"])
    return list(found.values())


def of_ncu(code: int, text: str) -> Verdict:
    """From the exit code and output of ncu: a table of the kernels."""
    found = kernels(text)
    missing = [name for name in KERNELS if name not in {kernel.name for kernel in found}]
    if missing:
        said = re.findall(r"^(?:==(?:ERROR|WARNING)==|refused:).*$", text, re.MULTILINE)
        return Verdict(False, f"no figures of {' and '.join(missing)} (exit code {code}) {' '.join(said[:3])}".strip())
    says = ", ".join(f"{k.name} {_number(k, 'duration, us')} us" for k in found)
    return Verdict(code == 0, says, tuple(profile(found)))


def profile(found: Sequence[Kernel]) -> list[str]:
    """A table of Markdown: a line for each metric, a column for each kernel."""
    lines = [f"| metric | {' | '.join(k.name for k in found)} |", f"| {' | '.join('---' for _ in (0, *found))} |"]
    lines.append(f"| grid x block | {' | '.join(f'{k.grid} x {k.block}' for k in found)} |")
    lines += [f"| {title} | {' | '.join(_number(k, title) for k in found)} |" for title in METRICS]
    lines.append(f"| warps that wait, for each that issues | {' | '.join(_stalls(k) for k in found)} |")
    return lines


def _number(kernel: Kernel, title: str) -> str:
    value = kernel.value(METRICS[title])
    if value is None:
        return "n/a"
    return f"{value / 1e3 if title.endswith(', us') else value:.5g}"  # ncu's base unit of time is the nanosecond


def _stalls(kernel: Kernel) -> str:
    values = {name: kernel.value(metric) for name, metric in STALLS.items()}
    known = sorted(((value, name) for name, value in values.items() if value), reverse=True)
    return ", ".join(f"{name} {value:.2f}" for value, name in known[:5]) or "n/a"
