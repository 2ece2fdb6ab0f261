"""Compile at run time: CUDA C++ with NVRTC, NVIDIA's compiler as a library, and C++ with the machine's own compiler.

The results are kept on the disk (`cache.py`). Nothing is loaded or searched before it is first needed.
"""

import ctypes
import functools
import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.kernels.cuda.cache import cached
from zoo.kernels.native.build import find_compiler, run

_SONAMES = ("libnvrtc.so.13", "libnvrtc.so.12")


class CompileError(RuntimeError):
    """A kernel could not be compiled; the message has the compiler's log."""


@dataclass(frozen=True)
class _Nvrtc:
    """NVRTC loaded by ctypes, and what identifies its version."""

    library: ctypes.CDLL
    identity: tuple[int, ...]

    def call(self, function: str, *arguments: object) -> None:
        status = getattr(self.library, function)(*arguments)
        if status:
            raise CompileError(f"{function} failed: {self.error(status)}")

    def error(self, status: int) -> str:
        return f"{self.library.nvrtcGetErrorString(status).decode()} ({status})"

    def read(self, program: ctypes.c_void_p, size_of: str, content_of: str) -> bytes:
        size = ctypes.c_size_t()
        self.call(size_of, program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self.call(content_of, program, content)
        return content.raw


def unavailable() -> str | None:
    """The reason why CUDA cannot be compiled here, in one line, or `None`.

    Example:
    >>> unavailable() is None or "NVRTC was not found" in unavailable()
    True
    """
    nvrtc = _nvrtc()
    return nvrtc if isinstance(nvrtc, str) else None


def compile_cached(source: str, headers: Mapping[str, str], options: Sequence[str], architecture: int) -> Path:
    """Compile a CUDA kernel.

    Args:
        source: CUDA C++ with kernels that are `extern "C"`, so that they can be found by name.
        headers: The text of each included file, by the name in its `#include`.
        options: Options for NVRTC, such as "-DUNITS=64".
        architecture: Compute capability of the GPU, 90 for 9.0.

    Returns:
        A .cubin file.

    Raises:
        CompileError: There is no NVRTC, or it rejected the source.
    """
    nvrtc = _nvrtc()
    if isinstance(nvrtc, str):
        raise CompileError(nvrtc)
    every_option = [f"--gpu-architecture=sm_{architecture}", *options]
    ingredients = {"source": source, "headers": {**headers}, "options": every_option, "nvrtc": nvrtc.identity}
    return cached(ingredients, ".cubin", lambda: _compile(nvrtc, source, headers, every_option))


def host_library(source: str, options: Sequence[str] = (), versions: Sequence[str] = ()) -> Path:
    """Compile C++17 for this machine, with `$CXX`, c++, g++ or clang++.

    Args:
        source: The text.
        options: More options of the compiler, such as "-I" and a folder.
        versions: Further dependencies of the result, such as the version of the headers in that folder.

    Returns:
        A shared library.

    Raises:
        zoo.kernels.native.build.BuildError: There is no compiler, or it failed.
    """
    compiler = find_compiler()
    command = [compiler, "-std=c++17", "-O2", "-fPIC", "-shared", *options]

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as place:
            text, library = Path(place, "source.cc"), Path(place, "library.so")
            text.write_text(source, encoding="utf-8")
            run([*command, str(text), "-o", str(library), "-ldl"])
            return library.read_bytes()

    about = [_about_host(compiler), platform.machine(), *versions]
    return cached({"source": source, "command": command, "versions": about}, ".so", make)


@functools.cache
def _about_host(compiler: str) -> str:
    return run([compiler, "--version"])


def _compile(nvrtc: _Nvrtc, source: str, headers: Mapping[str, str], options: Sequence[str]) -> bytes:
    def strings(values: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
        return (ctypes.c_char_p * len(values))(*(value.encode() for value in values))

    texts, names, program = strings([*headers.values()]), strings([*headers]), ctypes.c_void_p()
    nvrtc.call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernel.cu", len(headers), texts, names)
    try:
        status = nvrtc.library.nvrtcCompileProgram(program, len(options), strings(options))
        if status:
            log = nvrtc.read(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").rstrip(b"\0")
            raise CompileError(
                f"NVRTC rejected a kernel: {nvrtc.error(status)}; options: {' '.join(options)}\n"
                f"{log.decode(errors='replace').strip()}"
            )
        return nvrtc.read(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")
    finally:
        nvrtc.library.nvrtcDestroyProgram(ctypes.byref(program))


@functools.cache
def _nvrtc() -> _Nvrtc | str:
    """NVRTC, or the reason why there is none."""
    problems = []
    for path in [*_places(), *map(Path, _SONAMES)]:
        try:
            return _load(path)
        except (OSError, AttributeError, CompileError) as error:
            problems.append(str(error))
    where = "NVIDIA's packages, CUDA_HOME, /usr/local/cuda and the loader's path"
    return f"NVRTC was not found in {where} ({problems[0]}); install it with: pip install 'sequence-zoo[cuda]'"


def _load(path: Path) -> _Nvrtc:
    for part in sorted(path.parent.glob("libnvrtc-builtins.so*")) if path.is_absolute() else ():
        ctypes.CDLL(str(part))  # NVRTC loads it by its name, which works only if it has been loaded before
    library = ctypes.CDLL(str(path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    major, minor = ctypes.c_int(), ctypes.c_int()
    size = path.stat().st_size if path.is_absolute() else 0  # tells patches of one version apart
    nvrtc = _Nvrtc(library, (size,))
    nvrtc.call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return _Nvrtc(library, (major.value, minor.value, size))


def _places() -> Iterator[Path]:
    """The NVRTC libraries on this machine, newest first, those of torch's and JAX's packages before others."""
    packages = importlib.util.find_spec("nvidia")
    for root in (packages.submodule_search_locations or ()) if packages else ():
        for pattern in ("cu[0-9]*/lib", "cuda_nvrtc/lib"):
            for folder in sorted(Path(root).glob(pattern), reverse=True):
                yield from sorted(folder.glob("libnvrtc.so*"))[:1]
    toolkits = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    for toolkit in [*toolkits, *sorted(Path("/usr/local").glob("cuda*"), reverse=True)]:
        for name in ("lib64", "lib"):
            yield from sorted(Path(toolkit.absolute(), name).glob("libnvrtc.so*"))[:1]
