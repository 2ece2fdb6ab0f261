"""What `zoo doctor` says of devices, of a GPU that is missing, and of what a machine without TensorFlow can do."""

import importlib.metadata
import json
import os
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from zoo import devices, quiet
from zoo.cli import doctor
from zoo.devices import Device

H200 = Device("gpu:0", "NVIDIA H200", 141 * 2**30, "9.0")


def test_what_each_backend_says_of_a_gpu(monkeypatch):
    import jax
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one", "two"])
    about = {"one": {"device_name": "NVIDIA H200", "compute_capability": (9, 0)}, "two": {}}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", about.get)
    assert devices._tensorflow() == [Device("gpu:0", "NVIDIA H200", None, "9.0"), Device("gpu:1")]

    stats = {"bytes_limit": H200.memory}
    of_jax = SimpleNamespace(id=0, device_kind="NVIDIA H200", compute_capability="9.0", memory_stats=lambda: stats)
    monkeypatch.setattr(jax, "local_devices", lambda backend: [of_jax])
    assert devices._jax() == [H200]

    torch = pytest.importorskip("torch")
    properties = SimpleNamespace(name="NVIDIA H200", total_memory=H200.memory, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)
    assert devices._torch() == [H200]


@pytest.mark.parametrize(
    ("capability", "fast"),
    [
        (None, ()),
        ("6.1", ()),
        ("7.5", ("float16",)),
        ("8.0", ("float16", "bfloat16")),
        ("12.0", ("float16", "bfloat16")),
    ],
)
def test_which_types_a_gpu_has_units_for(capability, fast):
    assert Device("gpu:0", capability=capability).fast == fast


@pytest.mark.parametrize(
    ("hidden", "driver", "message"),
    [("-1", True, "hides all of them"), (None, False, "there is no NVIDIA driver"), (None, True, "though there is an")],
)
def test_why_there_is_no_gpu(hidden, driver, message, monkeypatch):
    monkeypatch.setattr(devices, "gpus", list)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/usr/bin/nvidia-smi" if driver else None)
    assert message in devices.missing()
    monkeypatch.setattr(devices, "gpus", lambda: [H200])
    assert devices.missing() is None


def test_the_doctor_shows_a_gpu(monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: [H200])
    report = json.loads(CliRunner().invoke(doctor.doctor, ["--json"], catch_exceptions=False).stdout)
    gpu, cpu = report["devices"]
    assert (gpu["name"], gpu["kind"]) == ("gpu:0", "NVIDIA H200")
    assert (gpu["memory"], gpu["capability"], gpu["float16"], gpu["bfloat16"]) == (H200.memory, "9.0", True, True)
    assert (cpu["name"], cpu["float16"], report["no_gpu"]) == ("cpu:0", False, None)
    text = CliRunner().invoke(doctor.doctor, catch_exceptions=False).stdout
    assert "gpu:0: NVIDIA H200, 141.0 GiB, compute capability 9.0; has units for float16 and bfloat16" in text


def test_the_doctor_requires_no_tensorflow_of_other_backends(monkeypatch):
    installed = importlib.metadata.version

    def version(name):
        if name in ("tensorflow", "tensorflow-datasets", "mlflow"):
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    report = doctor.examine()  # here Keras is to use TensorFlow
    assert report["missing_required"] == ["tensorflow", "tensorflow-datasets", "mlflow"]
    assert report["backend"] is None
    monkeypatch.setattr(doctor, "_backend", lambda: "jax")
    report = doctor.examine()
    assert report["missing_required"] == []
    assert "zoo datasets carry" in report["elsewhere"]["tensorflow-datasets"]
    assert report["backend"] is not None


def test_gpus_give_memory_as_it_is_needed_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "")
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE")
    quiet.import_keras()
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "false"
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
