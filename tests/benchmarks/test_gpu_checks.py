"""The checks for a GPU keep to their time, and read other programs' output rightly."""

import doctest
import sys
import time
from pathlib import Path
from typing import Any

import pytest


class TestBudget:
    def test_jobs_are_stopped_skipped_or_left_out_and_the_rest_runs(self, part: Any) -> None:
        jobs, logs, said = part("gpu.jobs"), part("gpu.logs"), []

        def said_so_far(code: int, text: str) -> Any:
            return logs.Verdict(code == 0, text.strip())

        def job(name: str, command: Any) -> Any:
            program = command if isinstance(command, str) else [sys.executable, "-c", *command]
            return jobs.Job(name, lambda _: program, said_so_far)

        # The first may take two seconds, which leaves a moment less than the second needs.
        late = jobs.Job("late", lambda _: ["sh", "-c", "echo so far; sleep 600"], said_so_far)
        stages = [
            jobs.Stage(3, 0.1, (late,)),
            jobs.Stage(99, 99, (job("skipped", ["print(1)"]),)),
            jobs.Stage(
                60, 1, (job("there", ["print('x' * 200_000)"]), job("none", "no such tool"), job("bad", ["1/0"]))
            ),
        ]
        outcomes = jobs.run(stages, time.monotonic() + 102, said.append)
        assert outcomes == said
        found = {outcome.name: outcome.verdict for outcome in outcomes}
        assert [name for name, verdict in found.items() if verdict.good] == ["there"]
        assert found["late"].says == "stopped after 2 s: so far"
        assert found["skipped"].says == "skipped: less than 99 s were left for it"
        assert found["none"].says == "left out: no such tool"
        assert "ZeroDivisionError" in found["bad"].says

    def test_the_checks_fit_into_their_time_at_their_least(self, part: Any) -> None:
        checks = part("gpu_checks")
        stages = checks.stages(Path("out"), "abc", dry=False)
        assert sum(stage.least for stage in stages) < 525
        only = checks.select(stages, ["ncu", "tests-jax"])
        assert [job.name for stage in only for job in stage.jobs] == ["tests-jax", "ncu"]
        with pytest.raises(Exception, match="'nvprof' is not one of tests-torch, tests-jax, racecheck"):
            checks.select(stages, ["nvprof"])


# === What other programs say ===

MEMCHECK = """\
========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at forward+0x2a0
=========     by thread (3,0,0) in block (1,0,0)
b16_t8_d8_h32: done
========= ERROR SUMMARY: 1 error
"""
RACECHECK = """\
========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at forward+0x1f0
=========     and Read access at forward+0x2c0 [64 hazards]
b16_t8_d8_h32: done
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
NCU_HEAD = '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size",'
NCU_HEAD += '"Device","CC","Section Name","Metric Name","Metric Unit","Metric Value"'


def ncu_line(number: int, kernel: str, metric: str, unit: str, value: str) -> str:
    before = f'"{number}","7","python3","127.0.0.1","{kernel}","1","7","(256, 1, 1)","(8, 1, 1)","0","9.0"'
    return f'{before},"Command line profiler metrics","{metric}","{unit}","{value}"'


class TestLogs:
    def test_ncu(self, part: Any) -> None:
        logs = part("gpu.logs")
        tensor, registers = logs.METRICS["tensor pipe, %"], logs.METRICS["registers a thread"]
        text = [
            "==PROF== Connected to process 7 (/usr/bin/python3)",
            '==PROF== Profiling "forward" - 0: 0%....50%....100% - 9 passes',
            "b64_t128_d32_h128: done",
            NCU_HEAD,
            ncu_line(0, "forward", "gpu__time_duration.sum", "nsecond", "51,234.00"),
            ncu_line(0, "forward", tensor, "%", "12.5"),
            ncu_line(0, "forward", logs.STALLS["barrier"], "inst", "0.25"),
            ncu_line(0, "forward", logs.STALLS["wait"], "inst", "1.5"),
            ncu_line(0, "forward", registers, "register/thread", "202"),
            ncu_line(1, "backward", "gpu__time_duration.sum", "nsecond", "60000"),
            ncu_line(1, "backward", tensor, "", "n/a"),
        ]
        verdict = logs.of_ncu(0, "\n".join(text))
        assert (verdict.good, verdict.says) == (True, "forward 51.234 us, backward 60 us")
        for line in (
            "| grid x block | (8, 1, 1) x (256, 1, 1) | (8, 1, 1) x (256, 1, 1) |",
            "| tensor pipe, % | 12.5 | n/a |",
            "| registers a thread | 202 | n/a |",
            "| warps that wait, for each that issues | wait 1.50, barrier 0.25 | n/a |",
        ):
            assert line in verdict.more
        refused = logs.of_ncu(1, "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n")
        assert not refused.good
        assert refused.says.startswith("no figures of forward and backward (exit code 1) ==ERROR== ERR_NVGPUCTRPERM")

    def test_compute_sanitizer(self, part: Any) -> None:
        read = part("gpu.logs").of_sanitizer
        bad = read(9, MEMCHECK)
        assert (bad.good, bad.says) == (False, "ERROR SUMMARY: 1 error")
        assert bad.more == ("- Invalid __global__ write of size 4 bytes",)
        raced = read(9, RACECHECK)
        assert (raced.good, raced.says) == (False, "RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)")
        assert "Race reported between Write access at forward" in raced.more[0]
        clean = "b16: done\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
        assert read(0, clean).good
        # Nothing was launched, so nothing could be found.
        assert not read(0, clean.replace("b16: done", "")).good
        assert read(5, "refused: no GPU\n========= ERROR SUMMARY: 0 errors").says == "refused: no GPU"
        assert read(1, "Device not supported").says == "no summary in its output (exit code 1)"

    def test_pytest(self, part: Any) -> None:
        read = part("gpu.logs").of_pytest
        assert read(0, "==== 12 passed, 3 skipped in 20.15s ====").good
        nothing = read(0, "==== 15 skipped in 2.0s ====")
        assert (nothing.good, nothing.says) == (False, "15 skipped in 2.0s; nothing ran, so that nothing is shown")
        assert read(-9, "tests/a.py::test_one PASSED").says == "no counts in its output (exit code -9)"

    @pytest.mark.parametrize("name", ["gpu.logs", "gpu.jobs", "gpu.machine", "gpu.sides"])
    def test_docstrings_run(self, name: str, part: Any) -> None:
        assert doctest.testmod(part(name)).failed == 0
