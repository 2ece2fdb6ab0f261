"""The devices of the Keras backend: their properties, the one that computes, and why there is no GPU."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

# The first compute capability of CUDA with tensor cores for the type.
_UNITS = {"float16": (7, 0), "bfloat16": (8, 0)}

_INSTALL = {
    "tensorflow": "pip install 'sequence-zoo[gpu]'",
    "jax": "pip install 'jax[cuda13]', or 'jax[cuda12]' for a driver before version 580",
    "torch": "pip install --force-reinstall torch, which on Linux is built with CUDA",
}


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        name: Name such as "cpu:0" or "gpu:1".
        kind: The maker's name for it; "" if the backend does not tell.
        memory: Bytes of a GPU that the backend may use, or `None` if it does not tell.
        capability: CUDA's compute capability, such as "9.0", or `None`.

    Example:
    >>> Device("gpu:0", "NVIDIA T4", 16 * 2**30, "7.5").fast
    ('float16',)
    """

    name: str
    kind: str = ""
    memory: int | None = None
    capability: str | None = None

    @property
    def fast(self) -> tuple[str, ...]:
        """The 16-bit types in which it is faster; every device can compute in both."""
        if self.capability is None:
            return ()
        major, _, minor = self.capability.partition(".")
        return tuple(name for name, least in _UNITS.items() if (int(major), int(minor or 0)) >= least)


def gpus() -> list[Device]:
    """The GPUs that the backend sees, in its order, including those that `train.device` leaves out."""
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]()


def has_gpu() -> bool:
    """Whether the Keras backend computes on a GPU by default."""
    backend = keras.backend.backend()
    if backend == "torch":
        return str(keras.src.backend.torch.core.get_device()).startswith("cuda")
    if backend == "jax":
        import jax

        chosen = jax.config.jax_default_device  # a device, its name, or nothing
        platform = getattr(chosen, "platform", chosen) or jax.default_backend()
        return str(platform).startswith(("gpu", "cuda"))
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_logical_devices("GPU"))
    return False


def current_gpu() -> int:
    """The number of the GPU that torch puts new tensors on; 0 on JAX, where all GPUs of a process are of one kind."""
    if keras.backend.backend() == "torch":
        import torch

        return int(torch.cuda.current_device())
    return 0


def computing() -> str:
    """The device that computes by default, such as "cpu:0" or "gpu:1".

    Example:
    >>> computing().partition(":")[0] in ("cpu", "gpu", "mps", "tpu")
    True
    """
    tensor = keras.ops.zeros(())
    if keras.backend.backend() == "jax":
        [device] = tensor.devices()
        return f"{device.platform}:{device.id}"
    # "/job:localhost/replica:0/task:0/device:GPU:0", "cuda:0", "cpu"
    kind, _, number = str(tensor.device).lower().rpartition("device:")[2].partition(":")
    name = f"{kind.replace('cuda', 'gpu')}:{number or 0}"
    return _physical(name) if keras.backend.backend() == "tensorflow" else name


def missing() -> str | None:
    """The reason why the backend sees no GPU and the remedy, in a sentence; `None` if it sees one."""
    if gpus():
        return None
    backend = keras.backend.backend()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden in ("", "-1"):
        return f"{backend} sees no GPU because CUDA_VISIBLE_DEVICES={hidden!r} hides all of them: unset it"
    if not (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()):
        return f"{backend} sees no GPU and there is no NVIDIA driver; with both: {_INSTALL[backend]}"
    return f"{backend} sees no GPU, though there is an NVIDIA driver: {_INSTALL[backend]}"


def _tensorflow() -> list[Device]:
    import tensorflow as tf

    devices = []
    for number, gpu in enumerate(tf.config.list_physical_devices("GPU")):
        details = tf.config.experimental.get_device_details(gpu)
        capability = ".".join(map(str, details.get("compute_capability", ()))) or None
        devices.append(Device(f"gpu:{number}", details.get("device_name", ""), None, capability))
    return devices


def _jax() -> list[Device]:
    import jax

    try:
        devices = jax.local_devices(backend="gpu")
    except RuntimeError:  # there are none
        return []
    gpus = []
    for device in devices:
        memory = (device.memory_stats() or {}).get("bytes_limit")
        capability = getattr(device, "compute_capability", None)
        gpus.append(Device(f"gpu:{device.id}", device.device_kind, memory, capability and str(capability)))
    return gpus


def _torch() -> list[Device]:
    import torch

    devices = []
    for number in range(torch.cuda.device_count()):
        details = torch.cuda.get_device_properties(number)
        capability = f"{details.major}.{details.minor}"
        devices.append(Device(f"gpu:{number}", details.name, details.total_memory, capability))
    return devices


def _physical(name: str) -> str:
    """The physical name of a device: TensorFlow numbers only the GPUs that are visible to it."""
    import tensorflow as tf

    kind, _, number = name.partition(":")
    if kind != "gpu":
        return name
    visible: list[Any] = tf.config.get_visible_devices("GPU")
    return f"gpu:{tf.config.list_physical_devices('GPU').index(visible[int(number)])}"
