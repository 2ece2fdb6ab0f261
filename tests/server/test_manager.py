"""Many models: the configuration, labels, reloading; and what a server does with a file of them."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from serving.errors import Code, ServingError
from serving.models import loading
from serving.models.manager import ModelManager
from serving.models.model_config import VersionPolicy, model_configs, read_model_server_config
from serving.models.versions import Retries, State
from serving.server import Server, ServerOptions


class FakeModel:
    def __init__(self, path: Path) -> None:
        if (path / "broken").exists():
            raise ServingError(Code.DATA_LOSS, "broken on purpose")
        self.path = path

    def close(self) -> None:
        pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a/1", "a/2", "b/5", "c/7/broken", "empty"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def manager() -> Iterator[ModelManager]:
    manager = ModelManager(FakeModel, retries=Retries(0), poll_seconds=0)
    yield manager
    manager.close()


def config(root: Path, text: str) -> Any:
    (root / "models.config").write_text(text.replace("ROOT", str(root)))
    return read_model_server_config(root / "models.config")


def of(*models: str) -> str:
    return f"model_config_list {{ {' '.join(f'config {{ {model} }}' for model in models)} }}"


A = 'name: "a" base_path: "ROOT/a" model_platform: "tensorflow"'
B = 'name: "b" base_path: "ROOT/b" model_platform: "tensorflow"'
C = 'name: "c" base_path: "ROOT/c" model_platform: "tensorflow"'
ALL = "model_version_policy { all {} }"


def versions(manager: ModelManager, name: str) -> list[int]:
    return [status.version for status in manager.statuses(name) if status.state is State.AVAILABLE]


def test_a_configuration_replaces_the_one_before(manager: ModelManager, root: Path) -> None:
    manager.reload(config(root, of(f"{A} {ALL}", B)))
    assert manager.names() == ["a", "b"]
    assert (versions(manager, "a"), versions(manager, "b")) == ([2, 1], [5])
    with manager.handle("b") as (version, _):
        manager.reload(config(root, of(A)))
        assert version == 5
        assert manager.names() == ["a"]
        assert manager.statuses("b")[0].state is State.UNLOADING
    assert versions(manager, "a") == [2]
    with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(b\)"), manager.handle("b"):
        pass
    manager.reload(config(root, of(B)))
    with manager.handle("b") as (version, model):
        assert (version, model.path) == (5, root / "b" / "5")
    manager.reload(config(root, ""))
    assert manager.names() == ["b"]


def test_what_is_not_served(manager: ModelManager, root: Path) -> None:
    manager.reload(config(root, of(A)))
    assert manager.statuses("x") == []
    for version, words in ((None, r"Latest\(x\)"), (7, r"Specific\(x, 7\)")):
        with pytest.raises(ServingError, match=words) as caught, manager.handle("x", version):
            pass
        assert caught.value.code is Code.NOT_FOUND
    with (
        pytest.raises(ServingError, match="Unrecognized servable version label: stable") as caught,
        manager.handle("x", label="stable"),
    ):
        pass
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_labels_name_versions_that_are_available(manager: ModelManager, root: Path) -> None:
    label = f'{A} {ALL} version_labels {{ key: "stable" value: 1 }}'
    message = "Request to assign label to version 1 of model a, which is not currently available for inference"
    with pytest.raises(ServingError, match=message) as caught:
        manager.reload(config(root, of(label)))
    assert caught.value.code is Code.FAILED_PRECONDITION
    manager.reload(config(root, of(f"{A} {ALL}")))
    manager.reload(config(root, of(label)))
    assert manager.labels("a") == {"stable": 1}
    with manager.handle("a", label="stable") as (version, _):
        assert version == 1
    # A label may move to another version that is there, and not to one that is not.
    manager.reload(config(root, of(label.replace("value: 1", "value: 2"))))
    assert manager.labels("a") == {"stable": 2}
    with pytest.raises(ServingError, match="version 3 of model a"):
        manager.reload(config(root, of(label.replace("value: 1", "value: 3"))))
    assert manager.labels("a") == {"stable": 2}


def test_new_labels_may_be_early_if_allowed(root: Path) -> None:
    manager = ModelManager(FakeModel, poll_seconds=0, allow_labels_for_unavailable=True)
    label = f'{A} {ALL} version_labels {{ key: "next" value: 3 }}'
    manager.reload(config(root, of(label)))
    with pytest.raises(ServingError, match=r"Specific\(a, 3\)"), manager.handle("a", label="next"):
        pass
    with pytest.raises(ServingError, match="version 4 of model a"):
        manager.reload(config(root, of(label.replace("value: 3", "value: 4"))))
    manager.close()


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (of(A, A), Code.INVALID_ARGUMENT, "Illegal to list model a multiple times in config list"),
        (of(A.replace("ROOT/", "")), Code.INVALID_ARGUMENT, r"to have an absolute path or URI; got base_path\(\)=a"),
        (of(A.replace("ROOT", "gs://x")), Code.UNIMPLEMENTED, "only folders of this machine"),
        (of(A.replace('"tensorflow"', '""')), Code.INVALID_ARGUMENT, "Illegal setting neither"),
        (of(f"{A} model_type: TENSORFLOW"), Code.INVALID_ARGUMENT, "Illegal setting both"),
        (of(A.replace('"tensorflow"', '"onnx"')), Code.INVALID_ARGUMENT, "Model a requests unsupported platform onnx"),
        ("custom_model_config {}", Code.INVALID_ARGUMENT, "does not yet support custom model config"),
        (of(A.replace("/a", "/none")), Code.INVALID_ARGUMENT, "Could not find base path .*/none for servable a"),
        (of(A.replace("/a", "/empty")), Code.NOT_FOUND, "Unable to find a numerical version path for servable a at:"),
    ],
)  # fmt: skip
def test_configurations_that_are_refused_change_nothing(
    manager: ModelManager, root: Path, text: str, code: Code, words: str
) -> None:
    manager.reload(config(root, of(B)))
    with pytest.raises(ServingError, match=words) as caught:
        manager.reload(config(root, text))
    assert caught.value.code is code
    assert manager.names() == ["b"]
    assert versions(manager, "b") == [5]


def test_a_file_that_is_no_configuration(root: Path) -> None:
    for text in ("nonsense", "model_config_list { config { nam: 'x' } }"):
        with pytest.raises(
            ServingError, match=r"Invalid protobuf file: '.*models.config'.*expected a ModelServerConfig"
        ):
            config(root, text)
    with pytest.raises(ServingError, match="Invalid protobuf file"):
        read_model_server_config(root / "missing")


def test_models_that_do_not_become_available(manager: ModelManager, root: Path) -> None:
    listed = r"1 {}\(s\) did not become available: {{{{{{name: c version: 7}} due to error: DATA_LOSS: broken on purp"
    fresh = ModelManager(FakeModel, retries=Retries(0), poll_seconds=0)
    with pytest.raises(ServingError, match=listed.format("servable")) as caught:
        fresh.reload(config(root, of(C, A)))
    fresh.close()
    assert caught.value.code is Code.UNKNOWN
    manager.reload(config(root, of(A)))
    with pytest.raises(ServingError, match=listed.format("model")):
        manager.reload(config(root, of(B, C)))
    # What can be served of the new configuration is.
    assert manager.names() == ["b", "c"]
    assert versions(manager, "b") == [5]


def test_policies_are_read(root: Path) -> None:
    policies = [
        model_configs(config(root, of(f"{A} model_version_policy {{ {policy} }}")))[0].policy
        for policy in ("", "latest {}", "latest { num_versions: 3 }", "all {}", "specific { versions: 1 versions: 4 }")
    ]
    assert policies == [
        VersionPolicy(),
        VersionPolicy(),
        VersionPolicy("latest", 3),
        VersionPolicy("all"),
        VersionPolicy("specific", versions=frozenset({1, 4})),
    ]


def test_the_deprecated_model_type(root: Path) -> None:
    typed = A.replace('model_platform: "tensorflow"', "model_type: TENSORFLOW")
    assert model_configs(config(root, of(typed)))[0].name == "a"
    with pytest.raises(ServingError, match="unsupported platform other"):
        model_configs(config(root, of(typed.replace("TENSORFLOW", "OTHER"))))


def test_a_server_follows_its_file_and_the_folders(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "load", lambda path, options: FakeModel(path))
    config(root, of(A, B))
    options = ServerOptions(
        model_config_file=root / "models.config",
        model_config_file_poll_wait_seconds=0.02,
        file_system_poll_wait_seconds=0.02,
        rest_api_port=0,
        port=0,
        num_load_threads=2,
    )
    with Server(options) as server:
        manager = server.manager
        assert server.grpc_target is not None
        (root / "a" / "3").mkdir()
        until(lambda: versions(manager, "a") == [3])
        (root / "models.config").write_text("model_config_list { half of a")
        until(lambda: "cannot be served: INVALID_ARGUMENT: Invalid protobuf file" in caplog.text)
        assert manager.names() == ["a", "b"]
        # A label may name a version that this file has just brought, once that is loaded.
        config(root, of(f'{A} {ALL} version_labels {{ key: "old" value: 1 }}'))
        until(lambda: "FAILED_PRECONDITION: Request to assign label to version 1" in caplog.text)
        config(root, of(f"{A} {ALL}"))
        until(lambda: versions(manager, "a") == [3, 2, 1])
        config(root, of(f'{A} {ALL} version_labels {{ key: "old" value: 1 }}'))
        until(lambda: manager.labels("a") == {"old": 1})
        assert manager.names() == ["a"]
    assert manager.names() == []
    assert not [thread for thread in threading.enumerate() if thread.name.split("_")[0] in ("poll", "config", "load")]


def test_a_file_that_stays_as_it_is_is_put_into_force_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load", lambda path, options: FakeModel(path))
    looks: list[Path] = []
    read = read_model_server_config
    monkeypatch.setattr("serving.server.read_model_server_config", lambda path: looks.append(path) or read(path))
    reloads: list[Any] = []
    monkeypatch.setattr(ModelManager, "reload", lambda self, config: reloads.append(config))
    config(root, of(A))
    path = root / "models.config"
    options = ServerOptions(
        model_config_file=path, model_config_file_poll_wait_seconds=0.01, rest_api_port=None, port=None
    )
    with Server(options):
        until(lambda: len(looks) > 3)  # one at the start, and then a look at least that has ended
        assert reloads == []
        config(root, of(A, B))
        until(lambda: len(reloads) == 1)


def test_without_the_messages_one_model_is_served_by_rest(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loading, "load", lambda path, options: FakeModel(path))
    # An import of what is None here fails.
    monkeypatch.setitem(sys.modules, "serving.grpc_server", None)
    options = ServerOptions(model_base_path=root / "b", rest_api_port=0, port=0)
    with Server(options) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.grpc_target is None
    assert caplog.text.count("gRPC is off; pip install 'sequence-zoo[serve]'") == 1
