"""Chooses the device that a run computes on."""

from contextlib import ExitStack
from typing import Any

import keras

from zoo import devices
from zoo.quiet import hold_back_stderr, import_keras

# Keras's context for the chosen device on JAX and torch: it stays open until another device is chosen.
_chosen = ExitStack()


class DeviceNotFound(ValueError):
    """The backend does not find the requested device."""

    exit_code = 2


class DeviceFixed(RuntimeError):
    """The device cannot be changed any more in this process."""

    exit_code = 1


def use_device(name: str) -> None:
    """Compute on the device called `name` from now on, in this thread.

    On TensorFlow the process then sees no other GPU, and takes no memory on one.

    Args:
        name: "auto", the default of the backend: its first GPU, else the CPU; "cpu"; "gpu", the first one, which
            must exist; or "gpu:1".

    Raises:
        DeviceNotFound: The backend finds no such GPU; the message lists what it finds, and how to get one.
        DeviceFixed: TensorFlow is initialized already, with other devices.

    Example:
    >>> use_device("auto")
    >>> use_device("gpu:99")
    Traceback (most recent call last):
    training.run.device.DeviceNotFound: train.device=gpu:99 is not here: ... sees ...
    """
    with hold_back_stderr():  # TensorFlow logs a lot when it searches for GPUs
        found = devices.gpus()
    if name.startswith("gpu") and not [gpu for gpu in found if name in ("gpu", gpu.name)]:
        seen = ", ".join([*(f"{gpu.name} ({gpu.kind})" for gpu in found), "cpu:0"])
        why = devices.missing()
        raise DeviceNotFound(
            f"train.device={name} is not here: {keras.backend.backend()} sees {seen}{f'; {why}' if why else ''}. "
            "Choose one of these, or train.device=auto"
        )
    if keras.backend.backend() == "tensorflow":
        _show_tensorflow(name)
        import_keras()  # now, while what TensorFlow logs is held back
        return
    _chosen.close()
    if name != "auto":
        _chosen.enter_context(keras.device(_jax_device(name) if keras.backend.backend() == "jax" else _of_torch(name)))


def _jax_device(name: str) -> Any:
    """A device of this host.

    Keras's own names would not do: where several hosts train together, they count the devices of all hosts.
    """
    import jax

    kind, _, number = name.partition(":")
    local = jax.local_devices(backend=kind)
    return next((device for device in local if device.id == int(number or -1)), local[0])


def _of_torch(name: str) -> str:
    """The name of a device in the form that torch needs.

    "cpu" stays as it is: with "cpu:0" Keras would copy each variable, and torch would not train the copies.
    """
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
            "already; set it before anything is computed, or in a new process"
        ) from error
