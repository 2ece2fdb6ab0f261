"""Every door out of the process, for a model around one LSTM: what is written, and what is read where the zoo is not.

    python tests/support/doors.py

runs the whole matrix on TensorFlow, JAX and torch, for `zoo.layers.LSTM` and for Keras's own layer, and writes it into
docs/export.md (about ten minutes on two cores).
"""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from zoo.export import ExportError
from zoo.layers import LSTM, SequenceMask

BATCH, STEPS, CHANNELS, UNITS = 2, 9, 3, 4  # more steps than one block of `zoo.kernels.graph`
BOUND = 1e-5
HERE = Path(__file__).resolve()
PAGE = HERE.parents[2] / "docs/export.md"
START, END = "<!-- doors: begin -->", "<!-- doors: end -->"
BACKENDS = ("tensorflow", "jax", "torch")

# === Variants ===

VARIANTS: dict[str, dict[str, Any]] = {
    "standard": {},
    "relu": {"activation": "relu"},
    "prelu": {"activation": "prelu"},
    "Bidirectional": {},
    "return_sequences": {"return_sequences": True},
    "masked": {},
    "stateful": {"stateful": True},
}


def inputs() -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(BATCH, STEPS, CHANNELS)).astype("float32")
    x[0, 5:] = 0.0  # what `Masking` takes for padding
    return x


def recurrent(variant: str, ours: bool, **more: Any) -> Any:
    arguments = VARIANTS[variant] | more
    if not ours and arguments.get("activation") == "prelu":
        arguments["activation"] = "leaky_relu"  # Keras's layer has no slopes of its own
    layer = (LSTM if ours else keras.layers.LSTM)(UNITS, **arguments)
    return keras.layers.Bidirectional(layer) if variant == "Bidirectional" else layer


def model(variant: str, ours: bool, **more: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    features = keras.Input((STEPS, CHANNELS), batch_size=BATCH, name="features")
    given = keras.layers.Masking()(features) if variant == "masked" else features
    built = keras.Model(features, recurrent(variant, ours, **more)(given))
    _randomize(built)
    return built


def served_model(variant: str, ours: bool) -> keras.Model:
    """One that `zoo.export` takes."""
    keras.utils.set_random_seed(0)
    fixed = BATCH if variant == "stateful" else None
    features = keras.Input((None, CHANNELS), batch_size=fixed, name="features")
    lengths = keras.Input((), batch_size=fixed, name="lengths", dtype="int32")
    arguments = {"mask": SequenceMask()(features, lengths)} if variant == "masked" else {}
    built = keras.Model({"features": features, "lengths": lengths}, recurrent(variant, ours)(features, **arguments))
    _randomize(built)
    return built


def _randomize(built: keras.Model) -> None:
    rng = np.random.default_rng(1)
    for weight in built.trainable_weights:  # slopes and biases that differ from unit to unit
        weight.assign(rng.normal(0, 0.5, weight.shape))


def answers(built: keras.Model) -> list[np.ndarray]:
    """What the model answers when it is asked once and, as its states may have moved, once more."""
    _reset(built)
    found = [keras.ops.convert_to_numpy(built(inputs())) for _ in range(2)]
    _reset(built)
    return found


def _reset(built: keras.Model) -> None:
    for layer in _stateful(built):
        layer.reset_states()


def _stateful(built: keras.Model) -> list[Any]:
    return [layer for layer in built.layers if getattr(layer, "stateful", False)]


# === Doors: each writes a file and says how it is read, or gives answers at once ===

Written = tuple[str, Path]  # how `read_doors.py` reads it, and where it is
Door = Callable[[str, bool, Path], Written | list[np.ndarray]]


def _traced(built: keras.Model) -> Any:
    """A function of the model that was called before it is saved, as it is in a notebook."""
    import tensorflow as tf

    function = tf.function(lambda features: built(features), autograph=False)
    function(tf.constant(inputs()))
    _reset(built)
    return function


def _module(built: keras.Model, **children: Any) -> Any:
    import tensorflow as tf

    module = tf.Module()
    module.weights = [variable.value for variable in built.variables]
    module.states = [state.value for layer in _stateful(built) for state in keras.tree.flatten(layer.states)]
    for name, child in children.items():
        setattr(module, name, child)
    return module


def saved_by_function(variant: str, ours: bool, folder: Path) -> Written:
    import tensorflow as tf

    built = model(variant, ours)
    tf.saved_model.save(_module(built, serve=_traced(built)), str(folder))
    return "saved_model", folder


def saved_by_concrete_function(variant: str, ours: bool, folder: Path) -> Written:
    import tensorflow as tf

    built = model(variant, ours)
    concrete = _traced(built).get_concrete_function(tf.TensorSpec((BATCH, STEPS, CHANNELS), name="features"))
    tf.saved_model.save(_module(built), str(folder), signatures=concrete)
    return "saved_model", folder


def saved_by_keras(variant: str, ours: bool, folder: Path) -> Written:
    model(variant, ours).export(str(folder), verbose=False)
    return "saved_model", folder


def saved_by_zoo(variant: str, ours: bool, folder: Path) -> Written:
    from zoo.export import export

    built = served_model(variant, ours)
    kind = "labelling" if variant == "return_sequences" else "classification"
    names = [f"class {number}" for number in range(built.output_shape[-1])]
    return "zoo_export", export(built, {"kind": kind, "classes": names}, folder).path


def frozen(variant: str, ours: bool, folder: Path) -> Written:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = _traced(model(variant, ours)).get_concrete_function(tf.constant(inputs()))
    path, constant = folder / "frozen.pb", convert_variables_to_constants_v2(concrete)
    path.write_bytes(constant.graph.as_graph_def().SerializeToString())
    path.with_name("names.json").write_text(json.dumps([constant.inputs[0].name, constant.outputs[0].name]))
    return "frozen", path


def _tflite(variant: str, ours: bool, folder: Path, select: bool) -> Written:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model(variant, ours))
    if select:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    (folder / "model.tflite").write_bytes(converter.convert())
    return "tflite", folder / "model.tflite"


