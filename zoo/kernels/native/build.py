"""Build the native engine with any C++17 compiler. Needs only Python's standard library.

    python zoo/kernels/native/build.py                          build it in place, as `pip install` does
    python zoo/kernels/native/build.py --sanitize address       build the stress program with a sanitizer and run it

The library, and a note on how it was built or why it could not be, go to the folder `lib` beside this file.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"
LIBRARY = HERE / "lib" / "lstm.so"
NOTE = HERE / "lib" / "build.json"

# The -fno-... flags change no result. -ffast-math would: it assumes that there are no NaNs.
FLAGS = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
]
INSTRUCTION_SETS: dict[str, list[str]] = {
    "portable": [],
    "avx2": ["-mavx2", "-mfma", "-mprfchw"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma", "-mprfchw", "-mprefer-vector-width=512"],
}
SANITIZERS = {"address": ["address", "undefined"], "undefined": ["undefined"], "thread": ["thread"]}


class BuildError(RuntimeError):
    """The engine could not be built; the message gives the reason."""


def find_compiler() -> str:
    """The path of a C++ compiler: `$CXX`, else the first of c++, g++ and clang++ on the path.

    Raises:
        BuildError: There is none, or this is Windows.
    """
    if sys.platform == "win32":
        raise BuildError("the native engine is not built on Windows")
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in candidates:
        path = shutil.which(name)
        if path:
            return path
    raise BuildError(f"no C++ compiler was found (looked for {', '.join(candidates)}); install one, or name it in CXX")


def units() -> dict[str, list[str]]:
    """Each source file of the library with its additional flags."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    instruction_sets = INSTRUCTION_SETS if x86 else {"portable": []}
    return {**{f"lstm_{name}": flags for name, flags in instruction_sets.items()}, "dispatch": [], "tensorflow_ops": []}


def compile_all(names: dict[str, list[str]], folder: Path, compiler: str, extra: list[str]) -> list[str]:
    """Compile the named sources into `folder`, two at a time, and return the paths of the object files."""

    def one(name: str) -> str:
        target = str(folder / f"{Path(name).name}.o")
        source = str(SOURCES / f"{name}.cpp")
        run([compiler, *FLAGS, *names[name], *extra, "-c", source, "-o", target])
        return target

    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(one, names))


def run(command: list[str]) -> str:
    """Run `command` and return what it printed.

    Raises:
        BuildError: It failed; the message has the command and the end of its error output.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def build() -> Path:
    """Build the library.

    Raises:
        BuildError: There is no compiler, or it failed.
    """
    compiler = find_compiler()
    with tempfile.TemporaryDirectory() as folder:
        objects = compile_all(units(), Path(folder), compiler, [])
        made = Path(folder) / LIBRARY.name
        run([compiler, "-shared", "-pthread", *objects, "-ldl", "-o", str(made)])
        LIBRARY.parent.mkdir(exist_ok=True)
        fresh = LIBRARY.with_suffix(".new")
        shutil.copy(made, fresh)
        fresh.replace(LIBRARY)  # atomic, and a process that has loaded the old library keeps it
    return LIBRARY


def fingerprint(compiler: str) -> str:
    """A digest of everything that a library depends on: sources, flags, the compiler's version, and the processor."""
    digest = hashlib.sha256(f"{compiler} {platform.machine()}".encode())
    for path in (Path(__file__), *sorted(SOURCES.iterdir())):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def noted() -> dict[str, Any]:
    """The note of the last build; empty if there is none."""
    try:
        return dict(json.loads(NOTE.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def build_or_note(anew: bool = False) -> str | None:
    """Build the library and write a note on it; if that fails, note the reason and return it.

    Unless `anew`, a library that the same compiler has made from the same sources is kept, because installing another
    extra of this project calls this function again.
    """
    note: dict[str, Any] = {}
    try:
        note["compiler"] = run([find_compiler(), "--version"]).splitlines()[0]
        note["made_from"] = fingerprint(note["compiler"])
        if LIBRARY.exists() and noted() == note and not anew:
            return None
        build()
        reason = None
    except (BuildError, OSError) as error:
        reason = str(error)
        note = {"error": reason}
        LIBRARY.unlink(missing_ok=True)
    NOTE.parent.mkdir(exist_ok=True)
    NOTE.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    return reason


def sanitize(name: str) -> None:
    """Build the stress program, which calls the engine without Python, under a sanitizer, and run it."""
    compiler = find_compiler()
    sanitizer_flags = ["-g", "-O1", "-fno-omit-frame-pointer", f"-fsanitize={','.join(SANITIZERS[name])}"]
    # Without the operations, because the program runs without TensorFlow.
    names = {name: flags for name, flags in units().items() if name != "tensorflow_ops"} | {"stress": []}
    with tempfile.TemporaryDirectory() as folder:
        objects = compile_all(names, Path(folder), compiler, sanitizer_flags)
        program = str(Path(folder) / "stress")
        run([compiler, *sanitizer_flags, "-pthread", *objects, "-o", program])
        print(run([program]), end="")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build the native LSTM engine.")
    parser.add_argument("--sanitize", choices=[*SANITIZERS, "all"], help="build and run the stress program instead")
    chosen = parser.parse_args().sanitize
    if not chosen:
        reason = build_or_note(anew=True)
        print(reason or f"built {LIBRARY}")
        sys.exit(1 if reason else 0)
    for name in SANITIZERS if chosen == "all" else [chosen]:
        print(f"{name}: ", end="", flush=True)
        try:
            sanitize(name)
        except BuildError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
