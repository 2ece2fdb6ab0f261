import contextlib
import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import PATIENCE

from training.datasets import DATASETS
from training.datasets.audio import MissingAudioExtra
from training.datasets.store.raw_files import RawFileMissing, WrongRawFile, check_raw_files, manual_directory

CONTENT = b"recordings"
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


def builder_class(port: int) -> SimpleNamespace:
    info = SimpleNamespace(filename="sounds.tar.gz", checksum=CHECKSUM, size="10 bytes")
    return SimpleNamespace(name="sounds", url_infos={f"http://127.0.0.1:{port}/sounds.tar.gz": info})


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def manual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path))
    (tmp_path / "sounds").mkdir()
    return tmp_path / "sounds"


def test_where_raw_files_are_looked_for(
    manual: Path, empty_data_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manual_directory("sounds") == manual
    monkeypatch.delenv("ZOO_MANUAL_DIR")
    assert manual_directory("sounds") == empty_data_directory / "downloads" / "manual" / "sounds"


def test_a_file_that_is_there_needs_no_network(manual: Path, closed_port: int) -> None:
    (manual / "sounds.tar.gz").write_bytes(CONTENT)
    assert check_raw_files(builder_class(closed_port)) == manual


def test_another_file_of_that_name_is_refused(manual: Path, closed_port: int) -> None:
    (manual / "sounds.tar.gz").write_bytes(CONTENT[:-1])
    with pytest.raises(WrongRawFile, match=f"expected {CHECKSUM}: replace it by the file from http"):
        check_raw_files(builder_class(closed_port))


@pytest.mark.parametrize("kind", ["closed_port", "silent_port"])
def test_a_port_that_is_closed_or_silent_is_offline(kind: str, manual: Path, request: pytest.FixtureRequest) -> None:
    port = request.getfixturevalue(kind)
    with pytest.raises(RawFileMissing) as error:
        check_raw_files(builder_class(port))
    for fact in ("sounds.tar.gz", CHECKSUM, str(manual), f"127.0.0.1:{port}", "put the file there"):
        assert fact in str(error.value)


def test_an_unknown_host_is_offline(manual: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = threading.Event()

    def looks_up_forever(*arguments: object, **options: object) -> None:
        refused.wait(PATIENCE)
        raise socket.gaierror("looked up for long enough")  # what the thread left behind gets, as from a real one

    monkeypatch.setattr(socket, "getaddrinfo", looks_up_forever)
    with pytest.raises(RawFileMissing, match="no answer within"):
        check_raw_files(builder_class(80))
    refused.set()


@pytest.fixture
def offline(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is a proxy that does not answer."""
    for scheme in ("http", "https", "HTTP", "HTTPS"):
        monkeypatch.setenv(
            f"{scheme}_PROXY" if scheme.isupper() else f"{scheme}_proxy", f"http://127.0.0.1:{closed_port}"
        )


@pytest.mark.usefixtures("offline", "manual")
@pytest.mark.parametrize(
    "name", [name for name, dataset in DATASETS.items() if "generated" not in dataset.spec.licence]
)
def test_a_dataset_is_there_or_says_at_once_which_file_goes_where(
    name: str, empty_data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow_datasets as tfds

    dataset = DATASETS[name]
    source = getattr(dataset, "builder", None) or getattr(dataset, "source", None) or name
    if dataset.is_prepared() or name == "japanese_vowels":
        return  # ships with a package
    with contextlib.suppress(tfds.core.registered.DatasetNotFoundError):  # a builder of the zoo's own
        tfds.builder_cls(source)
    pauses: list[float] = []  # between attempts, which TensorFlow Datasets makes for minutes if it is let
    monkeypatch.setattr(time, "sleep", pauses.append)
    try:
        dataset.prepare()
    except MissingAudioExtra as error:
        pytest.skip(str(error))
    except RawFileMissing as error:
        message = str(error)
    else:
        raise AssertionError(f"{name} was prepared without a network")
    assert sum(pauses) < 1
    if name == "crema_d":  # 7442 files and their labels: nothing that is placed by hand
        assert f"{empty_data_directory / 'packed'}" in message
        return
    assert re.search(r"needs \S+ \(.*, SHA-256 [0-9a-f]{64}\)", message)
    assert f"it is not in {tmp_path / source}" in message
    assert "put the file there" in message
