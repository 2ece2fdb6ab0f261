"""What recording a run costs it: the same training with and without it, in turns, in one process.

    python benchmarks/tracking_cost.py [PAIRS] [KEY=VALUE]...

The runs are those of `training/configs/japanese_vowels_lstm.toml`, to which KEY=VALUE are changes. Recorded means all
of it: metrics, diagnostics, pictures, the model, until the store, a SQLite file in an empty folder, has everything.
Each part's own seconds are measured too; they overlap with training where they say "in the background".
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from zoo.quiet import import_keras

CONFIG = "japanese_vowels_lstm"
ALLOWED_SHARE, ALLOWED_SECONDS = 0.03, 1.0


@contextlib.contextmanager
def timed(parts: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    parts[name] = parts.get(name, 0.0) + time.perf_counter() - started


def main() -> None:
    import_keras()
    from training import tracking
    from training.config import load
    from training.loop import load_data, run

    numbers = [argument for argument in sys.argv[1:] if argument.isdigit()]
    pairs = int(numbers[0]) if numbers else 5
    config = load(CONFIG, [argument for argument in sys.argv[1:] if "=" in argument])
    data = load_data(config)

    def plain() -> float:
        started = time.perf_counter()
        run(config, data=data)
        return time.perf_counter() - started

    def recorded(parts: dict[str, float]) -> float:
        with timed(parts, "all"), contextlib.ExitStack() as stack:
            with timed(parts, "start"):
                recorder = stack.enter_context(tracking.record(config, data))
            result = run(config, [recorder], data)
            health = recorder.health
            parts["diagnostics"] = health.seconds if health else 0.0
            with timed(parts, "results"):
                recorder.result(result, data)
            with timed(parts, "last delivery"):
                stack.close()
        return parts.pop("all")

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        first: dict[str, float] = {}
        seconds = recorded(first), plain()
        print(f"{CONFIG}: first run of the process {seconds[0]:.2f} s recorded, of which " + shown(first))
        print(f"{'plain':>8} {'recorded':>9} {'cost':>7} {'share':>6}")
        costs, plains = [], []
        for pair in range(pairs):
            parts: dict[str, float] = {}
            if pair % 2:
                without, total = plain(), recorded(parts)
            else:
                total, without = recorded(parts), plain()
            costs.append(total - without)
            plains.append(without)
            print(f"{without:6.2f} s {total:7.2f} s {costs[-1]:5.2f} s {costs[-1] / without:6.1%}  {shown(parts)}")
    middle, base = statistics.median(costs), statistics.median(plains)
    allowed = max(ALLOWED_SECONDS, ALLOWED_SHARE * base)
    verdict = "within" if middle <= allowed else "ABOVE"
    print(
        f"median {middle:.2f} s ({middle / base:.1%} of {base:.2f} s), from {min(costs):.2f} to {max(costs):.2f} s: "
        f"{verdict} the {allowed:.2f} s allowed"
    )


def shown(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items())


if __name__ == "__main__":
    main()
