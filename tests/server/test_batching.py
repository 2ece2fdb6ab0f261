"""Batches: what runs together, what comes back to whom, and what is refused."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from waiting import PATIENCE, until

from serving.batching.batched_model import BatchedModel
from serving.batching.parameters import BatchingParameters, per_model_parameters, read_batching_parameters
from serving.batching.scheduler import BatchScheduler
from serving.errors import Code, ServingError
from serving.metrics import Metrics
from serving.runtime.data_types import data_type
from serving.runtime.model import Signature, TensorSpec

FLOAT = data_type(1)
STRING = data_type(7)
SECOND = 1_000_000


def spec(dtype: Any = FLOAT) -> TensorSpec:
    return TensorSpec("t:0", dtype, None)


class FakeModel:
    """Doubles `x`, and writes down the sizes of what it runs; with a gate it waits for it first."""

    signature_def_map: ClassVar[dict[str, Any]] = {}
    signatures: ClassVar[dict[str, Signature]] = {
        "double": Signature({"x": spec()}, {"y": spec(), "rows": spec()}),
        "two": Signature({"a": spec(), "s": spec(STRING)}, {"s": spec(STRING)}),
        "scalar": Signature({"x": spec()}, {"y": spec()}),
        "short": Signature({"x": spec()}, {"y": spec()}),
        "none": Signature({}, {"y": spec()}),
    }

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.timeouts: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.is_closed = False

    def run(self, name: str, feeds: Any, wanted: Sequence[str] | None = None, *, timeout_in_ms: int = 0) -> Any:
        first = next(iter(feeds.values()))
        self.runs.append(len(first))
        self.timeouts.append(timeout_in_ms)
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        if name == "two":
            return {"s": feeds["s"]}
        if name == "scalar":
            return {"y": np.float32(1) * first.sum()}
        if name == "short":
            return {"y": first[:-1]}
        outputs = {"y": 2 * first, "rows": np.arange(len(first), dtype="float32")}
        return {alias: outputs[alias] for alias in wanted or outputs}

    def close(self) -> None:
        self.is_closed = True


Make = Callable[..., BatchedModel]


@pytest.fixture
def fake() -> FakeModel:
    return FakeModel()


@pytest.fixture
def make(fake: FakeModel) -> Iterator[Make]:
    schedulers: list[BatchScheduler] = []

    def made(threads: int = 1, metrics: Metrics | None = None, **parameters: Any) -> BatchedModel:
        schedulers.append(BatchScheduler(threads, "test"))
        return BatchedModel(fake, BatchingParameters(**parameters), schedulers[-1], metrics)

    yield made
    fake.gate.set()
    for scheduler in schedulers:
        scheduler.close()


def rows(*values: float, width: int = 2) -> np.ndarray:
    return np.repeat(np.array(values, "float32")[:, None], width, axis=1)


class Callers:
    """Calls from threads of their own, and what each got."""

    def __init__(self, model: BatchedModel) -> None:
        self.model = model
        self.got: dict[int, Any] = {}
        self.threads: list[threading.Thread] = []

    def call(self, feeds: dict[str, np.ndarray], name: str = "double", **more: Any) -> None:
        number = len(self.threads)

        def run() -> None:
            try:
                self.got[number] = self.model.run(name, feeds, **more)
            except ServingError as error:
                self.got[number] = error

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def wait(self) -> list[Any]:
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        return [self.got[number] for number in range(len(self.threads))]


def busy(model: BatchedModel, fake: FakeModel) -> Callers:
    """Callers whose first call keeps the only thread busy until the gate opens, so that what follows waits."""
    fake.gate.clear()
    callers = Callers(model)
    callers.call({"x": rows(9, width=7)})
    until(lambda: len(fake.runs) == 1)
    return callers


def enqueued(model: BatchedModel) -> int:
    return sum(len(batch.tasks) for queue in model._queues.values() for batch in queue.open.values())


def test_requests_that_wait_run_together_and_get_their_own_rows(make: Make, fake: FakeModel) -> None:
    model = make(max_batch_size=8)
    callers = busy(model, fake)
    for number, feeds in enumerate((rows(1), rows(2, 3), rows(4)), start=1):
        callers.call({"x": feeds})
        until(lambda: enqueued(model) == number)  # noqa: B023
    fake.gate.set()
    answers = callers.wait()[1:]
    assert fake.runs == [1, 4]
    assert [answer["y"][:, 0].tolist() for answer in answers] == [[2], [4, 6], [8]]
    assert [answer["rows"].tolist() for answer in answers] == [[0], [1, 2], [3]]


def test_a_full_batch_does_not_wait_for_its_time(make: Make, fake: FakeModel) -> None:
    model = make(max_batch_size=2, batch_timeout_micros=60 * SECOND)
    callers = Callers(model)
    callers.call({"x": rows(1)})
    callers.call({"x": rows(2)})
    assert [answer["y"].tolist() for answer in callers.wait()] == [[[2, 2]], [[4, 4]]]
    assert fake.runs == [2]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_that_is_not_full_runs_when_its_time_has_come(make: Make, fake: FakeModel, threads: int) -> None:
    model = make(threads, max_batch_size=100, batch_timeout_micros=30_000)
    started = time.monotonic()
    assert model.run("double", {"x": rows(1)})["y"].tolist() == [[2, 2]]
    assert time.monotonic() - started >= 0.03


def test_what_differs_does_not_mix(make: Make, fake: FakeModel) -> None:
    model = make(max_batch_size=8)
    callers = busy(model, fake)
    callers.call({"x": rows(1)})
    callers.call({"x": rows(2, width=3)})
    callers.call({"x": rows(3)}, output_filter=["y"])
    until(lambda: enqueued(model) == 3)
    fake.gate.set()
    answers = callers.wait()[1:]
    assert fake.runs == [1, 1, 1, 1]
    assert [sorted(answer) for answer in answers] == [["rows", "y"], ["rows", "y"], ["y"]]


def test_batches_are_filled_up_to_allowed_sizes(make: Make, fake: FakeModel) -> None:
    model = make(max_batch_size=8, allowed_batch_sizes=(4, 8))
    assert model.run("double", {"x": rows(1, 2, 3)})["y"][:, 0].tolist() == [2, 4, 6]
    texts = np.array([b"a", b"long " * 9], object)
    answer = model.run("two", {"a": rows(1, 2), "s": texts})
    assert answer["s"].tolist() == texts.tolist()
    assert fake.runs == [4, 4]


def test_large_requests_are_split_if_that_is_enabled(make: Make, fake: FakeModel) -> None:
    model = make(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=4)
    callers = busy(model, fake)
    callers.call({"x": rows(1)})
    until(lambda: enqueued(model) == 1)
    # It first fills the batch that is open.
    callers.call({"x": rows(*range(10))})
    until(lambda: enqueued(model) == 1 and next(iter(model._queues.values())).enqueued == 3)
    fake.gate.set()
    answers = callers.wait()
    assert fake.runs == [1, 4, 4, 3]
    assert answers[2]["y"][:, 0].tolist() == [2 * value for value in range(10)]
    assert answers[2]["rows"].tolist() == [1, 2, 3, 0, 1, 2, 3, 0, 1, 2]


@pytest.mark.parametrize("splits", [False, True])
def test_requests_that_are_too_large(make: Make, splits: bool) -> None:
    model = make(max_batch_size=2, enable_large_batch_splitting=splits)
    with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2") as caught:
        model.run("double", {"x": rows(1, 2, 3)})
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (False, "is full; currently 1 batches enqueued and max_enqueued_batches is 1"),
        (
            True,
            r"is full; task size is 2 but scheduling capacity is only 1 \(num_enqueued_batches=1, .*open_batch_size=1",
        ),
    ],
)
def test_a_queue_that_is_full(make: Make, fake: FakeModel, splits: bool, words: str) -> None:
    model = make(max_batch_size=2, max_enqueued_batches=1, enable_large_batch_splitting=splits)
    callers = busy(model, fake)
    callers.call({"x": rows(1)})
    until(lambda: enqueued(model) == 1)
    with pytest.raises(ServingError, match=words) as caught:
        model.run("double", {"x": rows(2, 3)})
    assert caught.value.code is Code.UNAVAILABLE
    fake.gate.set()
    callers.wait()
    assert model.run("double", {"x": rows(2, 3)})["y"].shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "feeds", "code", "words"),
    [
        ("two", {"a": rows(1), "s": np.array([b"", b""], object)}, Code.INVALID_ARGUMENT, "equal 0th-dimension size"),
        ("double", {"x": np.float32(1)}, Code.INVALID_ARGUMENT, "must have at least one dimension"),
        ("none", {}, Code.INVALID_ARGUMENT, "at least one input tensor"),
        ("double", {"z": rows(1)}, Code.INVALID_ARGUMENT, "Missing but required: {x}"),
        ("scalar", {"x": rows(1)}, Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions"),
        ("short", {"x": rows(1)}, Code.FAILED_PRECONDITION, "does not equal the sum of the 0th dimension sizes"),
    ],
)
def test_what_cannot_be_batched(make: Make, name: str, feeds: Any, code: Code, words: str) -> None:
    feeds = {alias: np.asarray(array) for alias, array in feeds.items()}
    with pytest.raises(ServingError, match=words) as caught:
        make().run(name, feeds)
    assert caught.value.code is code


def test_no_rows_run_by_themselves(make: Make, fake: FakeModel) -> None:
    assert make().run("double", {"x": rows()})["y"].shape == (0, 2)
    assert fake.runs == [0]


def test_an_error_reaches_every_caller_of_the_batch(
    make: Make, fake: FakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    model = make()
    callers = busy(model, fake)
    callers.call({"x": rows(1)})
    callers.call({"x": rows(2)})
    until(lambda: enqueued(model) == 2)
    fake.error = ServingError(Code.INVALID_ARGUMENT, "on purpose")
    fake.gate.set()
    errors = callers.wait()
    assert [(error.code, error.message) for error in errors] == [(Code.INVALID_ARGUMENT, "on purpose")] * 3
    assert errors[1] is not errors[2]
    fake.error = ValueError("a fault")
    with pytest.raises(ServingError, match="running a batch failed: ValueError"):
        model.run("double", {"x": rows(1)})
    assert "ValueError: a fault" in caplog.text


def test_every_caller_waits_as_long_as_it_wants(make: Make, fake: FakeModel) -> None:
    model = make()
    callers = busy(model, fake)
    callers.call({"x": rows(1)}, timeout_in_ms=20)
    callers.call({"x": rows(2)}, timeout_in_ms=60_000)
    until(lambda: isinstance(callers.got.get(1), ServingError))
    assert callers.got[1].described == ("RESOURCE_EXHAUSTED: Run() timeout exceeded while waiting in batching queue")
    fake.gate.set()
    assert callers.wait()[2]["y"].tolist() == [[4, 4]]
    # The request that was given up did not run, and the run had the time of the longest that did.
    assert fake.runs == [1, 1]
    assert 50_000 < fake.timeouts[1] <= 60_000
    fake.gate.clear()
    with pytest.raises(ServingError, match="Timed out") as caught:
        model.run("double", {"x": rows(1)}, timeout_in_ms=50)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    # Closing waits for the run that nobody waits for any more.
    closing = threading.Thread(target=model.close)
    closing.start()
    assert not fake.is_closed
    fake.gate.set()
    closing.join(10)
    assert fake.is_closed


def test_many_callers_get_their_own_answers(make: Make, fake: FakeModel) -> None:
    metrics = Metrics()
    model = make(3, metrics, max_batch_size=16, batch_timeout_micros=200, max_enqueued_batches=1000)
    wrong: list[Any] = []

    def ask(number: int) -> None:
        for turn in range(100):
            value = 1000 * number + turn
            width = 1 + turn % 3
            answer = model.run("double", {"x": rows(value, value, width=width)})["y"]
            if answer.tolist() != [[2 * value] * width] * 2:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not wrong
    assert sum(fake.runs) == 2400
    assert len(fake.runs) < 1200
    counted = (
        ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name="model_server_batch_threads"} 1200'
    )
    assert counted in metrics.text()
    assert f":tensorflow:serving:batching_session:wrapped_run_count {len(fake.runs)}" in metrics.text()


def test_parameters_are_read(tmp_path: Path) -> None:
    path = tmp_path / "batching_params.pbtxt"
    path.write_text(
        "max_batch_size { value: 32 } batch_timeout_micros { value: 0 } max_enqueued_batches { value: 0 }"
        "num_batch_threads { value: 3 } allowed_batch_sizes: 8 allowed_batch_sizes: 32 "
        "thread_pool_name { value: 'pool' }"
    )
    expected = BatchingParameters(32, 0, 1, 3, "pool", (8, 32))
    assert read_batching_parameters(path) == expected
    common = BatchingParameters(num_batch_threads=2, thread_pool_name="shared")
    assert per_model_parameters(tmp_path, common) == BatchingParameters(32, 0, 1, 2, "shared", (8, 32))
    assert per_model_parameters(tmp_path / "none", common) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size: 3", "Invalid protobuf file: '.*params'"),
        ("allowed_batch_sizes: 8", "must match max_batch_size; last entry was 8; expected 1000"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [9, 8]", "monotonically increasing"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "must be non-negative; was -1"),
        ("enable_large_batch_splitting { value: true } max_enqueued_batches { value: 0 }", "must be positive; was 0"),
        ("enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2000 }", "1000 and 2000"),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs, which fills up"),
    ],
)
def test_parameters_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "params").write_text(text)
    with pytest.raises(ServingError, match=words):
        read_batching_parameters(tmp_path / "params")
