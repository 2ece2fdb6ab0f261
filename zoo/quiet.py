"""Import Keras without the lines that TensorFlow's C++ parts write to standard error."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


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


def import_keras(find_devices: bool = True) -> None:
    """Import Keras and its backend, and let the backend find its devices, in silence.

    Args:
        find_devices: False where the number of threads is to be set yet: when TensorFlow has found its devices, that
            cannot be changed any more.
    """
    with hold_back_stderr():
        import keras

        if find_devices:
            keras.distribution.list_devices()