def tflite(variant: str, ours: bool, folder: Path) -> Written:
    return _tflite(variant, ours, folder, select=False)


def tflite_select(variant: str, ours: bool, folder: Path) -> Written:
    return _tflite(variant, ours, folder, select=True)


def litert(variant: str, ours: bool, folder: Path) -> Written:
    path = folder / "model.tflite"
    model(variant, ours).export(str(path), format="litert", input_signature=_signature(), verbose=False)
    return "tflite", path


def onnx(variant: str, ours: bool, folder: Path) -> Written:
    path = folder / "model.onnx"
    model(variant, ours).export(str(path), format="onnx", input_signature=_signature(), verbose=False)
    return "onnx", path


def onnx_open_batch(variant: str, ours: bool, folder: Path) -> Written:
    """With the batch left open, which Keras hands to another exporter of torch."""
    path = folder / "model.onnx"
    signature = [keras.InputSpec(shape=(None, STEPS, CHANNELS), dtype="float32", name="features")]
    model(variant, ours).export(str(path), format="onnx", input_signature=signature, verbose=False)
    return "onnx", path


def _signature() -> list[keras.InputSpec]:
    return [keras.InputSpec(shape=(BATCH, STEPS, CHANNELS), dtype="float32", name="features")]


def _xla(built: keras.Model, inner: Callable[[Any], Any]) -> list[np.ndarray]:
    import tensorflow as tf

    outer = tf.function(inner, jit_compile=True, autograph=False)
    found = [outer(tf.constant(inputs())).numpy() for _ in range(2)]
    _reset(built)
    return found


def xla_nested(variant: str, ours: bool, folder: Path) -> list[np.ndarray]:
    built = model(variant, ours)
    traced = _traced(built)
    return _xla(built, lambda x: traced(x))


def xla_sliced(variant: str, ours: bool, folder: Path) -> list[np.ndarray]:
    import tensorflow as tf

    built = model(variant, ours)
    return _xla(built, lambda x: built(tf.concat([x, x], axis=1)[:, : tf.shape(x)[1]]))


def xla_unrolled(variant: str, ours: bool, folder: Path) -> list[np.ndarray]:
    built = model(variant, ours, unroll=True)
    return _xla(built, lambda x: built(x))


