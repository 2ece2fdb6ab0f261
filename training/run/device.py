"""Which device a run computes on."""

from contextlib import ExitStack
from typing import Any

import keras

from zoo import devices
from zoo.quiet import hold_back_stderr, import_keras

# What Keras has been told so far, on JAX and torch: entered once, left when another device is wanted.
_chosen = ExitStack()


class DeviceNotFound(ValueError):
    """A device that the backend does not see."""

    exit_code = 2


class DeviceFixed(RuntimeError):
    """The device cannot be changed here."""

    exit_code = 1


def use_device(name: str) -> None:
    """Let everything that is computed from now on, in this thread, be computed on the device called `name`.

    On TensorFlow the process sees no other GPU then, and takes no memory of one.

    Args:
        name: "auto", what the backend takes by itself: its first GPU, else the CPU; "cpu"; "gpu", the first one, which
            must be there; or "gpu:1".

    Raises:
        DeviceNotFound: The backend sees no such GPU; the message says what it sees, and how to get one.
        DeviceFixed: TensorFlow has found its devices already, and was let see others.

    Example:
    >>> use_device("auto")
    >>> use_device("gpu:99")
    Traceback (most recent call last):
    training.run.device.DeviceNotFound: train.device=gpu:99 is not here: ... sees ...
    """
    with hold_back_stderr():  # TensorFlow's first look for GPUs is loud
        found = devices.gpus()
    if name.startswith("gpu") and not [gpu for gpu in found if name in ("gpu", gpu.name)]:
        seen = ", ".join([*(f"{gpu.name} ({gpu.kind})" for gpu in found), "cpu:0"])
        why = devices.missing()
        raise DeviceNotFound(
            f"train.device={name} is not here: {keras.backend.backend()} sees {seen}{f'; {why}' if why else ''}. "
            "train.device=auto takes what there is"
        )
    if keras.backend.backend() == "tensorflow":
        _show_tensorflow(name)
        import_keras()  # now, in silence
        return
    _chosen.close()
    if name != "auto":
        _chosen.enter_context(keras.device(_jax_device(name) if keras.backend.backend() == "jax" else _of_torch(name)))


def _jax_device(name: str) -> Any:
    """A device of this host: where several hosts train together, Keras's names count the devices of all."""
    import jax

    kind, _, number = name.partition(":")
    local = jax.local_devices(backend=kind)
    return next((device for device in local if device.id == int(number or -1)), local[0])


def _of_torch(name: str) -> str:
    """With "cpu:0" in place of "cpu", Keras would copy each variable, and torch not train the copies."""
    return "gpu:0" if name == "gpu" else name


def _show_tensorflow(name: str) -> None:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    _, numbered, number = name.partition(":")
    wanted = [] if name == "cpu" else [gpus[int(number)]] if numbered else gpus
    if tf.config.get_visible_devices("GPU") == wanted:
        return
    try:
        tf.config.set_visible_devices(wanted, "GPU")
    except RuntimeError as error:
        raise DeviceFixed(
            f"train.device={name} comes too late: TensorFlow computes on {devices.computing()} in this process "
            "already; set it before anything is computed, or in a process of its own"
        ) from error
