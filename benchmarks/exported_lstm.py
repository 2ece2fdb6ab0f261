"""An exported LSTM against Keras's own export of it, and onnxruntime beside them.

    pip install -c constraints.txt -e ".[bench]"
    python benchmarks/exported_lstm.py

About 5 minutes on 2 cores that have nothing else to do. All sides run in turn in one process, round after round, by
TensorFlow's C API as `zoo serve` runs them; a ratio is the median of the rounds' ratios. Writes a page to
docs/results/.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np
from common.cells import Arrays, Cell, arrays
from common.timing import Times, alternate, timed
from numpy.typing import NDArray

from serving.runtime.load import load
from serving.runtime.model import Model
from serving.runtime.options import Options

CHANNELS, CLASSES = 9, 6
KERAS, LAYER, MODEL, BEFORE, XLA = "keras", "zoo layer", "zoo model", "zoo model, Keras's loop", "zoo model, XLA"
ORT = "onnxruntime"
SIDES = dict.fromkeys((KERAS, LAYER, MODEL, BEFORE), "serving_default") | {XLA: "serving_xla"}
ABOUT = f"""\
- `{KERAS}`: `keras.layers.LSTM`, no mask, by Keras's `model.export`: what the others are held against
- `{LAYER}`: `zoo.layers.LSTM`, the same weights, the same way
- `{MODEL}`: the model `lstm` of the zoo by `zoo.export`: lengths, masks, normalisation, checks, head and answers too
- `{BEFORE}`: the same model with the loop that Keras traces in the place of ours
- `{XLA}`: of `{MODEL}`, the signature `serving_xla`, compiled before it is timed
- `{ORT}`: its LSTM operation, tanh only, as many threads as TensorFlow has inside an operation
"""


@click.command()
@click.option("--batches", default="1,32", show_default=True)
@click.option("--steps", default="29,128,512", show_default=True)
@click.option("--units", default="32,128", show_default=True)
@click.option("--activations", default="tanh,relu", show_default=True)
@click.option("--intra", default=1, show_default=True, help="Threads inside an operation.")
@click.option("--inter", default=2, show_default=True, help="Threads across operations.")
@click.option("--seconds", default=4.0, show_default=True, help="Rounds of a size start for so long.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="docs/results/exported_lstm.md if none."
)
@click.option("--build", type=click.Path(path_type=Path), hidden=True)
def main(
    batches: str,
    steps: str,
    units: str,
    activations: str,
    intra: int,
    inter: int,
    seconds: float,
    output: Path | None,
    build: Path | None,
) -> None:
    """Time exported LSTMs, side by side."""
    widths, names = _integers(units), activations.split(",")
    if build:
        for width in widths:
            for name in names:
                _build(build, width, name)
        return
    before, lines = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as folder:
        # TensorFlow's Python package builds, in a process of its own: what is timed runs without it.
        arguments = ["--build", folder, "--units", units, "--activations", activations]
        subprocess.run([sys.executable, __file__, *arguments], check=True)
        for width in widths:
            for name in names:
                with _loaded(Path(folder) / f"{name}-{width}", Options(("serve",), intra, inter)) as models:
                    for batch in _integers(batches):
                        for count in _integers(steps):
                            cell = Cell(batch, count, CHANNELS, width)
                            lines.append(_line(cell, name, *_timed(models, cell, name, intra, seconds)))
                            print(lines[-1], flush=True)
    _write(output, lines, before, intra, inter)


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


# === Exports ===


def _weights(units: int) -> Arrays:
    return arrays(Cell(1, 1, CHANNELS, units))


def _build(folder: Path, units: int, activation: str) -> None:
    from zoo.quiet import import_keras

    import_keras()
    import keras

    from zoo.export import export
    from zoo.kernels.target import Place, Target
    from zoo.layers import LSTM
    from zoo.models import SequenceTask, build

    keras.utils.set_random_seed(0)
    folder = folder / f"{activation}-{units}"
    given = _weights(units)
    for name, layer in ((KERAS, keras.layers.LSTM(units, activation=activation)), (LAYER, LSTM(units, activation))):
        inputs = keras.Input((None, CHANNELS), name="features")
        model = keras.Model(inputs, layer(inputs))
        layer.set_weights([given.kernel, given.recurrent_kernel, given.bias])
        model.export(str(folder / name), verbose=False)
    task = SequenceTask(channels=CHANNELS, classes=CLASSES, mean=(0.0,) * CHANNELS, variance=(1.0,) * CHANNELS)
    classes = [f"class {number}" for number in range(CLASSES)]
    model = build("lstm", task, units=units, activation=activation)
    export(model, {"classes": classes}, folder / "written", xla=True).path.rename(folder / MODEL)
    # What leaves the process for no TensorFlow runtime takes Keras's loop.
    with mock.patch("zoo.kernels.target.of_trace", return_value=Target(Place.ELSEWHERE)):
        export(model, {"classes": classes}, folder / "written").path.rename(folder / BEFORE)


@contextmanager
def _loaded(folder: Path, options: Options) -> Iterator[dict[str, Model]]:
    models = {name: load(folder / name, options) for name in (KERAS, LAYER, MODEL, BEFORE)}
    try:
        yield models
    finally:
        for model in models.values():
            model.close()


# === Times ===


def _timed(
    models: dict[str, Model], cell: Cell, activation: str, threads: int, seconds: float
) -> tuple[dict[str, Times], float]:
    """The times of each side, and the seconds that XLA took to compile for this size."""
    x = np.random.default_rng(0).normal(size=(cell.batch, cell.steps, CHANNELS)).astype("float32")
    steps: dict[str, Callable[[], Any]] = {
        name: lambda name=name: models[MODEL if name == XLA else name].run(SIDES[name], {"features": x})
        for name in SIDES
    }
    started = time.perf_counter()
    compiled = steps[XLA]()
    compilation = time.perf_counter() - started
    _same(steps[MODEL]()["logits"], compiled["logits"])
    of_keras, of_layer = (next(iter(steps[name]().values())) for name in (KERAS, LAYER))
    _same(of_layer, of_keras)
    if activation == "tanh" and importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        steps[ORT] = _onnxruntime(cell, x, threads)
        _same(steps[ORT]()[0][0], of_keras)
    return alternate({name: timed(step) for name, step in steps.items()}, seconds), compilation


def _onnxruntime(cell: Cell, x: NDArray[np.float32], threads: int) -> Callable[[], Any]:
    import onnxruntime
    from cpu.onnx_model import onnx_model

    given = replace(_weights(cell.units), x=x)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = onnx_model(given, cell.units)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {"x": np.ascontiguousarray(x.transpose(1, 0, 2))}
    return lambda: session.run(None, feeds)


def _same(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    apart = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not apart < 1e-4:
        raise ValueError(f"two sides differ by {apart:.2g}: they do not compute the same, so their times mean nothing")


# === Page ===

COLUMNS = [
    "batch",
    "steps",
    "units",
    "activation",
    f"{KERAS}, ms",
    *(f"{KERAS} / {n}" for n in (LAYER, MODEL, XLA, ORT)),
]
COLUMNS += [f"{BEFORE} / {MODEL}", f"{MODEL} / {XLA}", "XLA compiles, s"]


def _line(cell: Cell, activation: str, times: dict[str, Times], compilation: float) -> str:
    def ratio(one: str, other: str) -> str:
        if other not in times:
            return ""
        low, middle, high = np.percentile(times[one].seconds / times[other].seconds, [10, 50, 90])
        return f"**{middle:.2f}** ({low:.2f}-{high:.2f})"

    values = [cell.batch, cell.steps, cell.units, activation, f"{1e3 * times[KERAS].median:.2f}"]
    values += [
        *(ratio(KERAS, name) for name in (LAYER, MODEL, XLA, ORT)),
        ratio(BEFORE, MODEL),
        ratio(MODEL, XLA),
        f"{compilation:.2f}",
    ]
    return "| " + " | ".join(str(value) for value in values) + " |"


def _write(output: Path | None, lines: list[str], before: float, intra: int, inter: int) -> None:
    from common import machine

    page = output or machine.RESULTS / "exported_lstm.md"
    command = " ".join(["python benchmarks/exported_lstm.py", *sys.argv[1:]])
    threads = f"- threads: {intra} inside an operation, {inter} across operations"
    head = [f"| {' | '.join(COLUMNS)} |", "| " + " | ".join("---" for _ in COLUMNS) + " |"]
    note = "Times of a call, without a server around it. A ratio above 1 says how many times as fast the second is: the"
    note += " median of the rounds, each a ratio of neighbours in time, with their 10th and 90th percentile."
    parts = ["# An exported LSTM, served", "", *machine.header(command, before), threads, "", ABOUT, note, ""]
    page.write_text("\n".join([*parts, *head, *lines]) + "\n")
    print(f"wrote {page}")


if __name__ == "__main__":
    main()
