"""`zoo verify`, TFRecord files, and the verbs that ask about a server."""

import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy_serving import NumpyModel, classifier
from waiting import PATIENCE

from serving.calls.messages import replay
from serving.calls.tensor_protos import from_array, to_array
from serving.cli import client as client_commands
from serving.client import ServerError
from serving.client.examples import features_of, to_proto
from serving.client.verify import Golden, VerifyError, compare, read_golden, version_folder
from serving.models.records import RecordError, masked_crc32c, read_records
from serving.models.warmup import WARMUP_FILE
from serving.protos import apis


def write_records(path: Path, records: Sequence[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + struct.pack("<I", masked_crc32c(length)))
            file.write(record + struct.pack("<I", masked_crc32c(record)))


def test_records_are_those_of_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    records = [b"", b"abc", bytes(range(256)) * 5]
    with tf.io.TFRecordWriter(str(tmp_path / "x")) as file:
        for record in records:
            file.write(record)
    assert list(read_records(tmp_path / "x")) == records
    write_records(tmp_path / "y", records)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:5], r"record 0 of .* \(byte 0\) is cut short: 5 of 12 bytes"),
        (lambda data: data[:-1], r"record 1 of .* \(byte 20\) is cut short: it has 10 bytes, 9 are there"),
        (lambda data: b"\x01" + data[1:], "length of record 0 .* wrong checksum"),
        (lambda data: data[:13] + b"!" + data[14:], "record 0 .* wrong checksum: the file is damaged"),
    ],
)
def test_damaged_records(tmp_path: Path, damage: Any, message: str) -> None:
    write_records(tmp_path / "x", [b"four", b"sixsix"])
    (tmp_path / "x").write_bytes(damage((tmp_path / "x").read_bytes()))
    with pytest.raises(RecordError, match=message):
        list(read_records(tmp_path / "x"))


def predict_log(signature_name: str, **inputs: Any) -> Any:
    log = apis("prediction_log_pb2").PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature_name
    for name, array in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(from_array(array))
    return log


def example_log(kind: str, *examples: Any) -> Any:
    log = apis("prediction_log_pb2").PredictionLog()
    request = getattr(log, f"{kind}_log").request
    request.model_spec.signature_name = kind
    request.input.example_list.examples.extend(to_proto(features_of(example)) for example in examples)
    return log


def multi_log(*examples: Any) -> Any:
    log = apis("prediction_log_pb2").PredictionLog()
    request = log.multi_inference_log.request
    for kind in ("regress", "classify"):
        request.tasks.add(method_name=f"tensorflow/serving/{kind}", model_spec={"name": "m", "signature_name": kind})
    request.input.example_list.examples.extend(to_proto(features_of(example)) for example in examples)
    return log


