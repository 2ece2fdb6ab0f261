"""Time the input pipeline: sequences per second, padding, and how long a training step waits for data.

    python benchmarks/input_pipeline.py            both datasets, about three minutes; spoken_digit where it is prepared
    python benchmarks/input_pipeline.py --quick    a few epochs of one, to see that it works

Ours (length buckets, masks, an order of its own, handed to Keras as `fit` gets it) against two that a person would
write: a plain `tf.data` pipeline over `padded_batch`, and a NumPy generator that shuffles, pads to the longest of the
batch and yields. All serve the same training split in batches of 16, shuffled, with lengths and labels.
"""

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from cpu import machine

BATCH = 16
Epoch = Callable[[int], Iterator[Any]]


def ours(examples: Any) -> Epoch:
    from training.feeding import feed
    from training.pipeline import Batches

    batches = Batches(examples, BATCH, seed=0)
    dataset = feed(batches)

    def epoch(number: int) -> Iterator[Any]:
        batches.epoch = number
        return iter(dataset)

    return epoch


def plain_tf_data(examples: Any) -> Epoch:
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_row_lengths(np.concatenate(list(examples.sequences)), examples.lengths)
    labels = examples.labels.astype("int32")
    dataset = tf.data.Dataset.from_tensor_slices((ragged, examples.lengths.astype("int32"), labels))
    dataset = dataset.shuffle(len(examples), reshuffle_each_iteration=True)
    dataset = dataset.map(lambda x, length, label: ({"features": x.to_tensor(), "lengths": length}, label))
    shapes = ({"features": (None, examples.channels), "lengths": ()}, ())
    dataset = dataset.padded_batch(BATCH, shapes).prefetch(tf.data.AUTOTUNE)
    return lambda number: iter(dataset)


def numpy_generator(examples: Any) -> Epoch:
    labels = examples.labels.astype("int32")
    lengths = examples.lengths.astype("int32")

    def epoch(number: int) -> Iterator[Any]:
        order = np.random.default_rng(number).permutation(len(examples))
        for start in range(0, len(order), BATCH):
            members = order[start : start + BATCH]
            features = np.zeros((len(members), lengths[members].max(), examples.channels), np.float32)
            for row, member in enumerate(members):
                features[row, : lengths[member]] = examples.sequences[member]
            yield {"features": features, "lengths": lengths[members]}, labels[members]

    return epoch


def rate(epoch: Epoch, number: int, sequences: int) -> float:
    """Sequences per second of one epoch that nobody works on."""
    started = time.perf_counter()
    served = sum(len(targets) for _, targets in epoch(number))
    seconds = time.perf_counter() - started
    if served != sequences:
        raise RuntimeError(f"an epoch served {served} sequences, expected {sequences}")
    return sequences / seconds


def naive_padding(lengths: Any, epochs: int) -> float:
    """Padded steps as a share of all, of shuffled batches padded to their longest; the mean of some epochs."""
    shares = []
    for number in range(epochs):
        order = np.random.default_rng(number).permutation(len(lengths))
        batches = [lengths[order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
        served = sum(batch.max() * len(batch) for batch in batches)
        shares.append(1 - lengths.sum() / served)
    return float(np.mean(shares))


def waiting(epoch: Epoch, model: Any, epochs: int) -> tuple[float, float]:
    """The share of the time of a training step that it waits for its batch, and the step's milliseconds; medians."""
    import tensorflow as tf

    step = tf.function(model.train_step, reduce_retracing=True)
    shares, steps = [], []
    for number in range(epochs + 1):
        waited, batches, started = 0.0, 0, time.perf_counter()
        iterator = epoch(number)
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            waited += time.perf_counter() - asked
            if batch is None:
                break
            logs = step(batch)
            float(logs["loss"])  # the step is over when its loss is there
            batches += 1
        if number:  # the first traces
            seconds = time.perf_counter() - started
            shares.append(waited / seconds)
            steps.append(1e3 * seconds / batches)
    return float(np.median(shares)), float(np.median(steps))


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    import keras

    from training import datasets
    from training.config import load
    from training.loop import build_model
    from training.pipeline import Batches
    from training.tasks import model_task

    dataset = datasets.get(name)
    examples = dataset.load("train")
    sides = {
        "ours": ours(examples),
        "tf.data padded_batch": plain_tf_data(examples),
        "numpy": numpy_generator(examples),
    }
    for epoch in sides.values():
        rate(epoch, 0, len(examples))
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in np.random.default_rng(number).permutation(list(sides)):
            rates[side].append(rate(sides[side], number, len(examples)))
    keras.utils.set_random_seed(0)
    task = model_task(dataset.spec, examples)
    model = build_model(load(overrides=[f"dataset.name={name}", "model.units=100"]), task)
    served = Batches(examples, BATCH, seed=0)
    rows = []
    for side, values in rates.items():
        padded = served.padding_share if side == "ours" else naive_padding(examples.lengths, 20)
        share, milliseconds = waiting(sides[side], model, max(2, rounds // 4))
        low, middle, high = np.percentile(values, [25, 50, 75])
        rows.append(
            {
                "dataset": name,
                "pipeline": side,
                "sequences_per_second": f"{middle:.0f}",
                "spread": f"{(high - low) / middle:.3f}",
                "ours_over_this": f"{np.median(rates['ours']) / middle:.2f}",
                "padded_share": f"{padded:.4f}",
                "step_ms": f"{milliseconds:.2f}",
                "waiting_share": f"{share:.4f}",
            }
        )
    return rows


@click.command()
@click.option("--quick", is_flag=True, help="A few epochs of japanese_vowels, to see that it works.")
@click.option("--output", type=click.Path(path_type=Path), default=machine.RESULTS)
def main(quick: bool, output: Path) -> None:
    """Time the input pipeline against two that a person would write."""
    from training import datasets

    load = machine.load()
    rows = []
    for name in ("japanese_vowels", "spoken_digit"):
        if name == "japanese_vowels" or (not quick and datasets.get(name).is_prepared()):
            click.echo(f"{name} ...", err=True)
            rows += measure(name, 4 if quick else 40)
    output.mkdir(parents=True, exist_ok=True)
    with (output / "input_pipeline.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    columns = list(rows[0])
    table = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    table += [f"| {' | '.join(row.values())} |" for row in rows]
    header = machine.header("python benchmarks/input_pipeline.py" + (" --quick" if quick else ""), load)
    text = "\n".join(["# The input pipeline", "", *header, "", *table, "", __doc__.split("\n\n", 2)[2].strip(), ""])
    (output / "input_pipeline.md").write_text(text)
    click.echo(text)


if __name__ == "__main__":
    main()
