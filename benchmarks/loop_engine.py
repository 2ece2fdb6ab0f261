"""The loop engine of `zoo.layers.LSTM` against the reference engine, on each Keras backend that is installed.

    python benchmarks/loop_engine.py

About three minutes on 2 cores. For each size, activation and mode both engines run in turn, round after round in one
process a backend, on the same weights. A training step is the forward pass, the mean square of the last output, and the
gradient of all weights; inference is the last output. TensorFlow's sides are a `tf.function`, JAX's are compiled, torch
runs eagerly on one thread. Ratios are reference over loop, so above 1 the loop is the faster one. Prints the tables and
writes docs/results/loop_engine.md.
"""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from common import machine
from common.timing import alternate, timed

BACKENDS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
SIZES = [(32, 64, 16, 64), (64, 128, 32, 128), (16, 256, 8, 32)]  # batch, steps, channels, units
ACTIVATIONS = ("tanh", "relu")
SECONDS = 4.0


def main() -> None:
    if len(sys.argv) > 1:
        table(sys.argv[1])
        return
    before, tables = machine.load(), []
    for backend, module in BACKENDS.items():
        if importlib.util.find_spec(module) is None:
            print(f"{backend} is not installed: left out", file=sys.stderr)
            continue
        command, environment = [sys.executable, __file__, backend], os.environ | {"KERAS_BACKEND": backend}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            lines = []
            for line in process.stdout or ():
                print(line, end="", flush=True)
                lines.append(line)
        if process.returncode:
            sys.exit(process.returncode)
        tables.append("".join(lines))
    about = "Ratios are the reference's time over the loop's, round by round: above 1 the loop is the faster one."
    jax = f"- on JAX: jax {importlib.metadata.version('jax')}" if importlib.util.find_spec("jax") else "- without JAX"
    head = [*machine.header("python benchmarks/loop_engine.py", before), jax]
    text = "\n".join(["# The loop engine against the reference, on a CPU", "", *head, "", about, "", "\n".join(tables)])
    (machine.RESULTS / "loop_engine.md").write_text(text, encoding="utf-8")


def table(backend: str) -> None:
    from keras import ops

    print(f"| {backend} | activation | mode | reference ms | loop ms | ratio (quartiles) |\n" + "| --- " * 6 + "|")
    for batch, steps, channels, units in SIZES:
        x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(batch, steps, channels)).astype("float32"))
        for activation in ACTIVATIONS:
            layers = both(units, activation, x)
            for mode in ("training", "inference"):
                sides = {engine: step(layer, x, mode) for engine, layer in layers.items()}
                found = alternate({engine: timed(side) for engine, side in sides.items()}, SECONDS)
                ratios = found["reference"].seconds / found["loop"].seconds  # round by round
                low, middle, high = np.percentile(ratios, [25, 50, 75])
                times = [f"{1e3 * found[engine].median:.2f}" for engine in ("reference", "loop")]
                size = f"b{batch}_t{steps}_d{channels}_h{units}"
                print(
                    f"| {size} | {activation} | {mode} | {' | '.join(times)} | {middle:.2f} ({low:.2f} to {high:.2f}) |"
                )
                sys.stdout.flush()


def both(units: int, activation: str, x: Any) -> dict[str, Any]:
    """A layer an engine, with the same weights, small enough for relu to stay finite."""
    from keras import ops

    from zoo.layers import LSTM

    warnings.filterwarnings("ignore", ".*the cell state can grow", UserWarning)  # not with these weights
    layers = {engine: LSTM(units, activation=activation, engine=engine) for engine in ("reference", "loop")}
    for layer in layers.values():
        layer.build(x.shape)
    weights = [0.3 * weight for weight in layers["reference"].get_weights()]
    for layer in layers.values():
        layer.set_weights(weights)
    answers = [ops.convert_to_numpy(layer(x)) for layer in layers.values()]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4 * np.abs(answers[0]).max())
    return layers


def step(layer: Any, x: Any, mode: str) -> Callable[[], object]:
    """What is timed: a call that returns when its work is done."""
    import keras

    make = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}[keras.backend.backend()]
    return make(layer, x, mode == "training")


def _on_tensorflow(layer: Any, x: Any, training: bool) -> Callable[[], object]:
    import tensorflow as tf

    weights = [weight.value for weight in layer.trainable_weights]

    @tf.function
    def run(x: Any) -> Any:
        if not training:
            return layer(x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(layer(x, training=True)))
        return tape.gradient(loss, weights)[-1]

    return lambda: run(x).numpy()


def _on_jax(layer: Any, x: Any, training: bool) -> Callable[[], object]:
    import jax
    from jax import numpy as jnp

    weights = [weight.value for weight in layer.trainable_weights]

    seeds = [seed.value for seed in layer.non_trainable_variables]

    def outputs(weights: Any, x: Any) -> Any:
        return layer.stateless_call(weights, seeds, x, training=training)[0]

    run = jax.jit(jax.grad(lambda weights, x: jnp.mean(outputs(weights, x) ** 2)) if training else outputs)
    return lambda: jax.block_until_ready(run(weights, x))


def _on_torch(layer: Any, x: Any, training: bool) -> Callable[[], object]:
    import torch

    torch.set_num_threads(1)  # they would spin while they wait, which on a busy machine times the others
    weights = [weight.value for weight in layer.trainable_weights]

    def inference() -> object:
        with torch.no_grad():
            return layer(x)

    def train() -> object:
        return torch.autograd.grad(layer(x, training=True).square().mean(), weights)

    return train if training else inference


if __name__ == "__main__":
    main()
