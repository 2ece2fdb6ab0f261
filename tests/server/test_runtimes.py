"""Both runtimes give the same numbers, the same errors and the same signatures."""

import gc
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from waiting import PATIENCE

from serving.errors import Code, ServingError
from serving.runtime import capi
from serving.runtime.capi_model import CapiModel
from serving.runtime.load import RUNTIMES, load
from serving.runtime.model import Model
from serving.runtime.options import Options
from serving.runtime.session_model import SessionModel


@pytest.fixture(scope="module", params=list(RUNTIMES))
def make(request: pytest.FixtureRequest) -> object:
    return lambda path: RUNTIMES[request.param](path, Options())


@pytest.fixture(scope="module")
def classifier(make, saved_models: Path) -> Iterator[Model]:
    model = make(saved_models / "one")
    yield model
    model.close()


@pytest.fixture(scope="module")
def kinds(make, saved_models: Path) -> Iterator[Model]:
    model = make(saved_models / "kinds")
    yield model
    model.close()


def test_the_c_api_is_what_serves_here(saved_models: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "serving"):
        model = load(saved_models / "one")
    model.close()
    assert isinstance(model, CapiModel)
    assert "C API" in caplog.text


@pytest.mark.parametrize("signature", ["serving_default", "serving_padded"])
def test_runtimes_agree_with_each_other_and_with_tensorflow(saved_models: Path, signature: str) -> None:
    import tensorflow as tf

    features = np.random.default_rng(0).normal(size=(4, 7, 3)).astype("float32")
    feeds = {"features": features}
    if signature == "serving_padded":
        feeds["lengths"] = np.array([7, 1, 3, 7], "int32")
    loaded = tf.saved_model.load(str(saved_models / "one"))
    expected = loaded.signatures[signature](**{name: tf.constant(value) for name, value in feeds.items()})
    for model in (
        CapiModel(capi.library(), saved_models / "one", Options()),
        CapiModel(capi.library(), saved_models / "one", Options(inter_op_threads=-1)),
        SessionModel(saved_models / "one", Options()),
    ):
        answer = model.run(signature, feeds)
        model.close()
        assert set(answer) == set(expected)
        for name, value in expected.items():
            # The same kernels on the same shapes: equal to the last bit.
            np.testing.assert_array_equal(answer[name], value.numpy())
            assert answer[name].dtype == value.numpy().dtype


def test_signatures(classifier: Model) -> None:
    signature = classifier.signatures["serving_padded"]
    assert signature.inputs["features"].shape == (None, None, 3)
    assert signature.inputs["lengths"].dtype.name == "int32"
    assert {name: spec.dtype.name for name, spec in signature.outputs.items()} == {
        "class_id": "int64",
        "label": "string",
        "logits": "float",
        "probabilities": "float",
    }
    assert classifier.signature_def_map["serving_default"].method_name == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("float", np.array([[1.5, np.nan], [np.inf, -0.0]], "float32")),
        ("double", np.array(1e300)),
        ("int32", np.zeros((0, 3), "int32")),
        ("int64", np.array([2**62], "int64")),
        ("uint8", np.array([255], "uint8")),
        ("int8", np.array([-128], "int8")),
        ("int16", np.array([-(2**15)], "int16")),
        ("uint32", np.array([2**32 - 1], "uint32")),
        ("uint64", np.array([2**64 - 1], "uint64")),
        ("bool", np.array([True, False])),
        ("half", np.array([0.5], "float16")),
        ("string", np.array([[b"", b"\x00\xff"], [b"short", b"long enough to lie on the heap" * 9]], object)),
        ("string", np.array(b"scalar", object)),
        ("float", np.arange(6, dtype="float32").reshape(2, 3).T),
    ],
)
def test_every_type_comes_back_as_it_went(kinds: Model, kind: str, values: np.ndarray) -> None:
    answer = kinds.run(f"echo_{kind}", {"x": values})["y"]
    assert answer.shape == values.shape
    assert answer.dtype == values.dtype
    np.testing.assert_array_equal(answer, values)


@pytest.mark.parametrize(
    ("signature", "feeds", "wanted", "code", "words"),
    [
        ("nothing", {}, None, Code.FAILED_PRECONDITION, 'Serving signature key "nothing" not found.'),
        ("two", {"a": np.zeros((1, 2), "float32")}, None, Code.INVALID_ARGUMENT, "Missing but required: {b}."),
        ("echo_float", {"x": np.zeros(1, "float64")}, None, Code.INVALID_ARGUMENT, "must be of type float"),
        ("echo_float", {"x": np.zeros(1, "float32")}, ["z"], Code.INVALID_ARGUMENT, "alias not found in signature: z"),
        ("echo_float", {"x": np.zeros(1, "float32")}, ["y", "y"], Code.INVALID_ARGUMENT, "duplicate"),
        ("echo_bfloat16", {"x": np.zeros(1, "float32")}, None, Code.UNIMPLEMENTED, "bfloat16"),
        (
            "two",
            {"a": np.zeros((2, 2), "float32"), "b": np.zeros(3, "int32")},
            None,
            Code.INVALID_ARGUMENT,
            "Incompatible shapes: [3,1] vs. [2,2]",
        ),
        ("slow", {"n": np.array([2**31 - 1], "int32")}, None, Code.DEADLINE_EXCEEDED, "imed out"),
    ],
)
def test_errors(kinds: Model, signature, feeds, wanted, code: Code, words: str) -> None:
    with pytest.raises(ServingError) as caught:
        kinds.run(signature, feeds, wanted, timeout_in_ms=300)
    assert caught.value.code is code
    assert words in caught.value.message


