"""The verbs `serve` and `predict`, as a process and through click."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import click
import numpy as np
import psutil
import pytest
from click.testing import CliRunner, Result
from waiting import PATIENCE

from serving.cli import client as client_commands, serve as commands
from serving.cli.refused_flags import REFUSED
from serving.client import RestClient
from serving.client.sequences import InputError
from serving.errors import ServingError
from serving.options import Flag, ServerOptions
from serving.server import Server

RUN = [sys.executable, "-c", "from serving.cli.serve import serve; serve()"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_as_a_process(saved_models: Path, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "3").symlink_to(saved_models / "one")
    port, grpc = free_port(), free_port()
    with process(
        f"--rest_api_port={port}", "--port", str(grpc), "--model_name", "digits", f"--model_base_path={tmp_path}",
        "--tensorflow_session_parallelism=1", "--rest_api_num_threads=2", "--enable_batching",
    ) as running:  # fmt: skip
        assert running.stdout is not None
        ready = running.stdout.readline()
        expected = (
            rf"ready: http://127\.0\.0\.1:{port}/v1/models/digits, gRPC 127\.0\.0\.1:{grpc} \(version 3, \d+\.\d s\); "
            rf"page: http://127\.0\.0\.1:{port}/\n"
        )
        assert re.fullmatch(expected, ready)
        with RestClient(f"http://127.0.0.1:{port}", "digits") as client:
            assert client.predict([[[1, 2, 3], [0.5, 0, -1]]])[0].label == "class_b"
            memory = psutil.Process(running.pid).memory_info().rss
            running.send_signal(number)
            _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0
    assert "Traceback" not in errors
    assert "C API" in errors
    assert memory < 500e6  # importing TensorFlow would take it over that


# XLA is switched off for a whole process, which here is that of all tests.
IN_PROCESS = ["--xla_cpu_compilation_enabled", "--port=0"]


def test_what_ends_the_start_with_1(saved_models: Path, tmp_path: Path) -> None:
    (tmp_path / "1").symlink_to(saved_models / "one")
    (tmp_path / "models.config").write_text("model_config_list { nonsense }")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for arguments, words in [
            (["--model_base_path", tmp_path], f"UNAVAILABLE: cannot listen on 127.0.0.1:{port}"),
            (
                ["--model_base_path", tmp_path, "--batching_parameters_file=x"],
                "INVALID_ARGUMENT: --batching_parameters",
            ),
            (
                ["--model_base_path", tmp_path, "--monitoring_config_file=x"],
                "INVALID_ARGUMENT: Invalid protobuf file: 'x'",
            ),
        ]:
            call = [*IN_PROCESS, *map(str, arguments), f"--rest_api_port={port}"]
            result = CliRunner().invoke(commands.serve, call)
            assert isinstance(result.exception, ServingError)
            assert result.exception.exit_code == 1
            assert result.exception.message.startswith(f"Failed to start server. Error: {words}")
    for arguments, words in [
        (["--model_base_path", tmp_path / "none"], "INVALID_ARGUMENT: Could not find base path"),
        (["--model_base_path", tmp_path / "1"], "give the folder that it lies in"),
        (["--model_config_file", tmp_path / "models.config"], "Invalid protobuf file"),
    ]:
        result = CliRunner().invoke(
            commands.serve, [*IN_PROCESS, *map(str, arguments), f"--rest_api_port={free_port()}"]
        )
        assert isinstance(result.exception, ServingError)
        assert words in result.exception.message


def test_version() -> None:
    result = CliRunner().invoke(commands.serve, ["--version"])
    assert re.fullmatch(r"sequence-zoo: \S+\nTensorFlow Library: \S+\n", result.output)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], False),
        (["--enable_batching"], True),
        (["--enable_batching=true"], True),
        (["--enable_batching", "false", "--port=1"], False),
    ],
)
def test_how_switches_are_spelled(monkeypatch: pytest.MonkeyPatch, flags: list[str], expected: bool) -> None:
    served: list[ServerOptions] = []
    monkeypatch.setattr(commands, "_serve", served.append)
    result = CliRunner().invoke(commands.serve, [*flags, "--rest_api_port", "0", "--model_base_path=x"])
    assert result.exit_code == 0, result.output
    assert served[0].enable_batching is expected
    assert served[0].rest_api_port is None
    assert served[0].port in (1, 8500)


@pytest.mark.parametrize("flag", sorted(REFUSED))
@pytest.mark.parametrize("form", ["--{}=true", "--{}"])
def test_flags_that_are_refused_by_name(flag: str, form: str) -> None:
    result = CliRunner().invoke(commands.serve, ["--model_base_path=x", form.format(flag)])
    assert result.exit_code == 2
    assert f"--{flag} is refused" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --model_base_path"),
        (["--model_base_path=x", "--port=7", "--rest_api_port=7"], "--rest_api_port cannot be same as --port"),
        (["--model_base_path=x", "--enable_batching=maybe"], "maybe"),
        (["--model_base_path=x", "--enable_everything=true"], "--enable_everything"),
        (["--model_base_path=x", "--rest_api_port=0", "--port=0"], "nothing would be served"),
        (["--model_base_path=x", "--rest_api_port=70000"], "70000"),
        (["--model_base_path=x", "--rest_api_num_threads=0"], "0"),
        (["--model_base_path=x", "--file_system_poll_wait_seconds=-1"], "-1"),
        (["--model_base_path=x", "--saved_model_tags=,"], "at least one tag"),
        (
            ["--model_base_path=x", "--tensorflow_session_parallelism=1", "--tensorflow_inter_op_parallelism=1"],
            "sets both",
        ),
    ],
)
def test_calls_of_serve_that_are_wrong(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(commands.serve, arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_the_flags_and_defaults_are_tensorflow_servings() -> None:
    defaults = {option.name: option.default for option in commands.serve.params if option.name != "version"}
    cores = os.cpu_count() or 1
    assert defaults == {
        "port": 8500, "grpc_socket_path": "", "rest_api_num_threads": 4 * cores, "rest_api_timeout_in_ms": 30_000,
        "rest_api_enable_cors_support": False, "enable_batching": False, "batching_parameters_file": None,
        "allow_version_labels_for_unavailable_models": False, "enable_per_model_batching_parameters": False,
        "model_config_file": None, "model_config_file_poll_wait_seconds": 0, "model_name": "default",
        "model_base_path": None, "num_load_threads": 0, "num_unload_threads": 0, "max_num_load_retries": 5,
        "load_retry_interval_micros": 60_000_000, "file_system_poll_wait_seconds": 1,
        "tensorflow_session_parallelism": 0, "tensorflow_intra_op_parallelism": 0,
        "tensorflow_inter_op_parallelism": 0, "ssl_config_file": None, "saved_model_tags": "serve",
        "grpc_channel_arguments": "", "grpc_max_threads": 4 * cores, "enable_model_warmup": True,
        "num_request_iterations_for_warmup": 0, "monitoring_config_file": None,
        "enable_signature_method_name_check": False, "xla_cpu_compilation_enabled": False,
        "enable_grpc_healthcheck_service": False, "enable_serialization_as_tensor_content": False,
        # What differs, and what is this server's own.
        "host": "127.0.0.1", "rest_api_port": 8501, "page": True,
    }  # fmt: skip
    assert not set(defaults) & set(REFUSED)


def test_a_field_of_the_options_is_a_flag() -> None:
    @dataclass(frozen=True)
    class More(ServerOptions):
        answers_kept: Annotated[int, Flag("Answers kept for later.", minimum=1)] = 3
        is_loud: Annotated[bool, Flag("Say more.")] = False

    known = {option.name for option in commands.serve.params}
    assert known == {field.name for field in fields(ServerOptions)} | {"version"}
    made: list[Any] = []
    command = click.Command(
        "serve", params=list(commands.parameters(More)), callback=lambda **given: made.append(given)
    )
    shown = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert "--answers_kept INTEGER RANGE Answers kept for later. [default: 3; x>=1]" in shown
    assert CliRunner().invoke(command, ["--answers_kept=0"]).exit_code == 2
    assert CliRunner().invoke(command, ["--answers_kept=2", "--is_loud"]).exit_code == 0
    assert More(**made[0]) == More(answers_kept=2, is_loud=True, port=8500)


def test_importing_the_commands_is_cheap() -> None:
    program = (
        "import sys, serving.cli.serve\n"
        "print([m for m in ('numpy', 'tensorflow', 'http.server', 'serving.server', 'logging') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"


def predict(server: Server, *arguments: str, **extra: str) -> Result:
    call = ["--target", server.url, "--model_name", "digits", *arguments]
    return CliRunner().invoke(client_commands.predict, call, catch_exceptions=True, **extra)


ONE = [[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]]


def test_predict_prints_a_table(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "several.npz"
    np.savez(path, first=np.array(ONE), second=np.zeros((1, 3)))
    result = predict(server, str(path))
    assert result.exit_code == 0, result.exception
    # The logits are 0 and 0.5 for the first, and equal for the second.
    assert result.output == (
        "row  length  label    probability\n"
        "  0       2  class_b       0.6225\n"
        "  1       1  class_a       0.5000\n"
    )  # fmt: skip


def test_predict_prints_json(server: Server) -> None:
    result = predict(server, "--json", "--version", "1", "-", input=json.dumps([ONE, ONE[:1]]))
    assert result.exit_code == 0, result.exception
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [(row["row"], row["length"], row["label"], row["class_id"]) for row in rows] == [
        (0, 2, "class_b", 1),
        (1, 1, "class_b", 1),
    ]
    assert [len(row["probabilities"]) for row in rows] == [2, 2]


@pytest.mark.parametrize("kind", ["one.npy", "batch.npy", "features.npz", "lengths.npz", "one.json", "batch.json"])
def test_kinds_of_input(server: Server, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    batch = np.array([ONE, ONE], "float32")
    lengths = [2, 2]
    if kind == "one.npy":
        np.save(path, batch[0])
        lengths = [2]
    elif kind == "batch.npy":
        np.save(path, batch)
    elif kind == "features.npz":
        np.savez(path, features=batch, labels=np.array([0, 1]))
    elif kind == "lengths.npz":
        lengths = [2, 1]
        np.savez(path, features=batch, lengths=np.array(lengths))
    else:
        path.write_text(json.dumps(ONE if kind == "one.json" else [ONE, ONE]))
        lengths = [2] if kind == "one.json" else lengths
    result = predict(server, "--json", str(path))
    assert result.exit_code == 0, result.exception
    assert [json.loads(line)["length"] for line in result.output.splitlines()] == lengths


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.npy", None, "cannot read"),
        ("notes.md", b"1 2 3", "give a .npy, .npz, .json or .txt file"),
        ("latin.txt", b"\xff", "not a valid .txt file of text in UTF-8"),
        ("broken.npy", b"not numpy", "not a valid .npy file"),
        ("broken.npz", b"PK not a zip", "not a valid .npz file"),
        ("broken.json", b"[1, 2", "is not JSON"),
        ("number.json", b"3", "holds no list"),
        ("flat.json", b"[1, 2]", "sequence 0 has shape ()"),
        ("ragged.json", b"[[1, 2], [3]]", "sequence 0 is ragged"),
        ("nan.json", b"[[1, NaN]]", "sequence 0 has nan at step 0, channel 1"),
    ],
)
def test_input_that_cannot_be_read(
    server: Server, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = predict(server, str(tmp_path / name))
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 2
    assert words in str(result.exception)


def test_an_array_of_objects_is_not_unpickled(server: Server, tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    result = predict(server, str(tmp_path / "objects.npy"))
    assert isinstance(result.exception, InputError)


def test_lengths_that_do_not_fit(server: Server, tmp_path: Path) -> None:
    for lengths in ([0], [3], [1, 1], [1.5]):
        np.savez(tmp_path / "x.npz", features=np.array([ONE]), lengths=np.array(lengths))
        assert isinstance(predict(server, str(tmp_path / "x.npz")).exception, InputError)
