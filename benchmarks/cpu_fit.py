"""Whole trainings on japanese_vowels: our LSTM on its native engine against keras.layers.LSTM in the same model.

    python benchmarks/cpu_fit.py

About 6 minutes on 2 cores that have nothing else to do. Ten pairs with the same seed, configuration, data, order of
the data and number of epochs (no early stop), each member going first in every other pair. The time is that of `fit`:
input pipeline, tracing, validation and callbacks included. Prints and writes
docs/results/cpu_fit_<machine>_<versions>.md.
"""

import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np
from common.progress import progress
from scipy import stats

from zoo.quiet import import_keras

CONFIG = "japanese_vowels_lstm"


@dataclass(frozen=True)
class Pair:
    """Two trainings with one seed, native and Keras.

    Attributes:
        seed: Of both.
        seconds: Of both `fit`s.
        accuracies: On the test split, of both.
    """

    seed: int
    seconds: tuple[float, float]
    accuracies: tuple[float, float]


@contextmanager
def layer_of_the_model(keras_instead: bool) -> Iterator[None]:
    """Within the block the `lstm` model is made of `keras.layers.LSTM`, or of ours as ever."""
    import keras

    from zoo.models.cells import CELLS

    @keras.saving.register_keras_serializable("benchmark")
    class KerasLSTM(keras.layers.LSTM):
        """Keras's layer, deaf to the arguments that only ours has; `recurrent_layer` gives them to every cell."""

        def __init__(self, units: int, **arguments: Any) -> None:
            super().__init__(units, **{key: value for key, value in arguments.items() if not _only_ours(key, value)})

    ours = CELLS["lstm"]
    try:
        CELLS["lstm"] = KerasLSTM if keras_instead else ours
        yield
    finally:
        CELLS["lstm"] = ours


def _only_ours(key: str, value: Any) -> bool:
    return key.endswith("_activation") and value is None


def fit(seed: int, epochs: int, keras_instead: bool, overrides: Sequence[str]) -> tuple[float, float]:
    """Train once; gives the seconds of `fit` and the test accuracy. Raises `RuntimeError` where training diverged."""
    from training.config import load
    from training.run.loop import run

    engine = [] if keras_instead else ["model.engine=native"]
    lengths = [f"train.epochs={epochs}", "train.patience=none"]
    with layer_of_the_model(keras_instead):
        result = run(load(CONFIG, [f"seed={seed}", *lengths, *engine, *overrides]))
    if result.test is None:
        raise RuntimeError(f"seed {seed}: no time to compare, since the run {result.reason}")
    return result.seconds, result.test.accuracy


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and half of its 95 % interval by Student's t."""
    array = np.asarray(values)
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    return float(array.mean()), float(half)


def page(pairs: Sequence[Pair], header: Sequence[str]) -> str:
    """The result as Markdown."""
    ratios = [pair.seconds[1] / pair.seconds[0] for pair in pairs]
    middle, half = interval(np.log(ratios))
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    difference, difference_half = interval([pair.accuracies[0] - pair.accuracies[1] for pair in pairs])
    lines = [f"# Training on japanese_vowels: native engine against keras.layers.LSTM, {len(pairs)} pairs", "", *header]
    lines += ["", "| seed | native s | Keras s | Keras over native | native accuracy | Keras accuracy |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for pair, ratio in zip(pairs, ratios, strict=True):
        seconds = " | ".join(f"{value:.2f}" for value in pair.seconds)
        accuracies = " | ".join(f"{value:.4f}" for value in pair.accuracies)
        lines.append(f"| {pair.seed} | {seconds} | {ratio:.3f} | {accuracies} |")
    return "\n".join(
        [
            *lines,
            "",
            f"- Keras's time over native's: geometric mean {np.exp(middle):.3f}, 95 % interval "
            f"{np.exp(middle - half):.3f} to {np.exp(middle + half):.3f}; quartiles {low:.3f} and {high:.3f}",
            f"- test accuracy, native minus Keras: {difference:+.4f}, 95 % interval "
            f"{difference - difference_half:+.4f} to {difference + difference_half:+.4f} (paired t)",
            "",
        ]
    )


@click.command()
@click.option("--seeds", type=click.IntRange(min=2), default=10, show_default=True, help="How many pairs.")
@click.option("--epochs", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--xla", is_flag=True, help="Keras's side with train.jit_compile=true; ours is never compiled with XLA.")
@click.option("--quick", is_flag=True, help="Two pairs of one epoch, one direction: to see that it works.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder; docs/results where left out.")
def main(seeds: int, epochs: int, xla: bool, quick: bool, output: Path | None) -> None:
    """Time whole trainings with the native engine and with keras.layers.LSTM."""
    import_keras()
    from common import machine

    load, (seeds, epochs) = machine.load(), (2, 1) if quick else (seeds, epochs)
    smaller = ["model.bidirectional=false"] if quick else []
    overrides = {False: smaller, True: [*smaller, "train.jit_compile=true"] if xla else smaller}
    # Once before: reading the data and starting the threads belong to neither.
    for keras_instead in () if quick else (False, True):
        fit(0, 1, keras_instead, overrides[keras_instead])
    pairs = []
    with progress("pairs", seeds) as done:
        for seed in range(seeds):
            order = (False, True) if seed % 2 == 0 else (True, False)
            results = {instead: fit(seed, epochs, instead, overrides[instead]) for instead in order}
            native, keras = results[False], results[True]
            pairs.append(Pair(seed, (native[0], keras[0]), (native[1], keras[1])))
            done(f"seed {seed}")
    command = f"python benchmarks/cpu_fit.py --seeds {seeds} --epochs {epochs}" + " --xla" * xla
    text = page(pairs, machine.header(command, load))
    folder = output or machine.RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"cpu_fit{'_xla' * xla}_{machine.slug('tf', 'keras')}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