def test_output_filter(kinds: Model) -> None:
    feeds = {"a": np.ones((1, 2), "float32"), "b": np.array([2], "int32")}
    assert set(kinds.run("two", feeds, ["b"])) == {"b"}


def test_a_folder_without_a_model(make, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="SavedModel") as caught:
        make(tmp_path)
    assert caught.value.code is Code.NOT_FOUND


def test_a_broken_model(make, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"this is no protocol buffer")
    with pytest.raises(ServingError):
        make(tmp_path)


def test_a_model_whose_variables_are_cut_off(make, saved_models: Path, tmp_path: Path) -> None:
    shutil.copytree(saved_models / "one", tmp_path / "cut")
    (data,) = (tmp_path / "cut" / "variables").glob("variables.data-*")
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(ServingError):
        make(tmp_path / "cut")


def test_a_closed_model_refuses(make, saved_models: Path) -> None:
    model = make(saved_models / "one")
    model.close()
    model.close()
    with pytest.raises(ServingError) as caught:
        model.run("serving_default", {"features": np.zeros((1, 1, 3), "float32")})
    assert caught.value.code is Code.UNAVAILABLE


def test_many_threads_get_their_own_answers(classifier: Model) -> None:
    wrong: list[int] = []

    def ask(number: int) -> None:
        features = np.full((1, 2, 3), number, "float32")
        for _ in range(50):
            logits = classifier.run("serving_default", {"features": features}, ["logits"])["logits"]
            # Small whole numbers times binary fractions: exact in float32.
            if logits.tolist() != [[0.5 * number, 0.25 * number]]:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def growth(work: Callable[[], object], times: int) -> float:
    """Megabytes by which the process grows over this many calls, after it has settled."""
    process = psutil.Process()
    for _ in range(5):
        work()
    gc.collect()
    before = process.memory_info().rss
    for _ in range(times):
        work()
    gc.collect()
    return (process.memory_info().rss - before) / 1e6


def test_runs_give_their_memory_back(saved_models: Path) -> None:
    model = CapiModel(capi.library(), saved_models / "kinds", Options())
    strings = np.array([b"x" * 100_000] * 10, object)
    numbers = np.zeros(250_000, "float32")
    # One copy is 1 MB, so a leak of an input or an output would be 100 MB.
    assert growth(lambda: model.run("echo_string", {"x": strings}), 100) < 40
    assert growth(lambda: model.run("echo_float", {"x": numbers}), 100) < 40
    model.close()


@pytest.mark.slow
def test_closed_models_give_their_memory_back(saved_models: Path) -> None:
    def load_run_close() -> None:
        model = CapiModel(capi.library(), saved_models / "kinds", Options())
        model.run("echo_float", {"x": np.zeros(1, "float32")})
        model.close()

    # A session or a graph that is not deleted keeps about 1 MB.
    assert growth(load_run_close, 40) < 20


def test_without_the_library_the_session_serves(
    saved_models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(capi, "LIBRARY_NAMES", ("libnothing.so",))
    capi.library.cache_clear()
    try:
        with caplog.at_level(logging.INFO, "serving"):
            model = load(saved_models / "one")
    finally:
        capi.library.cache_clear()
    model.close()
    assert isinstance(model, SessionModel)
    assert "libnothing.so" in caplog.text


def test_a_library_without_the_functions_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capi, "tensorflow_directory", lambda: tmp_path)
    (tmp_path / capi.LIBRARY_NAMES[0]).write_bytes(b"not a library")
    with pytest.raises(capi.LibraryUnavailable, match="cannot be used"):
        capi.library.__wrapped__()


def test_a_model_is_served_without_importing_tensorflow_and_leaves_the_import_intact(saved_models: Path) -> None:
    program = (
        "import sys\nfrom serving.runtime.load import load\n"
        f"model = load({str(saved_models / 'one')!r})\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras')], 'imported'\n"
        "print(sorted(model.signatures))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'serving_default', 'serving_padded'" in done.stdout


def test_xla_can_be_switched_off_for_a_process(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    specs = [tf.TensorSpec((None,), tf.float32, name="x")]
    module.plain = tf.function(lambda x: {"y": 2 * x}, input_signature=specs)
    module.xla = tf.function(lambda x: {"y": 2 * x}, input_signature=specs, jit_compile=True)
    tf.saved_model.save(module, str(tmp_path), signatures={"plain": module.plain, "xla": module.xla})
    program = (
        "import numpy as np\nfrom serving.errors import ServingError\n"
        "from serving.runtime import capi\nfrom serving.runtime.load import load\n"
        "assert capi.disable_xla()\n"
        f"model = load({str(tmp_path)!r})\n"
        "x = {'x': np.ones(1, 'float32')}\n"
        "print(model.run('plain', x))\n"
        "try:\n    model.run('xla', x)\n"
        "except ServingError as error:\n    print(error.described)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    plain, xla = done.stdout.splitlines()[:2]
    assert plain == "{'y': array([2.], dtype=float32)}"
    # The words of TensorFlow Serving, which switches XLA off in the same way.
    assert xla.startswith("INTERNAL: XLA compilation disabled")
