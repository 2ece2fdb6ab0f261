"""Imports the protocol buffers of TensorFlow and TensorFlow Serving without the seconds of `import tensorflow`.

The generated `*_pb2` modules need only protobuf, but importing one first imports the package it lies in, which is all
of TensorFlow. While they are imported here, a bare package stands in for it; it is taken away again, so that a later
`import tensorflow` in the same process is the real one. Protobuf keeps one descriptor pool for the process, so both
imports give the same message classes.
"""

import importlib
import importlib.util
import sys
import threading
import types
from pathlib import Path
from typing import Any

_lock = threading.Lock()
_modules: dict[str, Any] = {}


class ServingApiMissing(ImportError):
    """The messages of TensorFlow Serving are not installed."""

    exit_code = 2


def tensorflow_directory() -> Path:
    """The folder of the installed TensorFlow, found without importing it.

    Raises:
        ImportError: TensorFlow is not installed.
    """
    loaded = sys.modules.get("tensorflow")
    if loaded is not None and loaded.__file__ is not None:
        return Path(loaded.__file__).parent
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise ImportError("TensorFlow is not installed here, and serving runs its models; pip install tensorflow")
    return Path(spec.origin).parent


def proto_module(name: str) -> Any:
    """One generated module, such as `"tensorflow.core.protobuf.config_pb2"` or `"tensorflow_serving.apis.predict_pb2"`.

    Raises:
        ServingApiMissing: It is a module of TensorFlow Serving or of gRPC, and the extra `serve` is not installed.
    """
    if name not in _modules:
        with _lock:
            try:
                _modules[name] = importlib.import_module(name) if _is_imported() else _import_alone(name)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] not in ("tensorflow_serving", "grpc"):
                    raise
                raise ServingApiMissing(
                    f"{name} needs {error.name}, which is not installed; pip install 'sequence-zoo[serve]'"
                ) from error
    return _modules[name]


def _is_imported() -> bool:
    return "tensorflow" in sys.modules


def _import_alone(name: str) -> Any:
    directory = tensorflow_directory()
    package = types.ModuleType("tensorflow")
    package.__path__ = [str(directory)]
    # Another thread may ask for the directory meanwhile.
    package.__file__ = str(directory / "__init__.py")
    sys.modules["tensorflow"] = package
    try:
        return importlib.import_module(name)
    finally:
        for loaded in [key for key in sys.modules if key == "tensorflow" or key.startswith("tensorflow.")]:
            del sys.modules[loaded]


def meta_graph_def() -> Any:
    """The message class `tensorflow.MetaGraphDef`."""
    return proto_module("tensorflow.core.protobuf.meta_graph_pb2").MetaGraphDef


def config_proto() -> Any:
    """The message class `tensorflow.ConfigProto`."""
    return proto_module("tensorflow.core.protobuf.config_pb2").ConfigProto


def run_options() -> Any:
    """The message class `tensorflow.RunOptions`."""
    return proto_module("tensorflow.core.protobuf.config_pb2").RunOptions


def tensor_proto() -> Any:
    """The message class `tensorflow.TensorProto`."""
    return proto_module("tensorflow.core.framework.tensor_pb2").TensorProto


def apis(name: str) -> Any:
    """A module of `tensorflow_serving.apis` by its short name, such as `"predict_pb2"`.

    Raises:
        ServingApiMissing: The extra `serve` is not installed.
    """
    return proto_module(f"tensorflow_serving.apis.{name}")
