"""Where a number comes from: GPU, driver, versions, commit. Runs where there is no GPU, no git and no framework."""

import re

from common.machine import answer, installed, origin, processor

PACKAGES = ("torch", "jax", "keras")
NO_GPU = "cpu"


def gpu() -> str:
    """The GPU's name as its driver has it, or `NO_GPU`."""
    return answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").partition("\n")[0] or NO_GPU


def state() -> str:
    """Driver, clocks, temperature and power of the GPU at this moment, or ""."""
    wanted = "driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw,memory.used"
    return answer("nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader")


def slug() -> str:
    """GPU and versions as the part of a file's name."""
    name = re.sub(r"[^a-z0-9]+", "-", gpu().lower()).strip("-")
    return f"{name}_" + "-".join(f"{package}{version}" for package, version in installed(PACKAGES).items())


def header(command: str, commit: str | None = None) -> list[str]:
    """Lines of Markdown that say what made a file."""
    return origin(command, installed(PACKAGES), f"{gpu()}; {processor()}", commit)
