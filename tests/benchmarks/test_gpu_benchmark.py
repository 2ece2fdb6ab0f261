"""The benchmark of the GPU engines runs, as far as a CPU can tell, and says rightly what it measured."""

import csv
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from zoo import devices


@pytest.mark.any_backend
class TestPlan:
    def test_floors_are_those_of_the_design(self, part: Any) -> None:
        plan, compare = part("gpu.plan"), part("gpu.compare")
        ceilings = {"tf32": 395e12, "bfloat16": 790e12, "copy": 4.3e12}
        # Worked out by hand: 24 b t h (h + d) operations; (33 h + 3 d) b t numbers of 4 bytes, or of 2.
        expected = [(0.010, 0.033), (0.041, 0.263), (0.65, 1.05), (2.35, 2.08)]
        for cell, (operations, moved) in zip(plan.MAIN, expected, strict=True):
            floors = compare.floors_ms(cell, "training", plan.Side("cuda"), ceilings)
            assert floors["operations"] == pytest.approx(operations, rel=0.03)
            assert floors["bytes"] == pytest.approx(moved, rel=0.01)
            halved = compare.floors_ms(cell, "training", plan.Side("cuda", precision="bfloat16"), ceilings)
            assert {name: 2 * value for name, value in halved.items()} == pytest.approx(floors)
        assert compare.floors_ms(plan.MAIN[0], "training", plan.Side("cuda"), {}) == {}

    @pytest.mark.parametrize("framework", ["torch", "jax"])
    def test_no_case_holds_a_size_or_a_side_twice_and_training_of_the_four_sizes_is_first(
        self, framework: str, part: Any
    ) -> None:
        plan = part("gpu.plan")
        cases = plan.cases(framework)
        assert [(case.cell, case.mode) for case in cases[:4]] == [(cell, "training") for cell in plan.MAIN]
        timed = [(case.cell, case.mode, side) for case in cases for side in case.sides]
        assert len(timed) == len(set(timed))
        assert {cell.units for cell, _, _ in timed} >= {32, 64, 96, 128, 256, 512}
        thin = plan.spared(cases, [1])
        assert thin[:1] + thin[2:] == cases[:1] + cases[2:]
        assert {side.name for side in thin[1].sides} == {side.name for side in cases[1].sides} - {"cuda"}


@pytest.mark.any_backend
def test_a_slow_side_leaves_and_the_others_go_on(part: Any) -> None:
    turns, order = part("gpu.turns"), []

    def side(name: str, seconds: float) -> Any:
        def pretended(repeats: int) -> float:
            order.append(name)
            return seconds * repeats

        return pretended

    times = turns.in_turn({"a": side("a", 1e-3), "b": side("b", 1.0)}, turns.Effort(rounds=6, limit=4.0, turn=0.01))
    # Three steps warm a up and one b; a runs one step and then ten each turn, b one in four turns, every other first.
    assert "".join(order) == "aaab" + "aab" + "baa" + "aab" + "baa" + "aa" + "aa"
    assert [(t.median, t.repeats, len(t.seconds)) for t in times.values()] == [
        (pytest.approx(1e-3), 10, 6),
        (1.0, 1, 4),
    ]


# === The page, from medians that are made up, so that every figure can be worked out by hand ===


def row(framework: str, side: str, median: float, activation: str = "tanh", **more: Any) -> dict[str, Any]:
    sizes = {"batch": 64, "steps": 128, "features": 32, "units": 128}
    rest = {"precision": "tf32", "mode": "training", "call": "call", "note": "", "spread": 0.01, "min_ms": median}
    named = {"kind": "row", "framework": framework, "side": side, "activation": activation, "median_ms": median}
    return {**named, **sizes, **rest, **more}


LINES = [
    {"kind": "device", "framework": "torch", "gpu": "NVIDIA H200", "cuda": "13.0", "call_us": 5.0,
     "ceilings": {"bfloat16": 8e14, "tf32": 4e14, "float32": 5e13, "copy": 4e12}},
    row("torch", "torch.nn.LSTM", 0.9),
    row("torch", "torch.nn.LSTM", 0.6, precision="bfloat16"),
    row("torch", "cuda", 0.2),
    row("torch", "cuda", 0.5, precision="bfloat16"),
    row("torch", "cuda", 0.24, "custom"),
    row("torch", "torch.nn.LSTM", 0.4, call="graph"),
    row("torch", "cuda", 0.8, call="graph"),
    row("jax", "keras", 2.0, note="cudnn"),
    row("jax", "keras", 9.0, "relu"),
    row("jax", "loop", 0.1),
    row("jax", "cuda", 0.4),
    row("jax", "cuda", 0.5, "relu"),
    row("jax", "keras", 9.0, "relu", units=256),
    row("jax", "loop", 4.0, "relu", units=256),
    {"kind": "left_out", "framework": "jax", "case": "training b1", "side": "cuda", "of": "cuda tanh", "reason": "256"},
    {"kind": "left_out", "framework": "jax", "case": "training b2", "side": "cuda", "of": "cuda relu", "reason": "256"},
    {"kind": "skipped", "framework": "jax", "case": "training b8_t1024_d32_h96"},
]  # fmt: skip


