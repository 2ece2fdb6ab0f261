"""Ways to write a leaky ReLU: time, memory and gradient at 0 on TensorFlow, and on JAX and torch where installed.

    .venv/bin/python benchmarks/leaky_relu.py

About two minutes on 2 cores. Every way is timed in turn, round after round in one process, so that a slow moment of the
machine falls on all. Prints a table and writes docs/results/leaky_relu.csv. `held_bytes_per_entry`: what the forward
pass keeps for the backward pass (torch, JAX without compilation), or the results of all operations in the graph of
both passes before any optimisation (TensorFlow): compare within a framework only.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from common.machine import RESULTS, processor
from common.tables import write_csv
from common.timing import CORES, alternate, timed
from rich.console import Console
from rich.table import Table

SLOPE = 0.1
SHAPES = {"a gate, 64 x 128": (64, 128), "a layer, 1024 x 1024": (1024, 1024)}
SECONDS = 1.0  # for each comparison


def ways(maximum: Any, absolute: Any, where: Any, own: Any) -> dict[str, Callable[[Any], Any]]:
    """The candidates, from the operations of one framework."""
    return {
        "maximum": lambda x: maximum(x, SLOPE * x),
        "absolute value": lambda x: 0.5 * (1 + SLOPE) * x + 0.5 * (1 - SLOPE) * absolute(x),
        "where": lambda x: where(x > 0, x, SLOPE * x),
        "framework's own": own,
    }


def tensorflow() -> dict[str, Any]:
    import tensorflow as tf

    def gradient(function: Any) -> Any:
        def both(x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return tape.gradient(y, x)

        return both

    def held(function: Any, x: Any) -> float:
        operations = tf.function(gradient(function)).get_concrete_function(x).graph.get_operations()
        outputs = [o for operation in operations if operation.type not in ("Placeholder", "Const", "Identity")
                   for o in operation.outputs]  # fmt: skip
        return float(sum(np.prod(o.shape) * o.dtype.size for o in outputs)) / float(np.prod(x.shape))

    return {
        "version": tf.__version__,
        "ways": ways(tf.maximum, tf.abs, tf.where, lambda x: tf.nn.leaky_relu(x, SLOPE)),
        "modes": {"graph": tf.function, "XLA": lambda f: tf.function(f, jit_compile=True)},
        "gradient": gradient,
        "tensor": tf.constant,
        "wait": lambda y: y.numpy(),
        "held": held,
    }


def jax() -> dict[str, Any]:
    import jax
    from jax import numpy as jnp

    def gradient(function: Any) -> Any:
        return jax.grad(lambda x: function(x).sum())

    def held(function: Any, x: Any) -> float:
        _, backward = jax.vjp(function, x)
        kept = [leaf for leaf in jax.tree_util.tree_leaves(backward) if hasattr(leaf, "nbytes") and leaf.size > 1]
        return float(sum(leaf.nbytes for leaf in kept)) / x.size

    return {
        "version": jax.__version__,
        "ways": ways(jnp.maximum, jnp.abs, jnp.where, lambda x: jax.nn.leaky_relu(x, SLOPE)),
        "modes": {"XLA": jax.jit},
        "gradient": gradient,
        "tensor": jnp.asarray,
        "wait": lambda y: y.block_until_ready(),
        "held": held,
    }


def torch() -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)  # its threads wait for each other by spinning, which on a shared machine times the others

    def gradient(function: Any) -> Any:
        def both(x: Any) -> Any:
            x = x.detach().requires_grad_()
            return torch.autograd.grad(function(x).sum(), x)[0]

        return both

    def held(function: Any, x: Any) -> float:
        kept: dict[int, int] = {}  # by address: a tensor that two operations keep is held once

        def keep(tensor: Any) -> Any:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            function(x.detach().requires_grad_())
        return sum(kept.values()) / float(x.numel())

    return {
        "version": torch.__version__,
        "ways": ways(
            torch.maximum, torch.abs, torch.where, lambda x: torch.nn.functional.leaky_relu(x, negative_slope=SLOPE)
        ),
        "modes": {"eager": lambda f: f},
        "gradient": gradient,
        "tensor": torch.tensor,
        "wait": lambda y: y,
        "held": held,
    }


FRAMEWORKS = {"tensorflow": tensorflow, "jax": jax, "torch": torch}


def rows_of(framework: str) -> list[dict[str, Any]]:
    parts = FRAMEWORKS[framework]()
    rows = []
    for shape_name, shape in SHAPES.items():
        x = parts["tensor"](np.random.default_rng(0).normal(size=shape).astype("float32"))
        for mode, compile_ in parts["modes"].items():
            forward = {name: compile_(way) for name, way in parts["ways"].items()}
            both = {name: compile_(parts["gradient"](way)) for name, way in parts["ways"].items()}
            runs = [
                alternate({n: timed(lambda f=f, x=x: parts["wait"](f(x))) for n, f in functions.items()}, SECONDS)
                for functions in (forward, both)
            ]
            for name, way in parts["ways"].items():
                row = {"framework": framework, "mode": mode, "input": shape_name, "way": name}
                for label, times in zip(("forward", "forward_backward"), runs, strict=True):
                    low, middle, high = np.percentile(1e6 * times[name].seconds, [25, 50, 75])
                    row |= {f"{label}_us": f"{middle:.1f}", f"{label}_us_quartiles": f"{low:.1f} to {high:.1f}"}
                zero = parts["tensor"](np.zeros((1,), "float32"))
                row["gradient_at_0"] = f"{float(np.asarray(both[name](zero))[0]):.3g}"
                row["held_bytes_per_entry"] = f"{parts['held'](way, x):.3g}"
                row |= {"version": parts["version"], "python": sys.version.split()[0], "machine": processor()}
                rows.append(row | {"cores": CORES, "rounds": len(runs[0][name].seconds), "slope": SLOPE})
    return rows


def main() -> None:
    rows: list[dict[str, Any]] = []
    for framework in FRAMEWORKS:
        if importlib.util.find_spec(framework) is None:
            print(f"{framework} is not installed: left out", file=sys.stderr)
            continue
        rows += rows_of(framework)
    table = Table(
        "where", "input", "way", "forward us", "both us", "gradient at 0", "held bytes", title="median (quartiles)"
    )
    for row in rows:
        times = [f"{row[f'{key}_us']} ({row[f'{key}_us_quartiles']})" for key in ("forward", "forward_backward")]
        place = f"{row['framework']}, {row['mode']}"
        table.add_row(place, row["input"], row["way"], *times, row["gradient_at_0"], row["held_bytes_per_entry"])
    Console(width=160).print(table)
    write_csv(RESULTS / "leaky_relu.csv", rows)


if __name__ == "__main__":
    main()
