"""How the CUDA engine hands tensors to a kernel: emulated on the CPU, and by a driver that writes down its calls."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from zoo.kernels.cuda import launch
from zoo.kernels.cuda.compiler import host_library
from zoo.kernels.cuda.driver import Launch
from zoo.kernels.cuda.launch import run
from zoo.kernels.gradient import differentiable
from zoo.kernels.native.build import BuildError, find_compiler

BACKEND = keras.backend.backend()
FAKE_DRIVER = Path(__file__).parents[1] / "support" / "fake_cuda_driver.cc"

# inputs x, one that is absent, y; outputs z = min(x - y, clip) and what it was launched with
EMULATOR = """
    #include <algorithm>
    #include <cstring>
    extern "C" int zoo_emulate(const char* name, int grid, int block, void** p, int steps, int batch, float clip) {
      if (std::strcmp(name, "forward")) return 7;
      const float *x = static_cast<float*>(p[0]), *y = static_cast<float*>(p[2]);
      float* z = static_cast<float*>(p[3]);
      int* launched = static_cast<int*>(p[4]);
      for (int i = 0; i < steps * batch; ++i) z[i] = std::min(x[i] - y[i], clip);
      for (int number : {grid, block, steps, batch}) *launched++ = number;
      return 0;
    }
"""
STEPS, BATCH = 3, 4
OUTPUTS = [((STEPS, BATCH), "float32"), ((4,), "int32"), ((0, 5), "bfloat16")]

needs_run = pytest.mark.skipif(BACKEND == "tensorflow", reason="a kernel runs on JAX and torch")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """Libraries for this machine, by what they are for: built once, since each takes a second or two."""
    try:
        find_compiler()
    except BuildError as missing:
        pytest.skip(str(missing))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE_DIR", str(tmp_path_factory.mktemp("host")))
        built = {"emulator": str(host_library(EMULATOR))}
        if BACKEND == "jax":
            assert launch.unavailable() is None
            built["xla"] = str(launch._handlers())
        built["driver"] = str(host_library(FAKE_DRIVER.read_text(), ["-Wl,-soname,libcuda.so.1"]))
    return built


@pytest.fixture
def emulator(host):
    return host["emulator"]


def tensors(*arrays):
    return [keras.ops.convert_to_tensor(array) for array in arrays]


def operands():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(STEPS, BATCH)).astype("float32"), np.zeros((0,), "float32"), np.ones((STEPS, BATCH), "f4")]


def finished(outputs):
    """The outputs as arrays: an error of JAX is raised where it waits for them."""
    return [keras.ops.convert_to_numpy(output) for output in outputs]


@needs_run
@pytest.mark.any_backend
@pytest.mark.parametrize("clip", [0.25, float("inf")])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.sample(5, elsewhere=1)
def test_a_kernel_gets_inputs_then_outputs_then_numbers(emulator, compiled, clip):
    def call(*inputs):
        return run(Launch(emulator, "forward", 5, 64), inputs, OUTPUTS, STEPS, BATCH, clip)

    if compiled:
        if BACKEND == "torch":
            pytest.skip("torch calls a kernel eagerly")
        import jax

        call = jax.jit(call)
    x, absent, y = operands()
    z, launched, empty = call(*tensors(x, absent, y))
    assert [keras.backend.standardize_dtype(t.dtype) for t in (z, launched, empty)] == ["float32", "int32", "bfloat16"]
    # The same float32 operations in the same order: equal to the bit.
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(z), np.minimum(x - y, np.float32(clip)))
    assert keras.ops.convert_to_numpy(launched).tolist() == [5, 64, STEPS, BATCH]
    assert tuple(empty.shape) == (0, 5)


@needs_run
@pytest.mark.any_backend
def test_kernels_are_both_passes_of_a_function_with_a_gradient(emulator):
    def launched(*inputs):
        return run(Launch(emulator, "forward", 1, 1), inputs, OUTPUTS[:2], STEPS, BATCH, 9.0)[0]

    x, absent, y = tensors(*operands())
    # The backward pass is the same kernel: "gradients" u - y of x, and none of the rest.
    function = differentiable(
        lambda x, absent, y: ((launched(x, absent, y),), (absent, y)),
        lambda kept, upstream: (launched(upstream[0], *kept), keras.ops.zeros_like(kept[0]), keras.ops.zeros_like(y)),
    )
    if BACKEND == "jax":
        import jax

        found = jax.jit(jax.grad(lambda x: keras.ops.sum(3.0 * function(x, absent, y)[0])))(x)
    else:
        x.requires_grad_()
        keras.ops.sum(3.0 * function(x, absent, y)[0]).backward()
        found = x.grad
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), np.full((STEPS, BATCH), 2.0, "float32"))


@needs_run
@pytest.mark.any_backend
def test_an_input_that_lies_otherwise_in_memory_is_read_by_its_indices(emulator):
    x, absent, y = operands()
    turned, absent, y = tensors(np.ascontiguousarray(x.T), absent, y)
    turned = keras.ops.transpose(turned)
    z = run(Launch(emulator, "forward", 1, 1), [turned, absent, y], OUTPUTS, STEPS, BATCH, 9.0)[0]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(z), x - 1)


@needs_run
@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        (None, "sideways", r"zoo_emulate\('sideways'\) of .* failed with status 7"),
        ("gone.so", "forward", "the emulator of a kernel cannot be loaded: .*gone.so"),
    ],
)
def test_what_went_wrong_is_said(emulator, tmp_path, module, name, message):
    wrong = Launch(str(tmp_path / module) if module else emulator, name, 1, 1)
    with pytest.raises(RuntimeError, match=message):
        finished(run(wrong, tensors(*operands()), OUTPUTS, STEPS, BATCH, 1.0))


@pytest.mark.any_backend
def test_without_blocks_nothing_is_called_and_the_outputs_are_zeros():
    outputs = finished(run(Launch("none.so", "forward", 0, 32), [], [((0, 3), "float32"), ((2,), "int32")], 3, 0, 1.0))
    assert [output.tolist() for output in outputs] == [[], [0, 0]]


def test_tensorflow_is_refused():
    if BACKEND != "tensorflow":
        pytest.skip("it is not the backend")
    assert "tensorflow" in launch.unavailable()
    with pytest.raises(ValueError, match="JAX and torch backends, and this is tensorflow"):
        run(Launch("none.so", "forward", 1, 1), [], [], 1, 1, 1.0)


@pytest.mark.any_backend
def test_on_torch_shapes_can_be_asked_for_and_devices_must_agree(emulator):
    if BACKEND != "torch":
        pytest.skip("it is about torch's devices")
    import torch

    inputs = [torch.empty(shape, device="meta") for shape in ((STEPS, BATCH), (0,), (STEPS, BATCH))]
    outputs = run(Launch(emulator, "forward", 1, 1), inputs, OUTPUTS, STEPS, BATCH, 1.0)
    assert [(tuple(output.shape), output.device.type) for output in outputs] == [
        (shape, "meta") for shape, _ in OUTPUTS
    ]
    with pytest.raises(ValueError, match=r"on one device; received \['cpu', 'meta', 'meta'\]"):
        run(Launch(emulator, "forward", 1, 1), [torch.zeros(1), *inputs[1:]], OUTPUTS, STEPS, BATCH, 1.0)


@pytest.mark.any_backend
def test_a_handler_that_cannot_be_built_is_a_reason_of_one_line(monkeypatch, tmp_path):
    if BACKEND != "jax":
        pytest.skip("it is JAX that needs one")
    monkeypatch.setattr(launch, "_target", launch._target.__wrapped__)
    monkeypatch.setattr(launch, "SOURCE", tmp_path / "wrong.cc")
    launch.SOURCE.write_text("int main( {\n")
    reason = launch.unavailable.__wrapped__()
    assert "error:" in reason
    assert "\n" not in reason
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler was found (looked for no-such-compiler)" in launch.unavailable.__wrapped__()


# ---- The driver, by a library that writes down what it is asked for ------------------------------------------------

ON_A_FAKE_DRIVER = """
    import ctypes, json, runpy, sys
    from types import SimpleNamespace

    fake = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)  # by its name it is libcuda.so.1 from now on
    fake.written_down.restype = ctypes.c_char_p
    driver = runpy.run_path(sys.argv[2])
    x, y, z = ((ctypes.c_float * 2)(*values) for values in ((5, 1), (1, 2), (0, 0)))
    numbers = (ctypes.c_int(1), ctypes.c_int(2), ctypes.c_float(3))

    def start_by_python(module, name, grid, block, shared):
        launch = SimpleNamespace(module=module, name=name, grid=grid, block=block, shared=shared)
        pointers = [ctypes.c_void_p(ctypes.addressof(array)) for array in (x, y, z)]
        try:
            driver["start"](launch, 0, 66, [*pointers, *numbers])
        except (OSError, RuntimeError) as error:
            return str(error)
        return ""

    def start_by_xla(module, name, *sizes):
        start = ctypes.CDLL(sys.argv[4]).zoo_start
        start.restype = ctypes.c_char_p
        pointers = (ctypes.c_void_p * 3)(*map(ctypes.addressof, (x, y, z)))
        return start(module.encode(), name.encode(), *sizes, *numbers, pointers, 3, ctypes.c_void_p(66)).decode()

    found = {"problem": driver["unavailable"](), "architecture": driver["architecture"](0), "launches": []}
    start = start_by_xla if len(sys.argv) > 4 else start_by_python
    for module, name, shared in (
        ("kernel", "forward", 0),
        ("kernel", "forward", 49152),
        ("kernel", "sideways", 0),
        ("other", "forward", 0),
        ("missing", "forward", 0),
    ):
        z[:] = (0, 0)
        failure = start(f"{sys.argv[3]}/{module}.cubin", name, 3, 32, shared)
        found["launches"].append([failure, fake.written_down().decode().splitlines(), list(z)])
    fake.see_devices(0)
    found["no device"] = driver["unavailable"]()
    print(json.dumps(found))
