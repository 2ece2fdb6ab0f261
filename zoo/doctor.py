"""The verb `doctor`: what is installed, which devices and engines there are, what is missing and how to get it."""

import importlib.metadata
import json
import platform
import shutil
from typing import Any

import click

from zoo.quiet import import_keras

# package -> what it is for, and the extra that brings it (None: required)
PACKAGES: dict[str, tuple[str, str | None]] = {
    "keras": ("layers and models", None),
    "tensorflow": ("training, export, serving", None),
    "tensorflow-datasets": ("datasets", None),
    "mlflow": ("tracking", None),
    "jax": ("Keras on JAX", "jax"),
    "torch": ("Keras on torch", "torch"),
    "nvidia-cuda-nvrtc": ("engine cuda; torch and JAX for GPUs bring it too", "cuda"),
    "grpcio": ("gRPC in serving", "serve"),
    "tensorflow-serving-api": ("gRPC in serving, requests in exports", "serve"),
    "pydub": ("datasets of audio, such as spoken_digit", "audio"),
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def doctor(as_json: bool) -> None:
    """Say what is installed, which devices and engines there are, what is missing and how to get it.

    Exits with 1 where something required is missing.
    """
    report = examine()
    if as_json:
        click.echo(json.dumps(report))
    else:
        _print(report)
    if report["missing_required"]:
        raise click.exceptions.Exit(1)


def examine() -> dict[str, Any]:
    """Everything that the report says, as plain values.

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
    # What follows imports Keras: a missing requirement must be reported, not raised.
    backend = {"backend": None, "devices": [], "engines": {}} if missing else _keras()
    return {
        "python": platform.python_version(),
        "packages": packages,
        "missing_required": missing,
        "docker": shutil.which("docker"),
        **backend,
    }


def _keras() -> dict[str, Any]:
    import_keras()
    import keras

    from zoo.kernels import ENGINES

    return {
        "backend": keras.backend.backend(),
        "devices": [str(device) for device in keras.distribution.list_devices()],
        "engines": {name: _engine(name, engine) for name, engine in ENGINES.items()},
    }


def _engine(name: str, engine: Any) -> dict[str, Any]:
    from zoo.kernels.call import Wanted

    problem, detail = engine.refuses(Wanted()), None
    if name == "native" and not problem:
        from zoo.kernels import native

        detail = f"{native.instruction_set()}, {native.threads()} threads"
    return {"summary": engine.summary, "problem": problem, "detail": detail}


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("package", "version", "for", "how to get it", title=f"Python {report['python']}")
    table.columns[-1].no_wrap = True  # a command that is cut in two cannot be copied
    for package, entry in report["packages"].items():
        extra = entry["extra"]
        remedy = (
            "" if entry["version"] else f"pip install 'sequence-zoo[{extra}]'" if extra else "pip install sequence-zoo"
        )
        table.add_row(package, entry["version"] or "missing", entry["purpose"], escape(remedy))
    console.print(table)
    devices = ", ".join(report["devices"]) or "none found"
    console.print(f"Keras runs on {report['backend']}; devices: {devices}")
    if not any(device.startswith("gpu") for device in report["devices"]):
        console.print(escape("no GPU is seen; with one: pip install 'sequence-zoo[gpu]'"))
    for engine, about in report["engines"].items():
        state = f"not here: {about['problem']}" if about["problem"] else about["detail"] or "ready"
        console.print(escape(f"engine {engine} ({about['summary']}): {state}"))
    docker = report["docker"] or "not found (needed only to run the real TensorFlow Serving here)"
    console.print(f"docker: {docker}")
