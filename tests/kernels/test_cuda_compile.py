"""The CUDA kernels through NVIDIA's compiler, where it is installed: no GPU is needed for it."""

from dataclasses import replace

import pytest
from cubin import resources

from zoo.kernels.cuda import compiler
from zoo.kernels.cuda.variant import COMPILER_FLAGS, LARGEST, Variant, headers, names, source
from zoo.types import Gates

pytestmark = pytest.mark.skipif(compiler.unavailable() is not None, reason=str(compiler.unavailable()))

WORST = Variant(LARGEST, Gates(*["sigmoid"] * 5), "float16", masked=True, clipped=True, keep=True, sequences=True)
# Five different activations at a time, so that each is compiled, and those that learn once more, learning.
FIVES = [(names() + names())[start : start + 5] for start in range(0, len(names()), 5)]
LEARNING = tuple(("prelu", "parametric_swish")[gate % 2] for gate in range(5))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE_DIR", str(tmp_path))


def compiled(variant, architecture, text=None):
    path = compiler.compile_cached(text or source(), headers(), (*COMPILER_FLAGS, *variant.options()), architecture)
    return resources(path.read_bytes())


@pytest.mark.parametrize("activations", FIVES, ids=" ".join)
@pytest.mark.sample(2)
def test_every_activation_compiles_and_stays_in_registers(activations):
    found = compiled(replace(WORST, activations=Gates(*activations)), 90)
    assert set(found) == {"forward", "backward"}
    for name, needs in found.items():
        assert 0 < needs["registers"] <= 255, name
        assert needs["stack"] == 0, f"{name} spills registers"


def test_learned_parameters_stay_in_registers_but_for_two():
    """All five gates that learn, masked and clipped: more than anyone will ask for."""
    found = compiled(replace(WORST, activations=Gates(*LEARNING), learned=(True,) * 5), 90)
    assert found["forward"]["stack"] == 0
    assert found["backward"]["stack"] <= 8


def test_bfloat16():
    assert {needs["stack"] for needs in compiled(replace(WORST, half="bfloat16"), 90).values()} == {0}


@pytest.mark.parametrize("units", [32, 64, 96, 128])
def test_every_width_on_the_oldest_architecture(units):
    plain = Variant(units, Gates("sigmoid", "sigmoid", "tanh", "sigmoid", "tanh"), "float16", keep=True, sequences=True)
    for needs in compiled(plain, 80).values():
        assert needs["stack"] == 0


def test_the_check_sees_registers_that_spill():
    """Two blocks on a multiprocessor leave each half the registers, which is not enough."""
    crowded = {name: text.replace("(kThreads, 1)", "(kThreads, 2)") for name, text in headers().items()}
    path = compiler.compile_cached(source(), crowded, (*COMPILER_FLAGS, *WORST.options()), 90)
    assert resources(path.read_bytes())["backward"]["stack"] > 0
