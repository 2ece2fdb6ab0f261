"""Exports, labels and `models.config` that were written before serving had rooms are served, moved and verified.

`saved/models.tar.xz` holds two exports of a small LSTM and what `zoo promote` wrote for them; to write them again would
make the test say nothing.
"""

import json
import tarfile
from pathlib import Path

import pytest

from serving.client import GrpcClient, RestClient
from serving.client.verify import ask_server, check, read_golden
from serving.options import ServerOptions
from serving.release import models_config
from serving.release.version_folders import complete_versions
from serving.server import Server

ARCHIVE = Path(__file__).with_name("saved") / "models.tar.xz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / "models"
    config = root / "models.config"
    config.write_text(config.read_text().replace('"/models/', f'"{root}/'))
    return root


def test_exports_and_labels_of_before_are_served(root: Path) -> None:
    options = ServerOptions(
        model_config_file=root / "models.config",
        rest_api_port=0,
        port=0,
        allow_version_labels_for_unavailable_models=True,
    )
    with Server(options) as server:
        with RestClient(server.url, "speakers") as client:
            assert [(state.version, state.state) for state in client.status()] == [(2, "AVAILABLE"), (1, "AVAILABLE")]
        assert server.grpc_target is not None
        for label, version in (("stable", 2), ("canary", 1)):
            recorded = read_golden(root / "speakers" / str(version))
            for client in (
                RestClient(server.url, "speakers", label=label),
                GrpcClient(server.grpc_target, "speakers", label=label),
            ):
                with client:
                    assert client.metadata().version == version
                    assert [check(request, ask_server(client)).problems for request in recorded] == [()] * len(recorded)


def test_labels_of_before_go_on(root: Path) -> None:
    assert list(complete_versions(root / "speakers")) == [1, 2]
    written = json.loads((root / "speakers/labels.json").read_text())
    since: list[float] = []
    made = models_config.rollback(root, "speakers", "stable", lambda folder, at: since.append(at), lambda folder: None)
    assert (made.version, made.before, made.served) == (1, 2, (1,))
    assert since == [written["since"]["1"]]
    made = models_config.promote(root, "speakers", 2, "canary", None, lambda *_: None, lambda folder: None)
    assert (made.version, made.before, made.base_path) == (2, 1, str(root / "speakers"))
