"""What every test needs before Keras or MLflow is imported."""

import contextlib
import dataclasses
import gc
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("COLUMNS", None)  # how wide the terminal of the caller is shall decide nothing
os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
if "PYTEST_XDIST_WORKER" in os.environ:  # there is a process for every core
    for threads in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(threads, "1")
# Compiling is most of what JAX does here, and how fast its code is no test asks.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")

import keras
import pytest
import tiers

from zoo.kernels import ENGINES

with contextlib.suppress(
    ImportError
):  # where only the engines are tested, as on a machine with a GPU, it is not needed
    from hypothesis import HealthCheck, settings

    # A run says something about the change, not about the day or how busy the machine is. `fresh_keras` need not run
    # again for each example.
    settings.register_profile(
        "zoo",
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    settings.load_profile("zoo")

pytest_plugins = ["serving_fixtures"]

# Graphs are many small objects: looking for circles of them as often as Python does took a tenth of all time.
gc.set_threshold(150_000, 20, 20)

RECORD_RUNS = {"run", "tracking", "study", "release", "cli"}  # folders of tests


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tiers.shorten(items, keras.backend.backend() != "tensorflow")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where runs are recorded, let their stores be made quickly; MLflow, which that imports, takes seconds."""
    gc.freeze()  # the libraries and the collected tests stay until the end
    if any(RECORD_RUNS & set(item.path.parts) for item in session.items):
        import quick_stores

        quick_stores.use()


@pytest.fixture(autouse=True)
def fresh_keras():
    """No test sees another's random state or precision."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(params=["native", "reference"] if ENGINES["native"].unavailable() is None else ["reference"])
def each_engine(request, monkeypatch):
    """Runs a test with what "auto" takes here, and, where that is the native engine, once more on the reference."""
    if request.param == "reference":
        row = dataclasses.replace(ENGINES["native"], refuses=lambda spec: "this test wants the reference")
        monkeypatch.setitem(ENGINES, "native", row)


@pytest.fixture(scope="session", autouse=True)
def data_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Everything that tests prepare goes to one folder of their own, prepared once a session."""
    directory = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TFDS_DATA_DIR", str(directory))
        yield directory


@pytest.fixture
def empty_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of benchmarks/ by its name there."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module