@pytest.mark.any_backend
class TestReport:
    def test_ratios_targets_and_verdicts(self, part: Any) -> None:
        compare = part("gpu.compare")
        found = [
            (c.ours["framework"], c.ours["side"], c.ours["precision"], c.peer["precision"], c.ratio, c.target, c.met)
            for c in compare.comparisons(LINES[1:15])
        ]
        near = pytest.approx
        assert found == [
            ("torch", "cuda", "tf32", "bfloat16", near(3), 1.5, True),  # against the best precision of the peer
            ("torch", "cuda", "bfloat16", "bfloat16", near(1.2), 1.5, False),
            ("torch", "cuda", "tf32", "tf32", near(0.5), None, True),  # a graph, against a graph
            ("jax", "cuda", "tf32", "tf32", near(5), 4, True),  # cuda stands for us, though the loop is faster here
            ("jax", "cuda", "tf32", "tf32", near(18), 15, True),
            ("jax", "loop", "tf32", "tf32", near(2.25), 2, True),
        ]
        (cost,) = compare.activation_costs(LINES[1:15])
        assert (cost.share, cost.met) == (near(0.2), False)

    def test_the_page_begins_with_what_is_lost(self, part: Any) -> None:
        page = part("gpu.report").page(LINES, ["- where"])
        lost = page.split("\n## ")[1].splitlines()
        assert lost[:3] == [
            "Where we lose",
            "",
            "2 of 6 targets are missed; in 1 of 6 comparisons the peer is the faster one.",
        ]
        said = [line for line in lost if line.startswith("- ")]
        assert said == [
            "- training, torch, b64_t128_d32_h128: `cuda` bfloat16, tanh: 1.20 times as fast as `torch.nn.LSTM` "
            "bfloat16, and the target is 1.5",
            "- training, torch, b64_t128_d32_h128: `cuda`, custom over tanh: +20%, and the target is +15%",
            "- training, as a graph, torch, b64_t128_d32_h128: `cuda` tf32, tanh: 2.00 times as long as "
            "`torch.nn.LSTM` tf32",
        ]
        for line in (
            "- torch on NVIDIA H200, CUDA 13.0: the smallest call takes 5.0 us",
            "| jax | b64_t128_d32_h128 | tanh | cuda tf32 | 0.4 | keras tf32 (cudnn) | 2 | **5.00** | 4 | yes |",
            "- jax, cuda (2 times, first cuda tanh, training b1): 256",
            "- jax: training b8_t1024_d32_h96",
        ):
            assert line in page

    def test_a_file_that_was_cut_off_keeps_its_whole_lines(self, part: Any, tmp_path: Path) -> None:
        path = tmp_path / "lines"
        assert part("gpu.report").read(path) == []
        path.write_text('{"kind": "skipped"}\n{"kind": "ro')
        assert part("gpu.report").read(path) == [{"kind": "skipped"}]


# === Time ===


class Pretended:
    """A framework whose cases take no time, and whose device breaks after so many."""

    def __init__(self, plan: ModuleType, sides: ModuleType, breaks_after: int) -> None:
        self.plan, self.sides, self.left = plan, sides, breaks_after

    def prepare(self, case: Any) -> dict[Any, Any]:
        self.left -= 1
        one = self.sides.Prepared(lambda repeats: repeats * 1e-3, [np.ones(3)])
        far = self.sides.Prepared(lambda repeats: repeats * 1e-3, [np.full(3, 1.1)])
        plan = self.plan
        return {plan.Side("loop"): one, plan.Side("cuda"): far, plan.Side("cudnn"): "no GPU"}

    def check(self) -> None:
        if self.left < 0:
            raise RuntimeError("illegal address")

    def release(self) -> None:
        pass


@pytest.mark.any_backend
class TestTime:
    @pytest.mark.parametrize(
        ("left", "breaks_after", "kinds"), [(60, 9, "bllr" * 2), (-1, 9, "ss"), (60, 1, "bllrbllr!")]
    )
    def test_late_cases_are_named_and_a_broken_device_ends_the_process(
        self, left: float, breaks_after: int, kinds: str, part: Any
    ) -> None:
        plan, measure, said = part("gpu.plan"), part("gpu.measure"), []
        framework = Pretended(plan, part("gpu.sides"), breaks_after)
        effort = part("gpu.turns").DRY
        cases = plan.cases("jax", dry=True)
        alive = measure.measure(
            framework, cases, 1, time.monotonic() + left, effort, lambda kind, **what: said.append((kind, what))
        )
        letters = {"begins": "b", "left_out": "l", "row": "r", "skipped": "s", "broken": "!"}
        assert "".join(letters[kind] for kind, _ in said) == kinds
        assert alive == ("!" not in kinds)
        # A tenth away, where tf32 may be a twentieth.
        assert ["wrong: 0.1 away" in what["reason"] for kind, what in said if kind == "left_out"] == (
            [False, True] * kinds.count("r")
        )


