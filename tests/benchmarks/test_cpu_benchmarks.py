"""The benchmarks of the native CPU engine run, and write what they measured."""

import csv
import importlib.util
import re
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest

from zoo.kernels import native

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
REASON = native.not_built()


def part(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.any_backend
class TestCells:
    @pytest.fixture
    def cells(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        return part("cpu.cells", monkeypatch)

    def test_every_value_of_the_grid_occurs_equally_often(self, cells: ModuleType) -> None:
        grid = {
            "batch": (1, 8, 32, 64, 128),
            "steps": (32, 128, 512),
            "features": (8, 64),
            "units": (32, 64, 128, 256),
        }
        assert len(set(cells.CELLS)) == len(cells.CELLS) == 24
        for name, values in grid.items():
            counts = Counter(getattr(cell, name) for cell in cells.CELLS)
            assert set(counts) == set(values)
            assert max(counts.values()) - min(counts.values()) <= 1
        assert len({(cell.batch, cell.units) for cell in cells.CELLS}) == 20
        assert set(Counter((cell.steps, cell.features) for cell in cells.CELLS).values()) == {4}
        assert max(cell.operations("training") for cell in cells.CELLS) < 14e9

    def test_operations_are_those_of_the_products(self, cells: ModuleType) -> None:
        b, t, d, h = 2, 3, 5, 7
        forward = sum(2 * b * rows * 4 * h for rows in (d, h)) * t
        gradients = t * (2 * d * b * 4 * h + 2 * h * b * 4 * h + 2 * b * 4 * h * h)  # of W, of U, of h
        cell = cells.Cell(b, t, d, h)
        assert cell.operations("inference") == forward
        assert cell.operations("training") == forward + gradients

    @pytest.mark.parametrize("text", ["b8", "b0_t1_d1_h1", "8_32_64_128", "b8_t32_d64_h128_x"])
    def test_a_wrong_name_is_refused(self, cells: ModuleType, text: str) -> None:
        assert cells.Cell.parse(" b8_t32_d64_h128") == cells.Cell(8, 32, 64, 128)
        with pytest.raises(ValueError, match=f"{text}.*not understood.*b8_t32_d64_h128"):
            cells.Cell.parse(text)


@pytest.mark.any_backend
def test_sides_take_turns_and_each_begins_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    timing, order = part("common.timing", monkeypatch), []

    def side(name: str, seconds: float) -> Any:
        def pretended(repeats: int) -> float:
            order.append(name)
            return seconds * repeats

        return pretended

    times = timing.alternate({"a": side("a", 1.0), "b": side("b", 1e-3)}, seconds=0.0, pause=0.0)
    assert "".join(order) == "aabb" + 2 * ("aabb" + "bbaa") + "aabb"
    assert [(t.median, t.spread, t.repeats, len(t.seconds)) for t in times.values()] == [
        (1.0, 0.0, 1, 5),
        (pytest.approx(1e-3), pytest.approx(0), 20, 5),  # so many that they fill a turn of 20 ms
    ]


@pytest.mark.any_backend
class TestReport:
    """On medians that are made up, so that every figure can be worked out by hand."""

    @pytest.fixture
    def report(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        return part("cpu.report", monkeypatch)

    @pytest.fixture
    def rows(self, report: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        cells, timing = part("cpu.cells", monkeypatch), part("common.timing", monkeypatch)

        def measured(**milliseconds: float) -> dict[str, Any]:
            named = {name.replace("_", " "): value for name, value in milliseconds.items()}
            return {name: timing.Times(np.full(5, value / 1e3), 1) for name, value in named.items()}

        small, large = cells.Cell(8, 4, 2, 8), cells.Cell(64, 4, 2, 128)
        case = cells.Case
        return [
            *report.rows_of(case(small, "tanh", "training"), measured(native=1, keras_graph=8, keras_xla=4, torch=3)),
            *report.rows_of(case(large, "tanh", "training"), measured(native=2, keras_graph=1, keras_xla=4)),
            *report.rows_of(case(large, "relu", "training"), measured(native=4, keras_graph=8, keras_xla=9)),
        ]

    def test_ratios_are_against_the_faster_of_keras(self, report: ModuleType, rows: list[dict[str, Any]]) -> None:
        assert [row["keras_over_this"] for row in rows] == [
            4,
            0.5,
            1,
            pytest.approx(4 / 3, rel=1e-4),
            0.5,
            1,
            0.25,
            2,
            1,
            0.88889,
        ]
        assert [row["torch_over_this"] for row in rows[:5]] == [3, 0.375, 0.75, 1, ""]
        assert report.ratio_lines(rows, "keras") == [
            ["tanh", 2, 4, 0.5, 0.5, "b64_t4_d2_h128"],
            ["relu", 1, pytest.approx(float("nan"), nan_ok=True), 2, 2, "b64_t4_d2_h128"],
        ]

    def test_cost_is_against_tanh_in_the_same_cell(self, report: ModuleType, rows: list[dict[str, Any]]) -> None:
        ((activation, training, _),) = report.cost_lines(rows)
        assert (activation, training) == ("relu", pytest.approx(2))

    def test_shares_are_of_wide_cells_in_large_batches(self, report: ModuleType, rows: list[dict[str, Any]]) -> None:
        shares = [row | {"share_of_matmul": share} for row, share in zip(rows, np.arange(1, 11) / 10, strict=True)]
        # Native of the large cell has 0.5 and 0.8; of Keras's two, 0.7 and 1.0 are the better ones.
        assert report.share_lines(shares) == [["training", "b64_t4_d2_h128", "50%", "63%", "84%"]]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the sides are TensorFlow's")
def test_sides_that_disagree_or_overflow_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    sides, cells = part("cpu.sides", monkeypatch), part("cpu.cells", monkeypatch)
    case = cells.Case(cells.Cell(1, 2, 3, 4), "relu", "inference")

    def prepared(value: float) -> Any:
        return sides.Prepared(lambda _: 0.0, np.array([1.0, value], "float32"))

    sides.check(case, {"reference": prepared(1.0), "native": prepared(1.00005)})
    with pytest.raises(ValueError, match=r"inference relu b1_t2_d3_h4: native is 0\.001 away.*more than 0\.0001"):
        sides.check(case, {"reference": prepared(1.0), "native": prepared(1.001)})
    with pytest.raises(ValueError, match="native gives numbers that are not finite"):
        sides.check(case, {"reference": prepared(1.0), "native": prepared(float("nan"))})


@pytest.mark.skipif(REASON is not None or keras.backend.backend() != "tensorflow", reason=str(REASON))
@pytest.mark.slow
class TestWhole:
    def test_the_benchmark_of_the_layer(self, tmp_path: Path) -> None:
        command = [str(BENCHMARKS / "cpu_lstm.py"), "--quick", "--cells", "b1_t6_d3_h5", "--output", str(tmp_path)]
        done = run(command)
        foreign = {"torch": ("torch",), "onnxruntime": ("onnx", "onnxruntime")}
        here = {name for name, needs in foreign.items() if all(map(importlib.util.find_spec, needs))}
        for name in foreign.keys() - here:
            assert f"{name} is left out" in done.stderr

        (path,) = tmp_path.glob("cpu_lstm_*.csv")
        with path.open() as file:
            rows = list(csv.DictReader(file))
        ours = {"native", "reference", "keras graph", "keras xla"}
        wanted = {
            ("training", "tanh"): ours | here & {"torch"},
            ("training", "prelu"): ours,
            ("inference", "tanh"): ours | here,
            ("inference", "prelu"): ours,
        }
        assert len(rows) == sum(map(len, wanted.values()))
        for (mode, activation), names in wanted.items():
            medians = {
                r["side"]: float(r["median_ms"]) for r in rows if (r["mode"], r["activation"]) == (mode, activation)
            }
            assert set(medians) == names
            best = min(medians["keras graph"], medians["keras xla"])
            for row in rows:
                if (row["mode"], row["activation"]) == (mode, activation):
                    # five digits are written
                    assert float(row["keras_over_this"]) == pytest.approx(best / medians[row["side"]], rel=1e-4)
                    assert (row["batch"], row["units"], int(row["rounds"]) >= 5) == ("1", "5", True)

        assert path.with_suffix(".png").stat().st_size > 10_000
        text = path.with_name(f"{path.stem}_summary.md").read_text()
        assert "python benchmarks/cpu_lstm.py --quick --cells b1_t6_d3_h5`" in text
        assert str(tmp_path) not in text
        for heading in ("## Training against the faster of Keras's two", "## Peak memory", "load average"):
            assert heading in text

    def test_the_benchmark_of_whole_trainings(self, tmp_path: Path) -> None:
        run([str(BENCHMARKS / "cpu_fit.py"), "--quick", "--output", str(tmp_path)])
        (path,) = tmp_path.glob("cpu_fit_*.md")
        lines = [line.strip("| ").split(" | ") for line in path.read_text().splitlines() if line.startswith("| ")]
        pairs = [[float(number) for number in line] for line in lines if line[0].isdigit()]
        assert [pair[0] for pair in pairs] == [0, 1]
        for _, native_seconds, keras_seconds, ratio, native_accuracy, keras_accuracy in pairs:
            # of two figures with two digits after the point, each about a second
            assert ratio == pytest.approx(keras_seconds / native_seconds, rel=0.05)
            # One epoch, same weights, data and dropout: a tenth of the 370 test sequences is far beyond rounding.
            assert native_accuracy == pytest.approx(keras_accuracy, abs=0.1)
        mean = float(re.search(r"geometric mean ([\d.]+)", path.read_text())[1])
        # of ratios with three digits after the point
        assert mean == pytest.approx(statistics.geometric_mean(pair[3] for pair in pairs), rel=2e-3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it builds the model on TensorFlow")
def test_the_swapped_model_holds_the_layer_of_keras_with_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    fit = importlib.import_module("cpu_fit")
    from zoo.layers import LSTM
    from zoo.models import SequenceTask, build

    models = []
    for keras_instead in (True, False):
        keras.utils.set_random_seed(0)
        with fit.layer_of_the_model(keras_instead):
            models.append(build("lstm", SequenceTask(3, 2), units=4, bidirectional=True, dropout=0.1))
    layers = [model.get_layer("bidirectional_1").forward_layer for model in models]
    assert isinstance(layers[0], keras.layers.LSTM)
    assert not isinstance(layers[0], LSTM)
    assert isinstance(layers[1], LSTM)
    for one, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
