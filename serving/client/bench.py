"""Load on a server, and how long its answers take."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from serving.client.base import Client
from serving.client.errors import DeadlineExceeded, ServerError, Unreachable
from serving.client.messages import Request
from serving.runtime.model import Array, Signature

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
# A request that leaves this much after its time is late, and says that the load was not what was asked for.
LATE = 1e-3  # s


@dataclass(frozen=True)
class Load:
    """The load to put on a server.

    Attributes:
        rate: Requests a second at random moments (Poisson), sent whether earlier ones are answered or not; None for a
            closed loop, in which each of `clients` sends the next when it has the last answer.
        clients: Threads that send. In an open loop they bound how many requests can wait for an answer at once.
        seconds: How long requests are counted.
        warmup: Seconds before that, in which they are sent and not counted.
        timeout: Seconds after which a request has failed.
        seed: The seed of the random moments.
    """

    rate: float | None = None
    clients: int = 1
    seconds: float = 10.0
    warmup: float = 2.0
    timeout: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class Sample:
    """One request; times in seconds since the beginning.

    Attributes:
        scheduled: When it was to be sent.
        sent: When it was sent.
        done: When its answer arrived.
        error: The code of what went wrong; empty for an answer.
        waited: Whether all threads were busy at its time.
    """

    scheduled: float
    sent: float
    done: float
    error: str
    waited: bool


@dataclass
class Progress:
    """Progress of a run; its threads write, anyone may read."""

    sent: int = 0
    failed: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Report:
    """What a run measured; times in seconds, from the scheduled moment to the answer.

    Attributes:
        latencies: Of every request that was answered, sorted.
        elapsed: From the end of the warm-up to the last answer.
        errors: How many requests failed, by code.
        late: Share of the requests that left more than `LATE` after their time.
        latest: The longest that a request left after its time.
        late_for_threads: Share of those late ones at whose time all threads were waiting for answers.
    """

    latencies: npt.NDArray[np.float64]
    elapsed: float
    errors: Mapping[str, int]
    late: float
    latest: float
    late_for_threads: float

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return len(self.latencies)

    def percentile(self, percent: float) -> float:
        """The latency that `percent` percent of the answers did not exceed; NaN without answers.

        Example:
        >>> Report(np.array([1.0, 2.0, 9.0]), 1.0, {}, 0.0, 0.0, 0.0).percentile(50)
        2.0
        """
        return float(np.percentile(self.latencies, percent)) if self.answered else float("nan")


def arrivals(rate: float, seconds: float, seed: int) -> npt.NDArray[np.float64]:
    """Random moments in [0, seconds), `rate` a second on average (a Poisson process), in order.

    Example:
    >>> moments = arrivals(100.0, 2.0, seed=0)
    >>> 150 < len(moments) < 250, bool((np.diff(moments) > 0).all()), float(moments[-1]) < 2.0
    (True, True, True)
    """
    rng = np.random.default_rng(seed)
    count = int(rate * seconds + 10 * np.sqrt(rate * seconds) + 10)
    moments = np.cumsum(rng.exponential(1 / rate, count))
    return moments[moments < seconds]


def random_inputs(signature: Signature, batch: int, steps: int, rng: np.random.Generator) -> dict[str, Array]:
    """Arrays that a signature takes: the first free dimension is the batch, the others are steps.

    `features`, or all floats where there are none: normal numbers. Other floats, which are states: zeros. Integers,
    which are lengths: `steps`. Strings: `steps` letters.

    Raises:
        ValueError: No such array exists for the shape or type of an input.
    """
    inputs: dict[str, Array] = {}
    for name, spec in signature.inputs.items():
        if spec.shape is None or spec.dtype.numpy is None:
            raise ValueError(f"the input {name!r} has no known shape or type; send recorded requests with --golden")
        free = itertools.chain([batch], itertools.repeat(steps))
        shape = tuple(next(free) if size is None else size for size in spec.shape)
        kind = spec.dtype.numpy.kind
        if kind == "f" and (name == "features" or "features" not in signature.inputs):
            inputs[name] = rng.normal(size=shape).astype(spec.dtype.numpy)
        elif kind == "f":
            inputs[name] = np.zeros(shape, spec.dtype.numpy)
        elif kind in "iu":
            inputs[name] = np.full(shape, steps, spec.dtype.numpy)
        elif kind == "O":
            letters = rng.integers(ord("a"), ord("z") + 1, size=(*shape, steps), dtype=np.uint8)
            inputs[name] = letters.view(f"S{steps}")[..., 0].astype(object)
        else:
            raise ValueError(f"the input {name!r} is of type {spec.dtype.name}; send recorded requests with --golden")
    return inputs


def run(client: Client, requests: Sequence[Request], load: Load, progress: Progress | None = None) -> Report:
    """Put a load on a server and wait for its last answer.

    Args:
        client: Without retries: a request that fails is counted as such.
        requests: Sent in turn.
        load: How many, how fast, how long.
        progress: Where the run says how far it is; setting its `stop` ends the run.
    """
    progress = progress or Progress()
    end = load.warmup + load.seconds
    moments = None if load.rate is None else arrivals(load.rate, end, load.seed)
    numbers = itertools.count()
    started = time.perf_counter()
    collected: list[list[Sample]] = [[] for _ in range(load.clients)]

    def now() -> float:
        return time.perf_counter() - started

    def work(samples: list[Sample]) -> None:
        while not progress.stop.is_set():
            number = next(numbers)  # atomic: itertools.count is in C
            ready = now()
            if moments is None:
                scheduled = ready
                if scheduled >= end:
                    return
            else:
                if number >= len(moments):
                    return
                scheduled = float(moments[number])
                if scheduled > ready and progress.stop.wait(scheduled - ready):
                    return
            sent = now()
            error = _send(client, requests[number % len(requests)], load.timeout)
            samples.append(Sample(scheduled, sent, now(), error, waited=ready > scheduled))
            progress.sent += 1
            progress.failed += bool(error)

    threads = [threading.Thread(target=work, args=(samples,), daemon=True) for samples in collected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return summary([sample for samples in collected for sample in samples], load.warmup)


def _send(client: Client, request: Request, timeout: float) -> str:
    try:
        client.send(request, timeout=timeout)
    except ServerError as error:
        return error.name
    except DeadlineExceeded:
        return "DEADLINE_EXCEEDED"
    except Unreachable:
        return "no connection"
    return ""


def summary(samples: Sequence[Sample], warmup: float) -> Report:
    """The report on the requests after the warm-up."""
    counted = [sample for sample in samples if sample.scheduled >= warmup]
    late = [sample for sample in counted if sample.sent - sample.scheduled > LATE]
    return Report(
        latencies=np.sort([sample.done - sample.scheduled for sample in counted if not sample.error]),
        elapsed=max((sample.done for sample in counted), default=warmup) - warmup,
        errors=dict(Counter(sample.error for sample in counted if sample.error).most_common()),
        late=len(late) / max(len(counted), 1),
        latest=max((sample.sent - sample.scheduled for sample in counted), default=0.0),
        late_for_threads=sum(sample.waited for sample in late) / max(len(late), 1),
    )


def histogram(latencies: npt.NDArray[np.float64], rows: int = 12, width: int = 40) -> list[str]:
    """Lines with a bar for each range of latencies, in steps of equal ratio.

    Example:
    >>> for line in histogram(np.array([0.001, 0.002, 0.002]), rows=2, width=4):
    ...     print(line)
       1.00 -    1.41 ms  ##  1
       1.41 -    2.00 ms  ####  2
    """
    if len(latencies) == 0:
        return []
    low, high = latencies.min(), max(latencies.max(), latencies.min() * 1.01)
    edges = np.geomspace(low, high, rows + 1)
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(latencies, edges)
    return [
        f"{1e3 * left:7.2f} - {1e3 * right:7.2f} ms  {'#' * round(width * count / counts.max())}  {count}"
        for left, right, count in zip(edges, edges[1:], counts.tolist(), strict=False)
    ]


def requests_a_batch(before: str, after: str) -> float | None:
    """How many requests a server put into one run, on average, between two readings of its metrics; None if unknown."""
    runs = _difference(":tensorflow:serving:batching_session:wrapped_run_count", before, after)
    requests = _difference(":tensorflow:serving:batching_session:queuing_latency_count", before, after)
    return requests / runs if runs else None


def _difference(name: str, before: str, after: str) -> float:
    return _total(name, after) - _total(name, before)


def _total(name: str, text: str) -> float:
    lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def metrics_of(url: str, timeout: float = 5.0) -> str:
    """A server's metrics as text; empty where it has none."""
    import urllib.request

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=timeout) as answer:
            text: str = answer.read().decode()
            return text
    except (OSError, ValueError):  # urllib's own errors are OSErrors
        return ""
