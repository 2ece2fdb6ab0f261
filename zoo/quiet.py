"""Import Keras without the lines that TensorFlow's C++ parts write to standard error."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# Read when the backend first sees a GPU: take of its memory what is needed, as it is needed. Without these TensorFlow
# takes all of it and JAX three quarters, and no second process gets any.
_MEMORY = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class BackendMissing(ImportError):
    """Keras's backend is not installed."""

    exit_code = 2


@contextmanager
def hold_back_stderr() -> Iterator[None]:
    """Hold back whatever is written to standard error, by any language, and show it only if the block fails.

    TensorFlow writes half a dozen lines when it is imported and first sees the devices, before it reads the
    variables that set its log level. They tell a user of the command line nothing.
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
    """Import TensorFlow and let it find its devices, in silence; for commands that need no Keras.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
    with hold_back_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


def import_keras(find_devices: bool = True) -> None:
    """Import Keras and its backend, and let the backend find its devices, in silence.

    GPUs are told to give memory as it is needed, unless the environment says otherwise.

    Args:
        find_devices: False where devices or the number of threads are to be chosen yet: when TensorFlow has found its
            devices, neither can be changed any more.

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
                f"Keras is to use {error.name}, which is not installed: install it, or set KERAS_BACKEND to one of "
                "tensorflow, jax and torch that is"
            ) from error
        if find_devices and keras.backend.backend() != "torch":  # Keras does not ask torch for its devices
            keras.distribution.list_devices()
