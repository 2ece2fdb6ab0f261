"""Reads files that left the process, where neither the zoo nor its operations are: run by `doors.py`, in a process."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for _name in ("zoo", "keras"):
    sys.modules[_name] = None  # type: ignore[assignment]

Ask = Callable[[np.ndarray], Any]


def saved_model(path: str) -> Ask:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    if "serving_default" not in loaded.signatures:
        return lambda x: _first(loaded.serve(tf.constant(x)))
    signature = loaded.signatures["serving_default"]
    [name] = signature.structured_input_signature[1]
    return lambda x: _first(signature(**{name: tf.constant(x)}), loaded)


def zoo_export(path: str) -> Ask:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return lambda x: loaded.signatures["serving_default"](features=tf.constant(x))["probabilities"].numpy()


def frozen(path: str) -> Ask:
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())
    names = json.loads(Path(path).with_name("names.json").read_text())
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
    run = imported.prune(*names)
    return lambda x: run(tf.constant(x)).numpy()


def tflite(path: str) -> Ask:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(path)
    interpreter.allocate_tensors()
    [given], [answer] = interpreter.get_input_details(), interpreter.get_output_details()

    def ask(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    return ask


def onnx(path: str) -> Ask:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    return lambda x: session.run(None, {given.name: x})[0]


def jax(path: str) -> Ask:
    from jax import export

    run = export.deserialize(bytearray(Path(path).read_bytes())).call
    kept = np.load(Path(path).with_name("states.npz"))
    states = [[kept[name] for name in kept.files]]

    def ask(x: np.ndarray) -> np.ndarray:
        answer, states[0] = run(x, states[0])
        return np.asarray(answer)

    return ask


def torch(path: str) -> Ask:
    import torch as library

    module = library.export.load(path).module()
    return lambda x: _first(module(library.from_numpy(x)))


def torchscript(path: str) -> Ask:
    import torch as library

    module = library.jit.load(path)
    return lambda x: _first(module(library.from_numpy(x)))


def _first(outputs: Any, _kept: Any = None) -> np.ndarray:
    if isinstance(outputs, dict):
        outputs = next(iter(outputs.values()))
    if isinstance(outputs, list | tuple):
        outputs = outputs[0]
    return outputs.detach().numpy() if hasattr(outputs, "detach") else outputs.numpy()


READERS: dict[str, Callable[[str], Ask]] = {
    "saved_model": saved_model,
    "zoo_export": zoo_export,
    "frozen": frozen,
    "tflite": tflite,
    "onnx": onnx,
    "jax": jax,
    "torch": torch,
    "torchscript": torchscript,
}


def main() -> None:
    folder, errors = Path(sys.argv[1]), []
    x = np.load(folder / "x.npy")
    for number, (kind, path) in enumerate(json.loads((folder / "files.json").read_text())):
        try:
            ask = READERS[kind](path)
            for call in range(2):
                np.save(folder / f"answer-{number}-{call}.npy", ask(x))
            errors.append(None)
        except Exception as error:
            errors.append(f"fails when it is read: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    (folder / "errors.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main()
