"""The protocol buffers inside the TensorFlow wheel, without the seconds that `import tensorflow` takes.

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


def tensorflow_directory() -> Path:
    """Where the installed TensorFlow lies, found without importing it.

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
    """One generated module of TensorFlow, such as `"tensorflow.core.protobuf.config_pb2"`."""
    with _lock:
        if name not in _modules:
            _modules[name] = importlib.import_module(name) if _is_imported() else _import_alone(name)
        return _modules[name]


def _is_imported() -> bool:
    return "tensorflow" in sys.modules


def _import_alone(name: str) -> Any:
    package = types.ModuleType("tensorflow")
    package.__path__ = [str(tensorflow_directory())]
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
