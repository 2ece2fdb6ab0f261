"""Imports Keras without the lines that TensorFlow's C++ parts write to standard error."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# Read when the backend first sees a GPU: allocate its memory as it is needed. By default TensorFlow takes all of it and
# JAX three quarters, which leaves none for a second process.
_MEMORY = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class BackendMissing(ImportError):
    """Keras's backend is not installed."""

    exit_code = 2


@contextmanager
def hold_back_stderr() -> Iterator[None]:
    """Hold back standard error, also of C++ code, and show it only if the block fails.

    When TensorFlow is imported and first lists the devices, it writes half a dozen lines before it reads the variables
    for its log level. They are of no use to a user of the command line.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def import_tensorflow() -> None:
    """Import TensorFlow and let it find its devices, silently; for commands that do not need Keras.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
    with hold_back_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


def import_keras(find_devices: bool = True) -> None:
    """Import Keras and its backend, and let the backend find its devices, silently.

    GPU memory is allocated as needed, unless the environment says otherwise.

    Args:
        find_devices: Whether to find the devices. After that TensorFlow's devices and number of threads cannot be
            changed.

    Raises:
        BackendMissing: The backend that Keras is to use is not installed.
    """
    for name, value in _MEMORY.items():
        os.environ.setdefault(name, value)
    with hold_back_stderr():
        try:
            import keras
        except ModuleNotFoundError as error:
            if error.name not in ("tensorflow", "jax", "torch"):
                raise
            raise BackendMissing(
                f"Keras is configured to use {error.name}, which is not installed: install it, or set KERAS_BACKEND to "
                "an installed one of tensorflow, jax and torch"
            ) from error
        if find_devices and keras.backend.backend() != "torch":  # Keras does not ask torch for its devices
            keras.distribution.list_devices()
