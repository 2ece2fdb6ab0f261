"""The built library of the native engine: its operations in TensorFlow, its functions by ctypes, its threads."""

import ctypes
import functools
import json
import os
from pathlib import Path
from typing import Any

from zoo.checks import positive_integer
from zoo.kernels.native.build import LIBRARY, NOTE

_threads: int | None = None


@functools.cache
def not_built() -> str | None:
    """The reason why the engine was not built, or `None` if it was.

    Example:
    >>> not_built() is None or "build it with" in not_built()
    True
    """
    if LIBRARY.exists():
        return None
    again = f"build it with: python {Path(__file__).with_name('build.py')}"
    if not NOTE.exists():
        return f"it has not been built; {again}"
    error = json.loads(NOTE.read_text(encoding="utf-8")).get("error", "its file has gone")
    return f"it was not built when the package was installed: {error}; after fixing that, {again}"


@functools.cache
def operations() -> Any:
    """The operations `zoo_lstm` and `zoo_lstm_grad`; `ops.py` gives them their gradient."""
    import tensorflow as tf

    return tf.load_op_library(str(LIBRARY))


@functools.cache
def library() -> ctypes.CDLL:
    """The library for calls by ctypes."""
    operations()  # first by TensorFlow, because the operations are registered when the file is loaded first
    loaded = ctypes.CDLL(str(LIBRARY))
    loaded.zoo_activation_name.restype = loaded.zoo_instruction_set.restype = ctypes.c_char_p
    return loaded


@functools.cache
def codes() -> dict[str, int]:
    """The code of each activation in the library, by name."""
    by_name: dict[str, int] = {}
    while name := library().zoo_activation_name(len(by_name)):
        by_name[name.decode()] = len(by_name)
    return by_name


def instruction_set() -> str:
    """The instruction set in use on this processor: "avx512", "avx2" or "portable"."""
    return str(library().zoo_instruction_set().decode())


def threads() -> int:
    """The largest number of threads of a call: from `set_threads`, else TensorFlow's number, else all cores.

    A graph keeps the number that held when it was traced.
    """
    if _threads is not None:
        return _threads
    import tensorflow as tf

    return int(tf.config.threading.get_intra_op_parallelism_threads()) or _cores()


def set_threads(number: int | None) -> None:
    """Limit every call that is made or traced from now on to `number` threads; `None` restores the default.

    Raises:
        ValueError: `number` is not a positive int.

    Example:
    >>> set_threads(1)
    >>> threads()
    1
    >>> set_threads(None)
    """
    global _threads
    _threads = None if number is None else positive_integer("number", number)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
