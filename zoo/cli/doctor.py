"""The verb `doctor`: what is installed, which devices and engines there are, what is missing and how to get it."""

import dataclasses
import importlib.metadata
import json
import platform
import shutil
from typing import TYPE_CHECKING, Any

import click

from zoo.quiet import BackendMissing, import_keras

if TYPE_CHECKING:
    from zoo.devices import Device

# The purpose of each package, and the extra that installs it (None: required).
PACKAGES: dict[str, tuple[str, str | None]] = {
    "keras": ("layers and models", None),
    "tensorflow": ("training, export, serving", None),
    "tensorflow-datasets": ("datasets", None),
    "mlflow": ("tracking", None),
    "jax": ("Keras on JAX", "jax"),
    "torch": ("Keras on torch", "torch"),
    "nvidia-cuda-nvrtc": ("engine cuda; also comes with torch and JAX for GPUs", "cuda"),
    "grpcio": ("gRPC in serving", "serve"),
    "google-crc32c": ("warm-up records in serving", "serve"),
    "tensorflow-serving-api": ("gRPC in serving, requests in exports", "serve"),
    "pydub": ("datasets of audio, such as spoken_digit", "audio"),
}

# Packages that training on JAX and torch does not need, and what another machine does instead.
_ELSEWHERE = {
    "tensorflow": "runs are exported and served where it is installed",
    "tensorflow-datasets": "datasets are prepared where it is installed, and copied here by zoo datasets carry",
    "mlflow": "runs are recorded in mlruns/runs, and delivered to MLflow where it is installed",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def doctor(as_json: bool) -> None:
    """Say what is installed, which devices and engines there are, what is missing and how to get it.

    Exits with 1 where something required is missing. On JAX and torch, training requires neither TensorFlow nor MLflow.
    """
    report = examine()
    if as_json:
        click.echo(json.dumps(report))
    else:
        _print(report)
    if report["missing_required"]:
        raise click.exceptions.Exit(1)


def examine() -> dict[str, Any]:
    """The content of the report as plain values.

    Example:
    >>> report = examine()
    >>> report["backend"] in ("tensorflow", "jax", "torch"), "reference" in report["engines"]
    (True, True)
    """
    packages = {}
    for package, (purpose, extra) in PACKAGES.items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = None
        packages[package] = {"version": version, "purpose": purpose, "extra": extra}
    missing = [name for name, entry in packages.items() if entry["version"] is None and entry["extra"] is None]
    elsewhere = {}
    if _backend() in ("jax", "torch"):
        elsewhere = {name: _ELSEWHERE[name] for name in missing if name in _ELSEWHERE}
        missing = [name for name in missing if name not in elsewhere]
    nothing: dict[str, Any] = {"backend": None, "device": None, "devices": [], "no_gpu": None, "engines": {}}
    return {
        "python": platform.python_version(),
        "packages": packages,
        "missing_required": missing,
        "elsewhere": elsewhere,
        "docker": shutil.which("docker"),
        # This imports Keras: a missing requirement must be reported, not raised.
        **(nothing if missing else _keras()),
    }


def _backend() -> str | None:
    """The configured backend of Keras, or `None` if it or Keras is not installed."""
    try:
        import_keras(find_devices=False)
    except (BackendMissing, ModuleNotFoundError):
        return None
    import keras

    return str(keras.backend.backend())


def _keras() -> dict[str, Any]:
    import_keras()
    import keras

    from zoo import devices
    from zoo.kernels import ENGINES

    return {
        "backend": keras.backend.backend(),
        "device": devices.computing(),
        "devices": [_device(device) for device in [*devices.gpus(), devices.Device("cpu:0", platform.machine())]],
        "no_gpu": devices.missing(),
        "engines": {name: _engine(engine) for name, engine in ENGINES.items()},
    }


def _device(device: "Device") -> dict[str, Any]:
    about = dataclasses.asdict(device)
    return {**about, "float16": "float16" in device.fast, "bfloat16": "bfloat16" in device.fast}


def _engine(engine: Any) -> dict[str, Any]:
    problem = engine.unavailable()
    return {"summary": engine.summary, "problem": problem, "detail": None if problem else engine.detail()}


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from zoo import terminal

    table = Table("package", "version", "for", title=f"Python {report['python']}")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    table.columns[2].overflow = "fold"
    for package, entry in report["packages"].items():
        table.add_row(package, entry["version"] or "missing", entry["purpose"])
    terminal.show(table)
    console = Console()
    for package, entry in report["packages"].items():
        if not entry["version"]:
            extra = f"'sequence-zoo[{entry['extra']}]'" if entry["extra"] else "sequence-zoo"
            # On a separate line, because a wrapped command cannot be copied.
            console.print(escape(f"{package} is missing: pip install {extra}"), soft_wrap=True, highlight=False)
    for package, instead in report["elsewhere"].items():
        console.print(f"without {package}: {instead}")
    if report["backend"] is not None:
        console.print(f"Keras runs on {report['backend']} and computes on {report['device']}")
    for device in report["devices"]:
        console.print(escape(_device_line(device)), soft_wrap=True)
    if report["no_gpu"]:
        console.print(escape(report["no_gpu"]), soft_wrap=True)
    for engine, about in report["engines"].items():
        state = f"not here: {about['problem']}" if about["problem"] else about["detail"] or "ready"
        console.print(escape(f"engine {engine} ({about['summary']}): {state}"))
    docker = report["docker"] or "not found (needed only to run the real TensorFlow Serving here)"
    console.print(f"docker: {docker}")


def _device_line(device: dict[str, Any]) -> str:
    """One device in a line.

    Example:
    >>> _device_line(
    ...     {
    ...         "name": "gpu:0",
    ...         "kind": "NVIDIA T4",
    ...         "memory": 2**34,
    ...         "capability": "7.5",
    ...         "float16": True,
    ...         "bfloat16": False,
    ...     }
    ... )
    'gpu:0: NVIDIA T4, 16.0 GiB, compute capability 7.5; has units for float16'
    """
    parts = [device["kind"] or "of unknown make"]
    if device["memory"]:
        parts.append(f"{device['memory'] / 2**30:.1f} GiB")
    if device["capability"]:
        parts.append(f"compute capability {device['capability']}")
    units = " and ".join(name for name in ("float16", "bfloat16") if device[name])
    gain = f"has units for {units}" if units else "train.precision in 16 bits works and is no faster"
    return f"{device['name']}: {', '.join(parts)}; {gain}"
