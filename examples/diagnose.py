"""Why does this LSTM die? Every diagnosis on one small example, with the pictures.

    python examples/diagnose.py [FOLDER]

An LSTM with ReLU candidates and a recurrence that is too strong is examined, trained until it diverges, and trained
again with the remedy that the finding names. Pictures are written where FOLDER is given.
"""

import sys
import warnings
from pathlib import Path

import keras
import numpy as np

from zoo.diagnostics import (
    Health,
    find_non_finite,
    gate_report,
    gradient_check,
    gradient_flow,
    plot_cell_growth,
    plot_gates,
    plot_gradient_flow,
    spectral_radius,
)
from zoo.layers import LSTM

STEPS = 150


def model_of(activation: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    # More comes back from 8 units than goes in, so an unbounded state runs away.
    too_strong = keras.initializers.Constant(0.15)
    lower = LSTM(
        8,
        candidate_activation=activation,
        hidden_activation=activation,
        recurrent_initializer=too_strong,
        return_sequences=True,
        name="lower",
    )
    model = keras.Sequential(
        [keras.Input((STEPS, 2)), lower, LSTM(8, name="upper"), keras.layers.Dense(1, name="head")]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.abs(np.random.default_rng(0).normal(size=(64, STEPS, 2))).astype("float32")
    return x, x.mean((1, 2))[:, None]


def show(title: str, report: object) -> None:
    print(f"== {title}\n{report}\n")


def examine(model: keras.Model, x: np.ndarray, y: np.ndarray, folder: Path | None, name: str) -> None:
    gates, flow = gate_report(model, x[:8]), gradient_flow(model, x[:8], y[:8], "mse")
    show("gates", gates)
    show("gradient flow", flow)
    show("spectral radius", spectral_radius(model.get_layer("lower")))
    pictures = {"gates": plot_gates(gates), "flow": plot_gradient_flow(flow), "growth": plot_cell_growth(gates)}
    for kind, figure in pictures.items() if folder else ():
        figure.savefig(folder / f"diagnosis_{name}_{kind}.png")


def main() -> dict[str, list[float]]:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    warnings.filterwarnings("ignore", message=".*the cell state can grow")  # growing is what this example is about
    x, y = data()
    small = LSTM(3, activation="leaky_relu(0.33)", name="small")
    small.build((None, 5, 2))
    show("gradient check", gradient_check(small, x[:3, :5], samples=5))
    losses = {}
    for activation in ("relu", "relu6"):
        model, health = model_of(activation), Health(x[:8])
        print(f"=== {activation}")
        losses[activation] = model.fit(x, y, epochs=6, batch_size=16, verbose=0, callbacks=[health]).history["loss"]
        show("losses", ", ".join(f"{loss:.3g}" for loss in losses[activation]))
        show("health", health)
        show("first non-finite value", find_non_finite(model, x[:8]))
        examine(model_of(activation), x, y, folder, activation)
    return losses


if __name__ == "__main__":
    main()
