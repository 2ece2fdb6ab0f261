"""The activations of the native engine, on every instruction set of this machine, against NumPy with more digits."""

import ctypes

import numpy as np
import pytest
from scipy.special import erfc

from zoo.kernels import native

pytestmark = pytest.mark.skipif(native.not_built() is not None, reason=str(native.not_built()))

INSTRUCTION_SETS = ["portable", "avx2", "avx512"]


def logistic(x):
    return 1 / (1 + np.exp(-x))


# name -> (definition in extended precision, ulp promised in docs/native_engine.md)
EXP_BASED = {
    "sigmoid": (logistic, 4),
    "tanh": (np.tanh, 4),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 4),
    "celu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 4),
    "silu": (lambda x: x * logistic(x), 4),
    "mish": (lambda x: x * np.tanh(np.log1p(np.exp(x))), 5),
    "softplus": (lambda x: np.log1p(np.exp(x)), 4),
    "penalized_tanh": (lambda x: np.where(x > 0, 1, 0.25) * np.tanh(x), 4),
}
# Where a function is a difference that can cancel, the error is stated against the largest value around, 1.
ABSOLUTE = {
    "gelu": (lambda x: x * erfc(-np.float64(x) / np.sqrt(2.0)) / 2, 16),
    "cloglogm": (lambda x: 1 - 2 * np.exp(np.longdouble("-0.7") * np.exp(x)), 4),
}


def apply(instruction_set, name, x, parameter=1.0):
    y, dx, dp = (np.full_like(x, 7) for _ in range(3))
    p = np.full_like(x, parameter)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, p, y, dx, dp)]
    arguments = (instruction_set.encode(), x.itemsize, native.codes()[name], ctypes.c_int64(len(x)), *pointers)
    if not native.bindings.library().zoo_apply(*arguments):
        pytest.skip(f"this processor has no {instruction_set}")
    return y, dx


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", EXP_BASED)
def test_within_a_few_units_in_the_last_place(name, instruction_set):
    function, promised = EXP_BASED[name]
    for dtype in (np.float32, np.float64):
        x = np.concatenate([np.linspace(-30, 30, 200_001), np.linspace(-1e-3, 1e-3, 2001)]).astype(dtype)
        exact = function(np.longdouble(x))
        found, _ = apply(instruction_set, name, x)
        unit = np.spacing(np.maximum(np.abs(exact).astype(dtype), np.finfo(dtype).tiny))
        assert np.max(np.abs(np.longdouble(found) - exact) / unit) <= promised


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", ABSOLUTE)
def test_within_a_few_units_of_one(name, instruction_set):
    function, promised = ABSOLUTE[name]
    for dtype in (np.float32, np.float64):
        x = np.linspace(-10, 3, 100_001).astype(dtype)
        found, _ = apply(instruction_set, name, x)
        assert np.max(np.abs(np.longdouble(found) - function(np.longdouble(x)))) <= promised * np.finfo(dtype).eps


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_far_out_every_function_is_at_its_limit_and_not_a_number_stays(instruction_set):
    far = np.array([100, 1e4, 1e30, -100, -1e4, -1e30, np.nan], np.float32)
    limits = {
        "sigmoid": (1, 0),
        "hard_sigmoid": (1, 0),
        "tanh": (1, -1),
        "hard_tanh": (1, -1),
        "relu6": (6, 0),
        "elu": (None, -1),
        "gelu": (None, 0),
        "silu": (None, 0),
        "mish": (None, 0),
        "softplus": (None, 0),
        "penalized_tanh": (1, -0.25),
        "cloglogm": (1, -1),
    }
    for name in native.codes():
        y, slope = apply(instruction_set, name, far)
        assert np.isnan(y[-1]), name
        assert np.isfinite(y[:-1]).all(), name
        assert np.isfinite(slope[:-1]).all(), name
        right, left = limits.get(name, ("any", "any"))
        if right != "any":
            np.testing.assert_allclose(y[:3], far[:3] if right is None else right, rtol=1e-6, err_msg=name)
            np.testing.assert_allclose(y[3:6], left, atol=1e-30, rtol=1e-6, err_msg=name)