# === All together ===


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On torch: products of a few numbers are not for threads, which spin between two of them."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.any_backend
@pytest.mark.skipif(keras.backend.backend() not in ("jax", "torch"), reason="its sides run on JAX and on torch")
@pytest.mark.slow
def test_the_dry_run_measures_every_side_that_can_run_here(part: Any, one_thread: None) -> None:
    name, said = keras.backend.backend(), list[dict[str, Any]]()
    plan, measure, effort = part("gpu.plan"), part("gpu.measure"), part("gpu.turns").DRY
    framework, cases = measure.open_framework(name), plan.cases(name, dry=True)

    def emit(kind: str, **what: Any) -> None:
        said.append(json.loads(json.dumps({"kind": kind, "framework": name} | what)))

    emit("device", **framework.describe(), ceilings=framework.ceilings(dry=True))
    assert measure.measure(framework, cases, 0, time.monotonic() + 600, effort, emit)

    rows = part("gpu.report").rows_of(said)
    peer = {"torch": "torch.nn.LSTM", "jax": "keras"}[name]
    assert {row["side"] for row in rows} >= {peer, "reference"}
    assert {row["mode"] for row in rows} == {"training", "inference"}
    assert all(0 < row["min_ms"] <= row["median_ms"] for row in rows)
    # Far below the bounds by which the benchmark leaves a side out: float32 here, whatever it is called.
    assert all(row["apart"] < 1e-4 for row in rows if row["precision"] in ("float32", "tf32"))
    assert all(row["floor_share"] > 0 for row in rows if name == "torch")
    refused = {(line["side"], line["reason"]) for line in said if line["kind"] == "left_out"}
    assert {side for side, _ in refused} <= set(plan.ENGINES)
    assert not [reason for _, reason in refused if reason.startswith(("failed", "wrong"))]


@pytest.mark.any_backend
@pytest.mark.skipif(keras.backend.backend() not in ("jax", "torch"), reason="its sides run on JAX and on torch")
@pytest.mark.skipif(devices.has_gpu(), reason="there is a GPU")
def test_a_framework_that_sees_no_gpu_is_not_measured(part: Any, tmp_path: Path) -> None:
    path, name = tmp_path / "lines", keras.backend.backend()
    done = CliRunner().invoke(part("gpu.measure").main, [name, "--lines", str(path), "--seconds", "9"])
    assert done.exit_code == 0
    (line,) = part("gpu.report").read(path)
    assert (line["kind"], line["reason"]) == ("left_out", "it sees no GPU here")


@pytest.mark.any_backend
class TestCommand:
    @pytest.fixture
    def command(self, part: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        monkeypatch.setattr(part("gpu.machine"), "gpu", lambda: "NVIDIA H200")
        command: ModuleType = part("gpu_lstm")
        return command

    def test_pages_are_written_from_the_lines(self, command: ModuleType, tmp_path: Path) -> None:
        arguments = ["--report", "--commit", "abc", "--output", str(tmp_path)]
        name = f"gpu_lstm_{command.machine.slug()}"
        assert name.startswith("gpu_lstm_nvidia-h200_")
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
        done = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        with (tmp_path / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == sum(line["kind"] == "row" for line in LINES)
        assert rows[0]["bytes_floor_ms"] == "0.03539"  # (33 * 128 + 3 * 32) * 64 * 128 numbers of 4 bytes, 4 TB/s
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        text = (tmp_path / f"{name}_summary.md").read_text()
        assert "commit abc" in text
        assert f"({name}.png)" in text
        assert text in done.output

    def test_a_process_that_dies_is_begun_again_where_it_was(
        self, command: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines, ran = tmp_path / "lines", []

        def run(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            ran.append(arguments)
            lines.write_text(json.dumps({"kind": "begins", "framework": "jax", "number": 7, "case": "training b8"}))
            return subprocess.CompletedProcess(arguments, -6 if len(ran) < 3 else 0)

        monkeypatch.setattr(command.subprocess, "run", run)
        command.measure("jax", lines, 100.0, dry=False)
        started = [{key: a[a.index(key) + 1] for key in ("--start", "--spare")} for a in ran]
        # First without our kernels; it died again, so that they are not to blame, and it goes on with the next.
        assert started == [
            {"--start": "0", "--spare": ""},
            {"--start": "7", "--spare": "7"},
            {"--start": "8", "--spare": "7,7"},
        ]

    def test_a_new_run_forgets_only_its_own_framework(self, command: ModuleType, tmp_path: Path) -> None:
        path = tmp_path / "lines"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in LINES))
        command.forget(path, "torch")
        assert path.read_text().splitlines() == [json.dumps(line) for line in LINES if line["framework"] == "jax"]

    def test_without_a_gpu_it_refuses(self, command: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command.machine, "gpu", lambda: command.machine.NO_GPU)
        assert "there is no NVIDIA GPU here" in CliRunner().invoke(command.main, []).output
        assert "a dry run measures nothing" in CliRunner().invoke(command.main, ["--dry"]).output
