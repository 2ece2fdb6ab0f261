"""SavedModels without a network in them, and servers over them, for every test that needs something served."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CHANNELS = 3


def write_classifier(path: Path, prefix: str = "class", scale: float = 1.0) -> None:
    """A SavedModel with the signatures and outputs that `zoo.export` writes, without a network in it."""
    import tensorflow as tf

    class Classifier(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(scale * np.array([[1.0, -0.5], [0.25, 0.5], [-1.0, 0.125]], "float32"))
            self.names = tf.constant([f"{prefix}_a", f"{prefix}_b"])

        @tf.function(
            input_signature=[
                tf.TensorSpec((None, None, CHANNELS), tf.float32, name="features"),
                tf.TensorSpec((None,), tf.int32, name="lengths"),
            ]
        )
        def padded(self, features: Any, lengths: Any) -> dict[str, Any]:
            valid = tf.sequence_mask(lengths, tf.shape(features)[1], tf.float32)[:, :, tf.newaxis]
            logits = tf.einsum("btc,ck->bk", features * valid, self.kernel)
            finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)
            best = tf.argmax(logits, axis=-1)
            return {
                "logits": logits,
                "probabilities": tf.nn.softmax(logits),
                "class_id": tf.where(finite, best, tf.constant(-1, tf.int64)),
                "label": tf.where(finite, tf.gather(self.names, best), tf.constant("")),
            }

        @tf.function(input_signature=[tf.TensorSpec((None, None, CHANNELS), tf.float32, name="features")])
        def default(self, features: Any) -> dict[str, Any]:
            return self.padded(features, tf.fill([tf.shape(features)[0]], tf.shape(features)[1]))

    module = Classifier()
    tf.saved_model.save(
        module, str(path), signatures={"serving_default": module.default, "serving_padded": module.padded}
    )


def _of_examples(module: Any) -> dict[str, Any]:
    """Signatures that take `tf.Example` messages with two floats `x`: right ones, and some with wrong outputs."""
    import tensorflow as tf

    def parsed(inputs: Any) -> Any:
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([2], tf.float32)})["x"]

    def named(x: Any) -> Any:
        return tf.tile([["first", "second"]], [tf.shape(x)[0], 1])

    outputs: dict[str, Callable[[Any], dict[str, Any]]] = {
        "classify": lambda x: {"scores": x, "classes": named(x)},
        "classify_scores": lambda x: {"scores": x},
        "classify_classes": lambda x: {"classes": named(x)},
        "classify_flat": lambda x: {"scores": x[:, 0]},
        "classify_int": lambda x: {"scores": tf.cast(x, tf.int32)},
        "classify_short": lambda x: {"scores": x[:-1]},
        "classify_unlike": lambda x: {"scores": x[:, :1], "classes": named(x)},
        "classify_other": lambda x: {"others": x},
        "classify_three": lambda x: {"scores": x, "classes": named(x), "others": x},
        "regress": lambda x: {"outputs": x[:, 0] + x[:, 1]},
        "regress_column": lambda x: {"outputs": x[:, :1]},
        "regress_wide": lambda x: {"outputs": x},
        "regress_int": lambda x: {"outputs": tf.cast(x[:, 0], tf.int32)},
        "regress_short": lambda x: {"outputs": x[:-1, 0]},
        "regress_other": lambda x: {"others": x[:, 0]},
    }
    examples = tf.TensorSpec((None,), tf.string, name="inputs")

    def of(make: Callable[[Any], dict[str, Any]]) -> Any:
        return tf.function(lambda inputs: make(parsed(inputs)), input_signature=[examples])

    functions = {name: of(make) for name, make in outputs.items()}
    functions["classify_renamed"] = tf.function(
        lambda text: {"scores": parsed(text)}, input_signature=[tf.TensorSpec((None,), tf.string, name="text")]
    )
    module.of_examples = functions
    return functions


def write_kinds(path: Path) -> None:
    """A SavedModel with a signature for every kind of tensor and of output."""
    import tensorflow as tf

    types = {
        "float": tf.float32, "double": tf.float64, "int32": tf.int32, "int64": tf.int64, "uint8": tf.uint8,
        "int8": tf.int8, "int16": tf.int16, "uint32": tf.uint32, "uint64": tf.uint64, "bool": tf.bool,
        "string": tf.string, "half": tf.float16, "bfloat16": tf.bfloat16,
    }  # fmt: skip
    module = tf.Module()
    functions = {}
    for name, dtype in types.items():
        function = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[tf.TensorSpec(None, dtype, name="x")])
        setattr(module, f"echo_{name}", function)
        functions[f"echo_{name}"] = function

    row = tf.TensorSpec((None, 2), tf.float32)
    module.two = tf.function(
        lambda a, b: {"sum": a + tf.cast(b[:, tf.newaxis], tf.float32), "b": b},
        input_signature=[
            tf.TensorSpec((None, 2), tf.float32, name="a"),
            tf.TensorSpec((None,), tf.int32, name="b"),
        ],
    )
    module.bytes = tf.function(
        lambda s: {"s_bytes": s, "n": tf.strings.length(s)},
        input_signature=[tf.TensorSpec((None,), tf.string, name="s")],
    )
    module.scalar = tf.function(lambda x: {"mean": tf.reduce_mean(x)}, input_signature=[row])
    module.halves = tf.function(
        lambda x: {"first": x[:1], "all": x}, input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")]
    )
    module.slow = tf.function(
        lambda n: {
            "n": tf.while_loop(lambda i: i < n[0], lambda i: [i + 1], [tf.constant(0)], parallel_iterations=1)[0]
        },
        input_signature=[tf.TensorSpec((1,), tf.int32, name="n")],
    )
    for name in ("two", "bytes", "scalar", "halves", "slow"):
        functions[name] = getattr(module, name)
    functions |= _of_examples(module)
    tf.saved_model.save(module, str(path), signatures=functions)


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SavedModels `one`, `two` (labels that start with `new`, logits half as large) and `kinds`."""
    root = tmp_path_factory.mktemp("saved_models")
    write_classifier(root / "one")
    write_classifier(root / "two", prefix="new", scale=0.5)
    write_kinds(root / "kinds")
    return root


