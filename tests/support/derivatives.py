"""Every derivative of an LSTM by every engine, against differences of the equations in NumPy and float64.

    KERAS_BACKEND=jax python tests/support/derivatives.py     # writes this backend's rows of docs/compatibility.md

A cell of the table is "right" within the bound, or "refused" by an error that names `engine="reference"`; anything else
raises. What Keras's own layer answers with an error is "fails" in its row, and may be one in ours.
"""

import contextlib
import functools
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from cuda_emulation import install
from cudnn_stand_in import stand_in
from derivative_problem import CHANNELS, STANDARD, UNITS, Problem
from derivatives_of_layers import BACKEND, of_layer, reloaded
from gradients import float64
from keras import ops

from zoo import kernels
from zoo.layers import LSTM
from zoo.layers._gated_cell import GATES

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN, END = "<!-- derivatives: begin -->", "<!-- derivatives: end -->"
KERAS = "keras.layers.LSTM"
ENGINES = {
    backend: (KERAS, *(name for name, row in kernels.ENGINES.items() if not row.backends or backend in row.backends))
    for backend in kernels.contract.BACKENDS
}
STOOD_IN_FOR = ("cudnn", "cuda")  # engines that need a GPU, for which something stands in
FLOAT32 = {("jax", "cudnn"), ("jax", "cuda"), ("torch", "cuda")}
COLUMNS = {
    "first": "first",
    "second": "second, by inputs and weights",
    "hessian": "Hessian",
    "jacobian": "Jacobian",
    "forward": "forward mode",
    "vmap": "`vmap` of gradients",
    "saved": "first, through a SavedModel",
}


@contextlib.contextmanager
def available(engine):
    """Puts what stands in for a GPU in its place."""
    with pytest.MonkeyPatch.context() as patch:
        if engine == "cudnn":
            stand_in(patch)
        if engine == "cuda":
            install(patch, Path(_emulator().name))
        yield


@functools.cache
def _emulator():
    """The folder of the emulator, which takes half a minute to build."""
    return tempfile.TemporaryDirectory()


def made(engine, problem, dtype):
    arguments = {f"{gate}_activation": name for gate, name in zip(GATES, problem.names, strict=True)}
    kind = functools.partial(LSTM, engine=engine, **arguments)
    layer = (keras.layers.LSTM if engine == KERAS else kind)(UNITS, return_sequences=True, dtype=dtype)
    layer.build((None, None, CHANNELS))
    for weight, value in zip(layer.trainable_weights, problem.weights, strict=True):
        weight.assign(value)
    return layer


def outcome(engine, column, names=STANDARD, compiled=BACKEND == "jax"):
    """What a cell says: "right", "refused" or, where Keras has no answer, "fails".

    Raises:
        AssertionError: The numbers are wrong, or there are none and the error does not name the way out.
    """
    problem = Problem(names)
    single = column == "saved" or (BACKEND, engine) in FLOAT32
    with available(engine), contextlib.nullcontext() if single else float64():
        layer = made(engine, problem, "float32" if single else "float64")
        try:
            if column == "saved":
                found = reloaded(layer, problem)
            else:
                found = getattr(of_layer(layer, problem, compiled), column)()
        except Exception as error:
            if 'engine="reference"' in str(error):
                return "refused"
            if engine == KERAS or outcome(KERAS, column, names, compiled) == "fails":
                return "fails"
            raise AssertionError(f"{engine}, {column}: {error!r}") from error
        expected = getattr(problem, column)()
    # float64 within what central differences lose, but for what Keras computes in float32 (tanh on JAX, products on
    # torch); float32; the CUDA engine, which rounds what the recurrent product multiplies to half precision.
    bound = 5e-3 if engine == "cuda" else 1e-4 if single else 1e-6 if BACKEND == "tensorflow" else 2e-5
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None, f"{engine}, {column}: no gradient"
        ours = ops.convert_to_numpy(ours) if column != "saved" else ours.numpy()
        scale = max(1.0, float(np.abs(theirs).max()))
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=bound, err_msg=f"{engine}, {column}")
    return "right"


def rows():
    """This backend's rows of the table, as the page has them."""
    return [row(engine) for engine in ENGINES[BACKEND]]


def row(engine):
    name = f"`{engine}`" if engine == KERAS else f'`engine="{engine}"`'
    return f"| {BACKEND} | {name} | " + " | ".join(outcome(engine, column) for column in COLUMNS) + " |"


def committed():
    """The lines of the table in the page."""
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip().splitlines()


def write():
    kept = [line for line in committed()[2:] if not line.startswith(f"| {BACKEND} |")]
    head = ["| backend | layer | " + " | ".join(COLUMNS.values()) + " |", "| --- | --- |" + " --- |" * len(COLUMNS)]
    order = list(ENGINES)
    body = sorted([*kept, *rows()], key=lambda line: order.index(line.split(" | ")[0].strip("| ")))
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text("\n".join([before + BEGIN, *head, *body, after]), encoding="utf-8")


if __name__ == "__main__":
    write()
