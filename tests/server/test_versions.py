"""Which versions of one model are served: policies, swaps, broken versions, handles."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from waiting import PATIENCE, until

from serving.errors import Code, ServingError
from serving.models.model_config import ModelConfig, VersionPolicy
from serving.models.versions import Retries, ServedModel, State, VersionStatus
from serving.release.version_folders import find_versions
from serving.server import Server, ServerOptions


class FakeModel:
    def __init__(self, path: Path) -> None:
        if (path / "broken").exists():
            raise ServingError(Code.DATA_LOSS, "broken on purpose")
        if (path / "odd").exists():
            raise ValueError("a fault of the loader")
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
    return served(base)


def served(base: Path, policy: VersionPolicy | None = None, interval: float = 0.0) -> ServedModel:
    model = ServedModel("m", FakeModel, Retries(2, interval))
    model.configure(ModelConfig("m", base, policy or VersionPolicy()))
    return model


def states(statuses: list[VersionStatus]) -> dict[int, State]:
    return {status.version: status.state for status in statuses}


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
    model.poll()
    with model.handle() as (version, first):
        (base / "10").mkdir()
        model.poll()
        assert states(model.statuses()) == {10: State.AVAILABLE, 1: State.UNLOADING}
        with model.handle() as (newer, _):
            assert newer == 10
        assert (version, first.closed) == (1, 0)
    assert first.closed == 1
    assert states(model.statuses()) == {10: State.AVAILABLE, 1: State.END}
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(m, 1\)"), model.handle(1):
        pass


def test_removing_the_newest_version_goes_back(model: ServedModel, base: Path) -> None:
    (base / "2").mkdir()
    model.poll()
    (base / "2").rmdir()
    model.poll()
    assert states(model.statuses()) == {2: State.END, 1: State.AVAILABLE}
    (base / "2").mkdir()
    model.poll()
    assert states(model.statuses()) == {2: State.AVAILABLE, 1: State.END}


def test_a_missing_folder_keeps_what_is_loaded_and_an_empty_one_frees_it(model: ServedModel, base: Path) -> None:
    model.poll()
    base.rename(base.with_name("away"))
    model.poll()
    assert states(model.statuses()) == {1: State.AVAILABLE}
    base.mkdir()
    model.poll()
    assert states(model.statuses()) == {1: State.END}
    with pytest.raises(ServingError, match=r"Latest\(m\)"), model.handle():
        pass


def test_a_broken_version_is_tried_again_and_the_old_one_stays(
    model: ServedModel, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model.poll()
    (base / "2").mkdir()
    (base / "2" / "broken").touch()
    for _ in range(6):
        model.poll()
    assert states(model.statuses()) == {2: State.END, 1: State.AVAILABLE}
    assert caplog.text.count("DATA_LOSS: broken on purpose") == 3  # once, and two retries
    assert caplog.text.count("not trying again") == 1
    error = model.statuses()[0].error
    assert error is not None
    assert error.code is Code.DATA_LOSS
    (base / "3").mkdir()
    model.poll()
    assert states(model.statuses()) == {3: State.AVAILABLE, 2: State.END, 1: State.END}


def test_a_version_that_was_half_written_is_served_once_it_is_whole(model: ServedModel, base: Path) -> None:
    model.poll()
    (base / "2").mkdir()
    (base / "2" / "broken").touch()
    model.poll()
    (base / "2" / "broken").unlink()
    model.poll()
    assert states(model.statuses()) == {2: State.AVAILABLE, 1: State.END}


def test_a_retry_waits_and_a_version_put_anew_does_not(base: Path) -> None:
    (base / "1" / "broken").touch()
    model = served(base, interval=60.0)
    model.poll()
    (base / "1" / "broken").unlink()
    model.poll()
    assert states(model.statuses()) == {1: State.END}
    (base / "1").rename(base / "new")
    model.poll()
    (base / "new").rename(base / "1")
    model.poll()
    assert states(model.statuses()) == {1: State.AVAILABLE}


def test_a_fault_of_the_loader_is_a_failed_load(model: ServedModel, base: Path) -> None:
    (base / "1" / "odd").touch()
    model.poll()
    (status,) = model.statuses()
    assert status.state is State.END
    assert status.error is not None
    assert status.error.described == "INTERNAL: loading failed: ValueError('a fault of the loader')"


def test_closing_waits_for_the_last_handle(model: ServedModel) -> None:
    model.poll()
    with model.handle() as (_, held):
        model.configure(None)
        assert held.closed == 0
        with pytest.raises(ServingError, match=r"Latest\(m\)"), model.handle():
            pass
    assert held.closed == 1
    model.configure(None)
    model.poll()
    assert states(model.statuses()) == {1: State.END}


@pytest.mark.parametrize(
    ("policy", "served_first", "served_then"),
    [
        (VersionPolicy("latest", 2), {2, 3}, {3, 4}),
        (VersionPolicy("all"), {1, 2, 3}, {1, 2, 3, 4}),
        (VersionPolicy("specific", versions=frozenset({1, 4, 9})), {1}, {1, 4}),
    ],
)
def test_policies(base: Path, policy: VersionPolicy, served_first: set[int], served_then: set[int]) -> None:
    for version in (2, 3):
        (base / str(version)).mkdir()
    model = served(base, policy)

    def available() -> set[int]:
        return {version for version, state in states(model.statuses()).items() if state is State.AVAILABLE}

    model.poll()
    assert available() == served_first
    (base / "4").mkdir()
    model.poll()
    assert available() == served_then
    with model.handle() as (latest, _), model.handle(min(served_then)) as (oldest, _):
        assert (latest, oldest) == (4 if 4 in served_then else max(served_then), min(served_then))


def test_the_last_version_stays_until_another_is_there(base: Path) -> None:
    (base / "2").mkdir()
    model = served(base, VersionPolicy("latest", 2))
    model.poll()
    (base / "3" / "broken").mkdir(parents=True)
    model.configure(ModelConfig("m", base, VersionPolicy("specific", versions=frozenset({3}))))
    model.poll()
    # Both are unwanted; the newer one goes on until 3 can take over.
    assert states(model.statuses()) == {3: State.END, 2: State.AVAILABLE, 1: State.END}
    (base / "3" / "broken").rmdir()
    model.poll()
    assert states(model.statuses()) == {3: State.AVAILABLE, 2: State.END, 1: State.END}


def test_another_base_path_keeps_the_numbers_that_are_loaded(model: ServedModel, base: Path) -> None:
    model.poll()
    for version in ("1", "2"):
        (base / "other" / version).mkdir(parents=True)
    model.configure(ModelConfig("m", base / "other", VersionPolicy("all")))
    model.poll()
    with model.handle(1) as (_, first), model.handle(2) as (_, second):
        assert (first.path, second.path) == (base / "1", base / "other" / "2")


def test_loads_in_the_background(base: Path) -> None:
    (base / "2").mkdir()
    gate = threading.Event()

    def load(path: Path) -> FakeModel:
        assert gate.wait(10)
        return FakeModel(path)

    model = ServedModel("m", load)
    model.configure(ModelConfig("m", base, VersionPolicy("all")))
    with ThreadPoolExecutor(1) as pool:
        loads = model.poll(pool)
        assert len(loads) == 2
        # What is under way is not begun again, and what is not wanted any more is not begun at all.
        assert model.poll(pool) == []
        assert states(model.statuses())[1] is State.START
        (base / "1").rmdir()
        model.poll(pool)
        gate.set()
    assert states(model.statuses()) == {2: State.AVAILABLE, 1: State.END}


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
                with urlopen(Request(f"{url}/v1/models/m:predict", body), timeout=PATIENCE) as answer:
                    labels.append(json.loads(answer.read())["outputs"]["label"])
            except Exception as error:
                failures.append(error)

    def wait_for(server: Server, version: int, state: State) -> None:
        until(lambda: states(server.manager.statuses("m")).get(version) is state, f"version {version}, {state}")

    def wait_for_answers(label: str) -> None:
        """Until a request that was sent from now on has been answered by the version with this label."""
        seen = len(labels)
        until(lambda: label in [answer[0] for answer in labels[seen:]] or failures, label)

    with Server(options) as server:
        threads = [threading.Thread(target=load, args=(server.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(server, 1, State.AVAILABLE)
        wait_for_answers("class_b")
        for version, name, label in ((2, "two", "new_b"), (3, "one", "class_b"), (4, "two", "new_b")):
            publish(name, version)
            wait_for(server, version, State.AVAILABLE)
            wait_for_answers(label)
        (tmp_path / "model" / "5").mkdir()
        wait_for(server, 5, State.END)
        stop.set()
        for thread in threads:
            thread.join()
        for version in (1, 2, 3):
            wait_for(server, version, State.END)
        with server.manager.handle("m") as (version, _):
            assert version == 4
    assert not failures
    # Every answer is of one version, and all versions answered.
    assert {tuple(answer) for answer in labels} == {("class_b",) * 4, ("new_b",) * 4}