Publish = Callable[[str, int], Path]


@pytest.fixture
def publish(saved_models: Path, tmp_path: Path) -> Publish:
    """Puts a copy of a SavedModel under `tmp_path/model` as a version, in one step as `zoo.export` does."""

    def put(name: str, version: int) -> Path:
        base = tmp_path / "model"
        base.mkdir(exist_ok=True)
        hidden = base / f".writing-{version}"
        shutil.copytree(saved_models / name, hidden)
        return hidden.rename(base / str(version))

    return put


def _served(root: Path, name: str, saved_model: Path) -> Any:
    from serving.server import Server, ServerOptions

    shutil.copytree(saved_model, root / "1")
    return Server(
        ServerOptions(model_base_path=root, model_name=name, rest_api_port=0, file_system_poll_wait_seconds=0)
    )


@pytest.fixture(scope="session")
def server(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A running server with the classifier as `digits`, version 1."""
    with _served(tmp_path_factory.mktemp("served"), "digits", saved_models / "one") as running:
        yield running


@pytest.fixture(scope="session")
def kinds_server(saved_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A running server with the SavedModel `kinds`, version 1."""
    with _served(tmp_path_factory.mktemp("served_kinds"), "kinds", saved_models / "kinds") as running:
        yield running


@pytest.fixture(scope="session")
def numpy_served() -> Any:
    """Both servers over models in NumPy; see `numpy_serving`. Tests that change a model use a name of their own."""
    from numpy_serving import NumpyManager, classifier, labeller, numbers, served, text

    models = {"digits": classifier(), "steps": labeller(), "numbers": numbers(), "text": text()}
    with served(NumpyManager(**{name: {1: model} for name, model in models.items()})) as running:
        yield running