def jax_export(variant: str, ours: bool, folder: Path) -> Written:
    import jax
    from jax import export as exporting

    built = model(variant, ours)
    trainable, others = ([v.value for v in vs] for vs in (built.trainable_variables, built.non_trainable_variables))

    def run(x: Any, others: Any) -> Any:
        answer, others = built.stateless_call(trainable, others, x)
        return answer, others

    open_steps = variant != "stateful" and not getattr(built.layers[-1], "stateful", False)
    [steps] = exporting.symbolic_shape("steps") if open_steps else [STEPS]
    spec = jax.ShapeDtypeStruct((BATCH, steps, CHANNELS), "float32")
    states = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in others]
    (folder / "model.jax").write_bytes(exporting.export(jax.jit(run))(spec, states).serialize())
    np.savez(folder / "states.npz", *[np.asarray(value) for value in others])
    return "jax", folder / "model.jax"


def torch_export(variant: str, ours: bool, folder: Path) -> Written:
    import torch

    program = torch.export.export(model(variant, ours).eval(), (torch.from_numpy(inputs()),), strict=False)
    torch.export.save(program, str(folder / "model.pt2"))
    return "torch", folder / "model.pt2"


def torch_by_keras(variant: str, ours: bool, folder: Path) -> Written:
    path = folder / "model.pt2"
    model(variant, ours).export(str(path), format="torch", input_signature=_signature(), verbose=False)
    return "torch", path


def torch_trace(variant: str, ours: bool, folder: Path) -> Written:
    import torch

    path = folder / "model.ts"
    traced = torch.jit.trace(model(variant, ours).eval(), (torch.from_numpy(inputs()),), check_trace=False)
    traced.save(str(path))
    return "torchscript", path


DOORS: dict[str, dict[str, Door]] = {
    "tensorflow": {
        "SavedModel by `tf.saved_model.save`, of a function that was called": saved_by_function,
        "SavedModel of a concrete function": saved_by_concrete_function,
        "SavedModel by `model.export`": saved_by_keras,
        "SavedModel by `zoo.export`": saved_by_zoo,
        "frozen graph": frozen,
        "TFLite by `from_keras_model`": tflite,
        "TFLite with `SELECT_TF_OPS`": tflite_select,
        'LiteRT by `export(format="litert")`': litert,
        'ONNX by `export(format="onnx")`': onnx,
        "XLA around a function that was called": xla_nested,
        "XLA, sliced input": xla_sliced,
        "XLA, `unroll=True`": xla_unrolled,
    },
    "jax": {"SavedModel by `model.export`": saved_by_keras, "`jax.export`, any number of steps": jax_export},
    "torch": {
        'ONNX by `export(format="onnx")`': onnx,
        'ONNX by `export(format="onnx")`, open batch': onnx_open_batch,
        "`torch.export`": torch_export,
        '`export(format="torch")`': torch_by_keras,
        "`torch.jit.trace`": torch_trace,
    },
}
NEEDS = {onnx: ("onnx", "onnxruntime", "onnxscript", "tf2onnx"), onnx_open_batch: ("onnx", "onnxruntime")}


def missing(door: Door) -> list[str]:
    """The packages of the extra `doors` that this door needs and that are not installed."""
    return [name for name in NEEDS.get(door, ()) if importlib.util.find_spec(name) is None]


# === Cells ===


def outcomes(cells: Sequence[tuple[str, str, bool]], folder: Path) -> list[str]:
    """ "right", or what went wrong, of each (door, variant, whether the layer is ours) on this backend."""
    found, reading = ["" for _ in cells], []
    for number, (door, variant, ours) in enumerate(cells):
        place = folder / str(number)
        place.mkdir()
        try:
            with _silent():
                written = DOORS[keras.backend.backend()][door](variant, ours, place)
        except Exception as error:
            left = [path.name for path in place.rglob("*.pb")]
            what = "refused" if isinstance(error, ExportError) else "fails when it is written"
            found[number] = f"{what}: {_line(error)}" + (f" (left {left})" if left else "")
            continue
        if isinstance(written, list):
            found[number] = _judged(written, variant, ours, door)
        else:
            reading.append((number, *written))
    for (number, *_), read in zip(reading, read_elsewhere([row[1:] for row in reading], folder), strict=True):
        door, variant, ours = cells[number]
        found[number] = read if isinstance(read, str) else _judged(read, variant, ours, door)
    return found


