"""Time the input pipeline: sequences per second, padding, and how long a training step waits for data.

    python benchmarks/input_pipeline.py            both datasets, about five minutes; spoken_digit where it is prepared
    python benchmarks/input_pipeline.py --quick    a few epochs of one, to see that it works

Ours (length buckets, masks, an order of its own, handed to Keras as `fit` gets it) against two that a person would
write: a plain `tf.data` pipeline over `padded_batch`, and a NumPy generator that shuffles, pads to the longest of the
batch and yields. All serve the same training split in batches of 16, shuffled, with lengths and labels. The last line
is one batch that `tf.data` gives again and again: what `tf.data` itself costs.

- `padded_share`: padded steps among all that are served.
- `step_ms`: a training step of an LSTM of 100 units on the fastest engine, with its share of the epoch's beginning.
- `waiting_share`: the part of it in which the step waits for its batch.
- `cost_share`: the part that it would not take if Python handed over batches that are all there as tensors. It counts
  what other threads do on the same cores meanwhile. Below 0 the step is faster with an iterator that it reads itself.
- `cost_quartiles`: of that share over the epochs measured.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from common import machine
from common.tables import table, write_csv

BATCH = 16
# What data cost in an epoch of japanese_vowels, 19 steps, differs by several percent from epoch to epoch.
EPOCHS = {"japanese_vowels": 120, "spoken_digit": 24}
READY = "one ready batch by tf.data"
Epoch = Callable[[int], tuple[Any, int | None]]
"""From the number of an epoch to an iterator over its batches and how many to take, None for all."""


def ours(examples: Any) -> Epoch:
    from training.batches.batches import Batches
    from training.run.tf_input import feed

    dataset, steps = feed(Batches(examples, BATCH, seed=0))
    endless = iter(dataset)  # as Keras holds it, from epoch to epoch
    return lambda number: (endless, steps)


def plain_tf_data(examples: Any) -> Epoch:
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_row_lengths(np.concatenate(list(examples.sequences)), examples.lengths)
    labels = examples.labels.astype("int32")
    dataset = tf.data.Dataset.from_tensor_slices((ragged, examples.lengths.astype("int32"), labels))
    dataset = dataset.shuffle(len(examples), reshuffle_each_iteration=True)
    dataset = dataset.map(lambda x, length, label: ({"features": x, "lengths": length}, label))
    shapes = ({"features": (None, examples.channels), "lengths": ()}, ())
    dataset = dataset.padded_batch(BATCH, shapes).prefetch(tf.data.AUTOTUNE)
    return lambda number: (iter(dataset), None)


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

    return lambda number: (epoch(number), None)


def one_ready_batch(examples: Any) -> Epoch:
    """Nothing to do: what `tf.data` itself costs."""
    import tensorflow as tf

    from training.batches.batches import Batches

    batches = Batches(examples, BATCH, seed=0)
    full = next(batch for batch in map(batches.__getitem__, range(len(batches))) if len(batch[1]) == BATCH)
    endless = iter(tf.data.Dataset.from_tensors(full).repeat().prefetch(2))
    return lambda number: (endless, len(batches))


def rate(epoch: Epoch, number: int, sequences: int) -> float:
    """Sequences per second of one epoch that nobody works on."""
    started = time.perf_counter()
    served = sum(len(targets) for _, targets in itertools.islice(*epoch(number)))
    seconds = time.perf_counter() - started
    if served < sequences:
        raise RuntimeError(f"an epoch served {served} sequences, expected {sequences}")
    return served / seconds


def naive_padding(lengths: Any, epochs: int) -> float:
    """Padded steps as a share of all, of shuffled batches padded to their longest; the mean of some epochs."""
    shares = []
    for number in range(epochs):
        order = np.random.default_rng(number).permutation(len(lengths))
        batches = [lengths[order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
        served = sum(batch.max() * len(batch) for batch in batches)
        shares.append(1 - lengths.sum() / served)
    return float(np.mean(shares))


def waiting(sides: dict[str, Epoch], model: Any, epochs: int) -> dict[str, list[list[float]]]:
    """What each side's data costs in training, sides in turn.

    Data of TensorFlow's comes as in Keras's `fit`: its iterator is read inside of the training step.

    Returns:
        Quartiles over epochs, three of each: milliseconds of a step; the share of it in which the step waits for its
        batch; and the share that it would not take if all batches were there as tensors, which counts the work of other
        threads on the same cores too.
    """
    import tensorflow as tf

    step = tf.function(model.train_step, reduce_retracing=True)

    @tf.function(reduce_retracing=True)
    def reading(iterator: Any) -> Any:
        asked = tf.timestamp()
        with tf.control_dependencies([asked]):
            batch = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(batch)):
            waited = tf.timestamp() - asked
        return model.train_step(batch)["loss"], waited

    def timed(iterator: Any, count: int | None) -> tuple[float, float]:
        started, waited, inside = time.perf_counter(), 0.0, isinstance(iterator, tf.data.Iterator)
        for _ in itertools.count() if count is None else range(count):
            asked = time.perf_counter()
            try:
                if inside:
                    loss, seconds = reading(iterator)
                    waited += float(seconds)
                else:
                    batch = next(iterator)
                    waited += time.perf_counter() - asked
                    loss = step(batch)["loss"]
            except (StopIteration, tf.errors.OutOfRangeError):
                break
            float(loss)  # the step is over when its loss is there
        return time.perf_counter() - started, waited

    measured: dict[str, list[tuple[float, float, float]]] = {side: [] for side in sides}
    for number in range(epochs + 1):
        for side in np.random.default_rng(number).permutation(list(sides)):
            batches = itertools.islice(*sides[side](number))
            there = [tf.nest.map_structure(tf.constant, batch) for batch in batches]
            free, _ = timed(iter(there), None)
            started = time.perf_counter()
            iterator, count = sides[side](number)
            begun = time.perf_counter() - started
            seconds, waited = timed(iterator, count)
            seconds, waited = seconds + begun, waited + begun
            if number:  # the first traces
                measured[side].append((1e3 * seconds / len(there), waited / seconds, 1 - free / seconds))
    return {side: np.percentile(rows, [25, 50, 75], axis=0).T.tolist() for side, rows in measured.items()}


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    import keras

    from training import datasets
    from training.batches.batches import Batches
    from training.config import load
    from training.run.loop import build_model
    from training.run.tasks import model_task

    dataset = datasets.get(name)
    examples = dataset.load("train")
    sides = {
        "ours": ours(examples),
        "tf.data padded_batch": plain_tf_data(examples),
        "numpy": numpy_generator(examples),
        READY: one_ready_batch(examples),
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
    waits = waiting(sides, model, rounds)
    rows = []
    for side, values in rates.items():
        padded = served.padding_share if side in ("ours", READY) else naive_padding(examples.lengths, 20)
        (_, milliseconds, _), (_, waited, _), (least, cost, most) = waits[side]
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
                "waiting_share": f"{waited:.4f}",
                "cost_share": f"{cost:.4f}",
                "cost_quartiles": f"{least:.3f} to {most:.3f}",
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
    for name, epochs in EPOCHS.items():
        if name == "japanese_vowels" or (not quick and datasets.get(name).is_prepared()):
            click.echo(f"{name} ...", err=True)
            rows += measure(name, 4 if quick else epochs)
    output.mkdir(parents=True, exist_ok=True)
    write_csv(output / "input_pipeline.csv", rows)
    lines = table(list(rows[0]), [list(row.values()) for row in rows])
    header = machine.header("python benchmarks/input_pipeline.py" + (" --quick" if quick else ""), load)
    text = "\n".join(["# The input pipeline", "", *header, "", *lines, __doc__.split("\n\n", 2)[2].strip(), ""])
    (output / "input_pipeline.md").write_text(text)
    click.echo(text)


if __name__ == "__main__":
    main()
