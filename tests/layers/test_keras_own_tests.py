"""Keras's own tests of its LSTM and of Bidirectional, unchanged, with our layer where they say `layers.LSTM`."""

import importlib.util
import sys
import types
import unittest
from pathlib import Path

import keras
import pytest
from keras.src.layers.rnn import lstm as keras_lstm  # the tests lie beside it in the wheel

from zoo.layers import LSTM, LSTMCell

MODULES = ("lstm_test", "bidirectional_test", "stacked_rnn_cells_test")
# test -> why Keras's expectation is right for Keras's own class only; docs/compatibility.md tells people
EXCLUDED = {
    "test_fused_lstm_eligibility": "asks whether the layer is Keras's own class, for which Bidirectional may take a "
    "cuDNN path; ours must never take it, since that path knows nothing of its activations",
}
NOISE = "ignore:.shuffle=True. was passed:UserWarning"  # from Keras's own run_layer_test

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("each_engine"), pytest.mark.filterwarnings(NOISE)]


def swapped(name):
    """A copy of a test module of Keras in which `layers.LSTM` is ours, or None where the wheel has no tests."""
    path = Path(keras_lstm.__file__).with_name(f"{name}.py")
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"swapped_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.layers = types.SimpleNamespace(**vars(module.layers) | {"LSTM": LSTM, "LSTMCell": LSTMCell})
    return module


def cases():
    for name in MODULES:
        module = swapped(name)
        if module is None:
            reason = f"Keras {keras.__version__} is installed without {name}.py"
            yield pytest.param(None, id=name, marks=pytest.mark.skip(reason=reason))
            continue
        for test in (test for suite in unittest.defaultTestLoader.loadTestsFromModule(module) for test in suite):
            reason = EXCLUDED.get(test._testMethodName)
            marks = [pytest.mark.skip(reason=reason)] if reason else []
            marks += [pytest.mark.slow] * (name == "stacked_rnn_cells_test")  # half of the time of all
            yield pytest.param(test, id=f"{name}-{test._testMethodName}", marks=marks)


CASES = list(cases())


@pytest.fixture(autouse=True)
def keep_traceback_filtering():
    before = keras.config.is_traceback_filtering_enabled()
    yield
    (keras.config.enable_traceback_filtering if before else keras.config.disable_traceback_filtering)()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.sample(8, elsewhere=3)
def test_keras_own(case):
    result = unittest.TestResult()
    case.run(result)
    for _, trace in result.errors + result.failures:
        pytest.fail(trace)
    for _, reason in result.skipped:
        pytest.skip(reason)
    assert result.testsRun == 1


def test_the_swap_reaches_the_tests_and_leaves_keras_alone():
    modules = [module for module in map(swapped, MODULES) if module]
    assert all(module.layers.LSTM is LSTM for module in modules)
    assert all(keras.layers.LSTM is not LSTM for _ in modules)
    names = {case.values[0]._testMethodName for case in CASES if case.values[0] is not None}
    assert not names or set(EXCLUDED) <= names, "an excluded test is gone from Keras: drop it here"
