"""Counters, gauges and histograms under TensorFlow Serving's names, as the text that Prometheus reads."""

import bisect
import itertools
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

# The media type of `Metrics.text`.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Microseconds from 10 to 1.5e9, as TensorFlow Serving's own latencies.
_LATENCY = (10.0, 1.8, 33)
_QUEUING = (100.0, 1.2, 52)
_EXAMPLES = (1.0, 2.0, 15)
# First bound, factor to the next, number of bounds.
_BUCKETS: dict[str, tuple[float, float, int]] = {
    ":tensorflow:serving:request_example_counts": _EXAMPLES,
    ":tensorflow:serving:batching_session:queuing_latency": _QUEUING,
}

Labels = tuple[tuple[str, str], ...]


@dataclass
class _Histogram:
    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)


class Metrics:
    """The metrics of one server. Every method may be called from any thread, and takes a few microseconds.

    Example:
    >>> metrics = Metrics()
    >>> metrics.count(":tensorflow:serving:request_count", model_name="digits", status="OK")
    >>> print(metrics.text(), end="")
    # TYPE :tensorflow:serving:request_count counter
    :tensorflow:serving:request_count{model_name="digits",status="OK"} 1
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, float]] = {}
        self._gauges: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = tuple(labels.items())
        with self._lock:
            series = self._counters.setdefault(name, {})
            series[key] = series.get(key, 0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._gauges.setdefault(name, {})[tuple(labels.items())] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Put one value into a histogram; a name that is not known here counts microseconds."""
        key = tuple(labels.items())
        with self._lock:
            series = self._histograms.setdefault(name, {})
            histogram = series.get(key)
            if histogram is None:
                histogram = series[key] = _Histogram(_bounds(name))
            histogram.counts[bisect.bisect_left(histogram.bounds, value)] += 1
            histogram.total += value

    def text(self) -> str:
        """All metrics in Prometheus's text format, sorted by name."""
        with self._lock:
            written = {name: _plain(name, "counter", series) for name, series in self._counters.items()}
            written |= {name: _plain(name, "gauge", series) for name, series in self._gauges.items()}
            written |= {name: _histogram(name, series) for name, series in self._histograms.items()}
        return "".join(f"{line}\n" for name in sorted(written) for line in written[name])


def _bounds(name: str) -> tuple[float, ...]:
    first, factor, number = _BUCKETS.get(name, _LATENCY)
    return tuple(first * factor**power for power in range(number))


def _plain(name: str, kind: str, series: Mapping[Labels, float]) -> list[str]:
    return [f"# TYPE {name} {kind}", *(f"{name}{_braces(key)} {_number(series[key])}" for key in sorted(series))]


def _histogram(name: str, series: Mapping[Labels, _Histogram]) -> list[str]:
    lines = [f"# TYPE {name} histogram"]
    for key in sorted(series):
        histogram = series[key]
        running = list(itertools.accumulate(histogram.counts))
        lines += [
            f"{name}_bucket{_braces((*key, ('le', _bound(bound))))} {count}"
            for bound, count in zip((*histogram.bounds, math.inf), running, strict=True)
        ]
        lines += [f"{name}_sum{_braces(key)} {_number(histogram.total)}", f"{name}_count{_braces(key)} {running[-1]}"]
    return lines


def _bound(value: float) -> str:
    # A label: the digits that TensorFlow Serving writes, so that both have the same series.
    return "+Inf" if math.isinf(value) else f"{value:g}"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value) or math.isnan(value):
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}[str(float(value))]
    return str(int(value)) if value == int(value) else repr(float(value))