def logs_of(model: NumpyModel) -> list[Any]:
    features = np.random.default_rng(0).normal(size=(3, 4, 3)).astype("float32")
    features[1, 0, 0] = np.nan
    logs = [
        predict_log("serving_default", features=features),
        predict_log("serving_padded", features=features, lengths=np.int32([1, 2, 4])),
        predict_log("", features=features[:1]),
        example_log("classify", features[0], features[2]),
        example_log("regress", features[2]),
        multi_log(features[0], features[2]),
    ]
    logs[2].predict_log.request.output_filter.append("logits")
    for log in logs:
        kind = log.WhichOneof("log_type")
        getattr(log, kind).response.CopyFrom(replay(model, log))
    return [*logs, predict_log("serving_default", features=features)]  # the last one has no answer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_records(root / "digits/1" / WARMUP_FILE, [log.SerializeToString() for log in logs_of(classifier())])
    (root / "digits/1/saved_model.pb").touch()
    return root


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(client_commands.verify, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.mark.parametrize("api", ["rest", "grpc"])
def test_a_server_with_that_version(api: str, models: Path, numpy_served: SimpleNamespace) -> None:
    result = verify(models / "digits", "--target", getattr(numpy_served, api))
    assert (result.return_value, result.exception) == (0, None)
    assert result.output == (
        "record  request          signature         largest difference  in               answer\n"
        "     0  predict          serving_default              0.0e+00  logits           equal\n"
        "     1  predict          serving_padded               0.0e+00  logits           equal\n"
        "     2  predict          serving_default              0.0e+00  logits           equal\n"
        "     3  classify         classify                     0.0e+00  scores           equal\n"
        "     4  regress          regress                      0.0e+00  outputs          equal\n"
        "     5  multi_inference  regress,classify             0.0e+00  classify/scores  equal\n"
        f"6 of 6 answers of digits, version 1, by {getattr(numpy_served, api)} are the golden ones\n"
    )


@pytest.mark.parametrize("api", ["rest", "grpc"])
def test_a_server_with_another_model(api: str, models: Path, numpy_served: SimpleNamespace) -> None:
    numpy_served.manager.models["other"] = {1: classifier(1.001)}
    arguments = [models / "digits/1", "--target", getattr(numpy_served, api), "--model_name=other"]
    result = verify(*arguments, "--json")
    assert result.return_value == 1
    found = [json.loads(line) for line in result.output.splitlines()]
    assert [bool(entry["problems"]) for entry in found] == [True] * 6
    # The NaN row is equal, and no class changes.
    assert found[0]["problems"] == ["logits differs in 2 of 6", "probabilities differs in 4 of 6"]
    assert 0 < found[0]["largest_difference"] < 0.01
    assert verify(*arguments, "--atol=1", "--rtol=0").return_value == 0


@pytest.mark.parametrize("api", ["rest", "grpc"])
def test_a_server_that_refuses(api: str, models: Path, numpy_served: SimpleNamespace) -> None:
    arguments = [models / "digits", "--target", getattr(numpy_served, api)]
    result = verify(*arguments, "--model_name=numbers", "--json")
    problems = [json.loads(line)["problems"] for line in result.output.splitlines()]
    assert result.return_value == 1
    assert "predictions was not expected" in problems[0]
    assert [found[0].startswith("the server answered") for found in problems[1:]] == [True, False, True, True, True]
    missing = verify(*arguments, "--model_name=none")
    assert isinstance(missing.exception, ServerError)
    assert missing.exception.message.startswith("Servable not found for request: Specific(none, 1); models here: ")


def test_in_this_process(saved_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "digits/3"
    folder.mkdir(parents=True)
    for child in (saved_models / "one").iterdir():
        if child.name != "assets.extra":
            (folder / child.name).symlink_to(child)
    log = predict_log("serving_default", features=np.float32([[[1, 2, 3], [0.5, 0, -1]]]))
    outputs = log.predict_log.response.outputs
    outputs["class_id"].CopyFrom(from_array(np.int64([1])))
    outputs["label"].CopyFrom(from_array(np.array([b"class_b"], object)))
    outputs["logits"].CopyFrom(from_array(np.float32([[0, 0.5]])))
    outputs["probabilities"].CopyFrom(from_array(np.float32([[1 / (1 + np.exp(0.5)), 1 / (1 + np.exp(-0.5))]])))
    write_records(folder / WARMUP_FILE, [log.SerializeToString()])
    result = verify(tmp_path / "digits")
    assert (result.return_value, result.exception) == (0, None)
    assert "1 of 1 answers of digits, version 3, by this process" in result.output


def test_what_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match="holds no version"):
        version_folder(tmp_path)
    with pytest.raises(VerifyError, match="is missing, so there is nothing to compare with"):
        read_golden(tmp_path)
    write_records(tmp_path / WARMUP_FILE, [predict_log("x").SerializeToString()])
    with pytest.raises(VerifyError, match="none of the 1 records"):
        read_golden(tmp_path)
    assert VerifyError.exit_code == 2
    (tmp_path / "10").mkdir()
    (tmp_path / "9").mkdir()
    assert version_folder(tmp_path)[1:] == (10, tmp_path / "10")


def golden(**expected: Any) -> Golden:
    return Golden(0, "predict", "serving_default", None, {}, [], {k: np.asarray(v) for k, v in expected.items()})


@pytest.mark.parametrize(
    ("expected", "actual", "problems"),
    [
        ({"x": np.float32([1, np.nan])}, {"x": np.float32([1.000001, np.nan])}, []),
        ({"x": np.float32([1, np.nan])}, {"x": np.float32([1, 2])}, ["x differs in 1 of 2"]),
        ({"x": np.float32([np.inf])}, {"x": np.float32([-np.inf])}, ["x differs in 1 of 1"]),
        ({"x": np.float32([1])}, {}, ["x is missing"]),
        ({}, {"x": np.float32([1])}, ["x was not expected"]),
        ({"x": np.float32([1])}, {"x": np.float32([[1]])}, ["x is float32 (1, 1), expected float32 (1,)"]),
        ({"x": np.int32([1])}, {"x": np.int64([1])}, []),
        ({"x": np.array([b"a"], object)}, {"x": np.int64([1])}, ["x is int64 (1,), expected object (1,)"]),
    ],
)
def test_comparing(expected: dict[str, Any], actual: dict[str, Any], problems: list[str]) -> None:
    assert list(compare(golden(**expected), actual).problems) == problems


def test_a_class_may_change_only_where_two_are_equally_likely() -> None:
    probabilities = np.float32([[0.5, 0.499995], [0.6, 0.4], [np.nan, np.nan]])
    expected = {"probabilities": probabilities, "class_id": np.int64([0, 0, -1])}
    assert compare(golden(**expected), {**expected, "class_id": np.int64([1, 0, -1])}).problems == ()
    changed = compare(golden(**expected), {**expected, "class_id": np.int64([0, 1, 0])})
    assert changed.problems == ("class_id differs in 2 of 3",)


def run(verb: str, *arguments: str) -> Result:
    return CliRunner().invoke(getattr(client_commands, verb), arguments, standalone_mode=False)


def test_status(numpy_served: SimpleNamespace) -> None:
    result = run("status", "--target", numpy_served.grpc, "--model_name=digits")
    assert result.return_value == 0
    assert result.output == "version  state      error\n      1  AVAILABLE\n"
    result = run("status", "--target", numpy_served.rest, "--model_name=digits", "--json")
    assert json.loads(result.output) == {"version": 1, "state": "AVAILABLE", "error": ""}
    assert getattr(run("status", "--target", numpy_served.rest, "--model_name=x").exception, "exit_code", 0) == 1


def test_metadata(numpy_served: SimpleNamespace) -> None:
    result = run("metadata", "--target", numpy_served.rest, "--model_name=numbers")
    assert result.output == (
        "numbers, version 1\n"
        "signature             name         dtype  shape\n"
        "serving_default  in   features     float  [?, ?, 3]\n"
        "serving_default  out  predictions  float  [?, 2, 1]\n"
    )
    both = [run("metadata", "--target", getattr(numpy_served, api), "--model_name=digits", "--json").output
            for api in ("rest", "grpc")]  # fmt: skip
    assert both[0] == both[1]
    assert {"signature": "serving_padded", "direction": "in", "name": "lengths", "dtype": "int32", "shape": [None]} in (
        json.loads(both[0])["tensors"]
    )


def test_classify(numpy_served: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[[[1, 2, 3]], [[-1, 0, 0], [0, 0, 0]]]")
    arguments = ["--target", numpy_served.grpc, "--model_name=digits", str(tmp_path / "x.json")]
    assert run("classify", *arguments).output == "row  label   score\n  0  b      0.9975\n  1  a      0.7311\n"
    rows = [json.loads(line) for line in run("classify", "--json", *arguments).output.splitlines()]
    assert [pair["label"] for pair in rows[0]["classes"]] == ["a", "b"]


def test_a_forecast_as_a_table(numpy_served: SimpleNamespace, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 2, 3)))
    result = run("predict", "--target", numpy_served.rest, "--model_name=numbers", str(tmp_path / "x.npy"))
    assert result.output.splitlines()[:3] == ["row  step  values", "  0     0  6", "  0     1  1"]


def test_version_and_label_are_two_names_for_one_thing() -> None:
    result = run("status", "--model_name=m", "--version=1", "--label=stable")
    assert "give it or --version" in str(result.exception)


def test_importing_the_verbs_is_cheap() -> None:
    program = (
        "import sys, serving.cli.client, serving.cli.bench\n"
        "print([m for m in ('numpy', 'grpc', 'google.protobuf', 'tensorflow', 'serving.client') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"


def test_golden_answers_survive_the_file(models: Path) -> None:
    (first, *_) = read_golden(models / "digits/1")
    again = to_array(first.log.predict_log.response.outputs["logits"])
    assert first.expected["logits"].tobytes() == again.tobytes()
