"""The CUDA kernels on the CPU: `cuda_emulator/` built for each width, and put in the place of a GPU."""

import ctypes
import dataclasses
import functools
import shutil
import subprocess
from pathlib import Path

from zoo.kernels.cuda import variant
from zoo.kernels.cuda.driver import Launch
from zoo.kernels.native.build import find_compiler
from zoo.types import Gates

SOURCES = Path(__file__).parent / "cuda_emulator"


def build(folder: Path, units: int) -> Path:
    """A library that emulates the kernels for `units`, made in `folder`."""
    library = folder / f"emulator_{units}.so"
    if not library.exists():
        for name, text in {**variant.headers(), "lstm.cu": variant.source()}.items():
            (folder / name).write_text(text)
        for file in SOURCES.iterdir():
            shutil.copy(file, folder)
        # Of the macros only the sizes: the emulator chooses the rest when it runs.
        options = variant.Variant(units, Gates(*["linear"] * 5), "float16").options()
        sizes = [option for option in options if option.startswith(("-DZOO_UNITS=", "-DZOO_STAGES="))]
        command = [find_compiler(), "-std=c++17", "-O2", "-fPIC", "-shared", *sizes, "emulator.cpp"]
        subprocess.run([*command, "-o", str(library)], cwd=folder, check=True, timeout=120)
    return library


def codes(library: Path) -> dict[str, int]:
    """The number of each activation in the emulator, by name."""
    name_of = ctypes.CDLL(str(library)).zoo_activation_name
    name_of.restype = ctypes.c_char_p
    found: dict[str, int] = {}
    while name := name_of(len(found)):
        found[name.decode()] = len(found)
    return found


def install(monkeypatch, folder: Path) -> None:
    """Let `engine="cuda"` run without a GPU."""
    from zoo.kernels import ENGINES
    from zoo.kernels.cuda import lstm

    library = functools.cache(functools.partial(build, folder))

    def kernel(chosen: variant.Variant, name: str, blocks: int) -> Launch:
        flags = (chosen.masked, chosen.clipped, chosen.keep, chosen.sequences)
        learned = sum(1 << which for which, does in enumerate(chosen.learned) if does)
        at = library(chosen.units)
        numbers = [*(codes(at)[name] for name in chosen.activations), *flags, learned, chosen.half == "bfloat16"]
        text = " ".join([name, *(str(int(number)) for number in numbers)])
        return Launch(str(at), text, blocks, chosen.threads, chosen.shared(name))

    row = dataclasses.replace(ENGINES["cuda"], needs_gpu=False, missing=lambda: None)
    monkeypatch.setitem(ENGINES, "cuda", row)
    monkeypatch.setattr(lstm, "kernel", kernel)
