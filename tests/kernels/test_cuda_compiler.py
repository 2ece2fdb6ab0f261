"""What the CUDA engine compiles, without a GPU, and how that is kept on the disk."""

import subprocess
import sys
import textwrap

import pytest

from zoo.kernels.cuda import cache, compiler
from zoo.kernels.cuda.compiler import CompileError, compile_cached

KERNEL = """
    #include "scale.h"
    extern "C" __global__ void forward(const float* x, float* y) { y[threadIdx.x] = SCALE * x[threadIdx.x]; }
"""
HEADERS = {"scale.h": "#define SCALE 2.0f\n"}

needs_nvrtc = pytest.mark.skipif(compiler.unavailable() is not None, reason=str(compiler.unavailable()))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The folder that compiled files go to."""
    monkeypatch.setenv("ZOO_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_instead", {})
    return tmp_path / "cuda"


@needs_nvrtc
def test_a_kernel_is_compiled_once(place, monkeypatch):
    path = compile_cached(KERNEL, HEADERS, ["-DUNUSED=1"], 90)
    content = path.read_bytes()
    assert (path.parent, path.suffix, content[:4]) == (place, ".cubin", b"\x7fELF")
    assert b"forward" in content
    assert int.from_bytes(content[18:20], "little") == 190  # e_machine: EM_CUDA
    others = {
        compile_cached(KERNEL, {"scale.h": "#define SCALE 3.0f\n"}, ["-DUNUSED=1"], 90),
        compile_cached(KERNEL, HEADERS, ["-DUNUSED=2"], 90),
        compile_cached(KERNEL, HEADERS, ["-DUNUSED=1"], 80),
        compile_cached(KERNEL + "\n", HEADERS, ["-DUNUSED=1"], 90),
    }
    assert len(others - {path}) == 4
    monkeypatch.setattr(compiler, "_compile", None)
    assert compile_cached(KERNEL, HEADERS, ["-DUNUSED=1"], 90) == path


@needs_nvrtc
def test_the_log_of_the_compiler_is_in_the_error(place):
    with pytest.raises(CompileError, match=r"(?s)sm_90.*identifier \"undeclared\" is undefined"):
        compile_cached('extern "C" __global__ void forward() { undeclared = 1; }', {}, [], 90)
    with pytest.raises(CompileError, match="invalid value for --gpu-architecture"):
        compile_cached(KERNEL, HEADERS, [], 3)
    assert not place.exists()


def test_without_nvrtc_there_is_a_reason_of_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(compiler, "_places", lambda: iter([tmp_path / "libnvrtc.so.13"]))
    monkeypatch.setattr(compiler, "_SONAMES", ())
    monkeypatch.setattr(compiler, "_nvrtc", compiler._nvrtc.__wrapped__)
    assert "pip install 'sequence-zoo[cuda]'" in compiler.unavailable()
    assert "\n" not in compiler.unavailable()
    with pytest.raises(CompileError, match="NVRTC was not found"):
        compile_cached(KERNEL, HEADERS, [], 90)


def test_a_toolkit_is_found_by_its_variable(monkeypatch, tmp_path):
    library = tmp_path / "lib64" / "libnvrtc.so.12"
    library.parent.mkdir()
    library.touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert library in compiler._places()


@pytest.mark.parametrize("damage", [lambda content: content[:-40], lambda content: b"?" + content[1:], lambda _: b""])
def test_a_damaged_file_is_made_again(damage):
    path = cache.cached("of this", ".bin", lambda: b"made" * 100)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert cache.cached("of this", ".bin", lambda: b"made" * 100) == path
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_said_once(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="set ZOO_CACHE_DIR to a folder that can be written"):
        path = cache.cached("of this", ".bin", lambda: b"made")
    assert path.read_bytes()[:4] == b"made"
    assert cache.cached("of this", ".bin", lambda: pytest.fail("it was there")) == path
    other = cache.cached("of that", ".bin", lambda: b"made")  # a second warning would be an error
    assert other != path
    assert other.parent == path.parent


def test_what_fails_while_it_is_made_leaves_nothing(place):
    def fails():
        raise CompileError("no")

    with pytest.raises(CompileError):
        cache.cached("of this", ".bin", fails)
    assert not place.exists()


def test_processes_never_see_half_a_file(place):
    # Whoever comes first to a file makes it; the others catch up, so that they meet at nearly every one.
    script = f"""
        import runpy, sys
        cached = runpy.run_path({cache.__file__!r})["cached"]
        print("ready", flush=True)
        sys.stdin.readline()
        for turn in range(60):
            content = cached(turn, ".bin", lambda: sys.argv[1].encode() * 200_000).read_bytes()
            assert len(content) == 200_032 and len(set(content[:-32])) == 1, (turn, len(content))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    children = [subprocess.Popen([*command, name], text=True, **pipes) for name in "abc"]
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    errors = [child.communicate(timeout=120)[1] for child in children]
    assert errors == ["", "", ""]
    assert {path.suffix for path in place.iterdir()} == {".bin"}
    assert len({path.read_bytes()[0] for path in place.iterdir()}) > 1, "one process made every file"
