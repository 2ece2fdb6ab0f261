"""Which version is served: polling, hot swap, broken versions, handles."""

import json
import shutil
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from serving.errors import Code, ServingError
from serving.server import Server, ServerOptions
from serving.versions import ServedModel, State, find_versions


class FakeModel:
    def __init__(self, path: Path) -> None:
        if (path / "broken").exists():
            raise ServingError(Code.DATA_LOSS, "broken on purpose")
        self.path = path
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "1").mkdir()
    return tmp_path


@pytest.fixture
def model(base: Path) -> ServedModel:
    return ServedModel("m", base, FakeModel, max_num_load_retries=2, load_retry_interval=0.0)


def states(model: ServedModel) -> dict[int, State]:
    return {status.version: status.state for status in model.statuses()}


def test_what_is_a_version(tmp_path: Path) -> None:
    for name in ("1", "00000123", "-4", "x7", "7x", ".writing-9", "٣", "9" * 30, "2.0"):
        (tmp_path / name).mkdir()
    (tmp_path / "55").write_text("a file")
    assert {version: path.name for version, path in find_versions(tmp_path).items()} == {1: "1", 123: "00000123"}


def test_the_same_version_twice_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "007").mkdir()
    assert find_versions(tmp_path)[7].name == "007"
    assert "same version" in caplog.text


def test_a_newer_version_replaces_the_served_one(model: ServedModel, base: Path) -> None:
    assert model.load_first() == 1
    with model.handle() as (version, first):
        (base / "10").mkdir()
        model.poll()
        assert states(model) == {10: State.AVAILABLE, 1: State.UNLOADING}
        with model.handle() as (newer, _):
            assert newer == 10
        assert (version, first.closed) == (1, 0)
    assert first.closed == 1
    assert states(model) == {10: State.AVAILABLE, 1: State.END}
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(m, 1\)"), model.handle(1):
        pass


def test_removing_the_newest_version_goes_back(model: ServedModel, base: Path) -> None:
    (base / "2").mkdir()
    assert model.load_first() == 2
    (base / "2").rmdir()
    model.poll()
    assert states(model) == {2: State.END, 1: State.AVAILABLE}
    (base / "2").mkdir()
    model.poll()
    assert states(model) == {2: State.AVAILABLE, 1: State.END}


def test_a_missing_or_empty_folder_keeps_what_is_loaded(model: ServedModel, base: Path) -> None:
    model.load_first()
    (base / "1").rmdir()
    model.poll()
    shutil.rmtree(base)
    model.poll()
    assert states(model) == {1: State.AVAILABLE}


def test_a_broken_version_is_tried_again_and_the_old_one_stays(
    model: ServedModel, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model.load_first()
    (base / "2").mkdir()
    (base / "2" / "broken").touch()
    for _ in range(6):
        model.poll()
    assert states(model) == {2: State.END, 1: State.AVAILABLE}
    assert caplog.text.count("DATA_LOSS: broken on purpose") == 3  # once, and two retries
    assert caplog.text.count("not trying again") == 1
    error = model.statuses()[0].error
    assert error is not None
    assert error.code is Code.DATA_LOSS
    (base / "3").mkdir()
    model.poll()
    assert states(model) == {3: State.AVAILABLE, 2: State.END, 1: State.END}


def test_a_version_that_was_half_written_is_served_once_it_is_whole(model: ServedModel, base: Path) -> None:
    model.load_first()
    (base / "2").mkdir()
    (base / "2" / "broken").touch()
    model.poll()
    (base / "2" / "broken").unlink()
    model.poll()
    assert states(model) == {2: State.AVAILABLE, 1: State.END}


def test_a_retry_waits(base: Path) -> None:
    (base / "1" / "broken").touch()
    model = ServedModel("m", base, FakeModel, load_retry_interval=60.0)
    with pytest.raises(ServingError, match="version 1 of model 'm' cannot be loaded: broken on purpose"):
        model.load_first()
    (base / "1" / "broken").unlink()
    model.poll()
    assert states(model) == {1: State.END}


def test_closing_waits_for_the_last_handle(model: ServedModel) -> None:
    model.load_first()
    with model.handle() as (_, held):
        model.close()
        assert held.closed == 0
        with pytest.raises(ServingError, match=r"Latest\(m\)"), model.handle():
            pass
    assert held.closed == 1
    model.close()


def test_hot_swap_under_load(publish, tmp_path: Path) -> None:
    publish("one", 1)
    options = ServerOptions(
        model_base_path=tmp_path / "model", model_name="m", rest_api_port=0, file_system_poll_wait_seconds=0.02
    )
    body = json.dumps({"inputs": [[[1.0, 2.0, 3.0]] * 20] * 4}).encode()
    labels: list[list[str]] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def load(url: str) -> None:
        while not stop.is_set():
            try:
                with urlopen(Request(f"{url}/v1/models/m:predict", body), timeout=10) as answer:
                    labels.append(json.loads(answer.read())["outputs"]["label"])
            except Exception as error:
                failures.append(error)

    def wait_for(server: Server, version: int) -> None:
        deadline = time.monotonic() + 10
        while states(server.model).get(version) is not State.AVAILABLE:
            assert time.monotonic() < deadline, f"version {version} did not come"
            time.sleep(0.01)
        time.sleep(0.1)

    with Server(options) as server:
        threads = [threading.Thread(target=load, args=(server.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(server, 1)
        for version, name in ((2, "two"), (3, "one"), (4, "two")):
            publish(name, version)
            wait_for(server, version)
        (tmp_path / "model" / "5").mkdir()
        time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join()
        final = states(server.model)
    assert not failures
    assert final == {5: State.END, 4: State.AVAILABLE, 3: State.END, 2: State.END, 1: State.END}
    # Every answer is of one version, and all versions answered.
    assert {tuple(answer) for answer in labels} == {("class_b",) * 4, ("new_b",) * 4}