"""


@pytest.mark.any_backend
def test_a_kernel_is_launched_by_the_driver(host, tmp_path):
    # On JAX it is the handler of XLA that calls the driver, elsewhere Python. A process of its own has no other driver.
    (tmp_path / "kernel.cubin").write_text("module")
    (tmp_path / "other.cubin").write_text("no module")
    arguments = [host["driver"], launch.driver.__file__, str(tmp_path), *([host["xla"]] if BACKEND == "jax" else [])]
    command = [sys.executable, "-c", textwrap.dedent(ON_A_FAKE_DRIVER), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["problem"], found["architecture"]) == (None, 91)
    assert found["no device"] == "the NVIDIA driver sees no GPU"

    first, second, no_name, no_module, no_file = found["launches"]
    loaded, launched = "load, capture mode 2", "launch (3 1 1) (32 1 1) {} on stream 66: 1 2"
    assert first == ["", ["push", loaded, launched.format(0), "pop"], [3, -1]]
    # The module is there already; shared memory beside what the kernel declares must be asked for.
    assert second == ["", ["push", "attribute 8 = 49152", launched.format(49152), "pop"], [3, -1]]
    assert no_name[:2] == ["cuModuleGetFunction failed: named symbol not found (500)", ["push", "pop"]]
    assert no_module[:2] == ["cuModuleLoadData failed: unknown error (200)", ["push", loaded, "pop"]]
    assert "missing.cubin" in no_file[0]
    assert no_file[1] == ["push", "pop"]
