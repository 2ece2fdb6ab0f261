"""What recording a run costs it: the same training with and without it, in turns, in one process.

    python benchmarks/tracking_cost.py [PAIRS] [KEY=VALUE]...

The runs are those of `training/configs/japanese_vowels_lstm.toml`, to which KEY=VALUE are changes. Recorded means all
of it: metrics, diagnostics, pictures, the model, until the store, a SQLite file in an empty folder, has everything.
The time of the processor is that of all threads, in the background too: where other programs run it says more.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from zoo.quiet import import_keras

CONFIG = "japanese_vowels_lstm"
ALLOWED_SHARE, ALLOWED_SECONDS = 0.03, 1.0


def main() -> None:
    import_keras()
    from training.config import load
    from training.run.loop import load_data, run

    numbers = [argument for argument in sys.argv[1:] if argument.isdigit()]
    config = load(CONFIG, [argument for argument in sys.argv[1:] if "=" in argument])
    data = load_data(config)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        parts = recorded(config, data)
        print(f"{CONFIG}, first run of the process, which makes the store: {shown(parts)}")
        run(config, data=data)
        pairs = []
        for pair in range(int(numbers[0]) if numbers else 5):
            both: list[Callable[[], Any]] = [lambda: run(config, data=data), lambda: recorded(config, data)]
            times = [seconds(action) for action in (both if pair % 2 else both[::-1])]
            (plain, _), (tracked, parts) = times if pair % 2 else times[::-1]
            pairs.append((plain, [after - before for before, after in zip(plain, tracked, strict=True)]))
            wall, processor = pairs[-1][1]
            print(
                f"plain {plain[0]:6.2f} s, processor {plain[1]:6.2f} s; recording {wall:+6.2f} s, processor "
                f"{processor:+6.2f} s: {shown(parts)}",
                flush=True,
            )
    for place, name in enumerate(("time", "time of the processor")):
        report(name, [plain[place] for plain, _ in pairs], [cost[place] for _, cost in pairs])


def recorded(config: Any, data: Any) -> dict[str, float]:
    """Train and record; gives the seconds of its parts."""
    from training import tracking
    from training.run.loop import run

    parts: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        with timed(parts, "start"):
            recorder = stack.enter_context(tracking.record(config, data))
        result = run(config, [recorder], data)
        parts["diagnostics"] = recorder.health.seconds if recorder.health else 0.0
        with timed(parts, "pictures and model"):
            recorder.result(result, data)
        with timed(parts, "last delivery"):
            stack.close()
    return parts


def seconds(action: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Wall-clock and processor time of `action`, and what it gives."""
    started = time.perf_counter(), time.process_time()
    given = action()
    return (time.perf_counter() - started[0], time.process_time() - started[1]), given


@contextlib.contextmanager
def timed(parts: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    parts[name] = time.perf_counter() - started


def report(name: str, plain: list[float], costs: list[float]) -> None:
    base, middle = statistics.median(plain), statistics.median(costs)
    allowed = max(ALLOWED_SECONDS, ALLOWED_SHARE * base)
    print(
        f"{name}: recording costs {middle:.2f} s, {middle / base:.1%} of {base:.2f} s (from {min(costs):.2f} to "
        f"{max(costs):.2f} s), {'within' if middle <= allowed else 'ABOVE'} the {allowed:.2f} s allowed"
    )


def shown(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {spent:.2f} s" for name, spent in parts.items())


if __name__ == "__main__":
    main()