def read_elsewhere(files: Sequence[tuple[str, Path]], folder: Path) -> list[str | list[np.ndarray]]:
    """What each file answers in a process that has no zoo, or why it does not."""
    np.save(folder / "x.npy", inputs())
    (folder / "files.json").write_text(json.dumps([(kind, str(path)) for kind, path in files]))
    command = [sys.executable, str(HERE.with_name("read_doors.py")), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return [
        error or [np.load(folder / f"answer-{number}-{call}.npy") for call in range(2)]
        for number, error in enumerate(json.loads((folder / "errors.json").read_text()))
    ]


def _judged(read: list[np.ndarray], variant: str, ours: bool, door: str) -> str:
    if door.endswith("`zoo.export`"):
        built = served_model(variant, ours)
        whole = {"features": inputs(), "lengths": np.full(BATCH, STEPS, "int32")}
        expected = [keras.ops.convert_to_numpy(keras.ops.softmax(built(whole)))] * 2
    else:
        expected = answers(model(variant, ours, **({"unroll": True} if "unroll" in door else {})))
    if variant != "stateful":
        expected = [expected[0]] * 2
    if variant == "stateful" and np.allclose(read, [expected[0]] * 2, atol=BOUND):
        return "keeps no state: answers the second call as the first"
    for one, other in zip(read, expected, strict=True):
        if one.shape != other.shape:
            return f"wrong: the shape {one.shape} in place of {other.shape}"
        difference = float(np.max(np.abs(one - other)))
        if not difference <= BOUND:
            return f"wrong by {difference:.1e}"
    return "right"


def _line(error: BaseException) -> str:
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    return " | ".join(f"{type(cause).__name__}: {' '.join(str(cause).split())[:160]}" for cause in causes)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Converters print and warn a lot."""
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        yield


# === The page ===


def cells(chosen: Sequence[str] = ()) -> list[tuple[str, str, bool]]:
    """Every (door, variant, whether the layer is ours) of this backend, or those of the chosen doors and variants."""
    return [
        (door, variant, ours)
        for door in DOORS[keras.backend.backend()]
        for variant in VARIANTS
        for ours in (True, False)
        if not chosen or door in chosen or variant in chosen
    ]


def verdict(ours: str, theirs: str) -> str:
    """What the page says of a cell, from the outcomes of our layer and of Keras's."""
    if ours == "right":
        return "right"
    return "**not right**" if theirs == "right" else theirs.split(":")[0].split(" by ")[0]


def table(outcomes_by_backend: dict[str, dict[tuple[str, str, bool], str]]) -> str:
    """The matrix as Markdown."""
    lines = ["| backend | door | " + " | ".join(VARIANTS) + " |", "| --- " * (2 + len(VARIANTS)) + "|"]
    for backend, found in outcomes_by_backend.items():
        lines += [row(backend, door, found) for door in DOORS[backend]]
    return "\n".join(lines)


def row(backend: str, door: str, found: dict[tuple[str, str, bool], str]) -> str:
    """The line of a door."""
    verdicts = [verdict(found[door, variant, True], found[door, variant, False]) for variant in VARIANTS]
    return f"| {backend} | {door} | " + " | ".join(verdicts) + " |"


def run(output: Path, chosen: Sequence[str]) -> None:
    """Write the outcome of the cells on this backend as JSON."""
    asked = cells(chosen)
    with tempfile.TemporaryDirectory() as folder:
        found = outcomes(asked, Path(folder))
    output.write_text(json.dumps([[*cell, outcome] for cell, outcome in zip(asked, found, strict=True)], indent=0))


def read(output: Path) -> dict[tuple[str, str, bool], str]:
    """What `run` has written."""
    return {(door, variant, ours): outcome for door, variant, ours, outcome in json.loads(output.read_text())}


def main() -> None:
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]), sys.argv[2:])
        return
    found = {}
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "cells.json"
            environment = os.environ | {"KERAS_BACKEND": backend}
            subprocess.run([sys.executable, str(HERE), str(output)], env=environment, check=True)
            found[backend] = read(output)
    for cells_of_backend in found.values():
        for cell, outcome in cells_of_backend.items():
            if outcome != "right":
                print(*cell, outcome)
    page = PAGE.read_text()
    before, after = page.split(START)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{START}\n{table(found)}\n{END}{after}")


if __name__ == "__main__":
    main()
