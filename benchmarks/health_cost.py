"""What `Health` costs a training: its first look, all looks, and their share of the run.

    python benchmarks/health_cost.py [EPOCHS]

Stacks of 1, 2 and 4 LSTMs of 64 units over 150 steps, a probe of 16 rows, with and without the gradient flow, beside
the time of the epochs themselves. Every other load of the machine is in the figures.
"""

import sys
import time
from typing import Any

import keras
import numpy as np

from zoo.diagnostics import Health
from zoo.layers import LSTM

STEPS, UNITS, PROBE, ROWS = 150, 64, 16, 256


class TimedHealth(Health):
    """A `Health` that remembers what each look has cost."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.costs: list[float] = []

    def _look(self, at_any_price: bool = False) -> None:
        before = self.seconds
        super()._look(at_any_price)
        self.costs.append(self.seconds - before)


def model_of(layers: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    stack = [LSTM(UNITS, return_sequences=index < layers - 1) for index in range(layers)]
    model = keras.Sequential([keras.Input((STEPS, 8)), *stack, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def main() -> None:
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    x = np.random.default_rng(0).normal(size=(ROWS, STEPS, 8)).astype("float32")
    y = x.mean((1, 2))[:, None]
    print(f"Keras on {keras.backend.backend()}, {epochs} epochs of {ROWS} rows")
    print(f"{'layers':>6}  {'flow':<5} {'first look':>10} {'looks':>6} {'in all':>8} {'run':>8} {'share':>6}")
    for layers in (1, 2, 4):
        for targets in (None, y[:PROBE]):
            model, health = model_of(layers), TimedHealth(x[:PROBE], targets)
            started = time.perf_counter()
            model.fit(x, y, epochs=epochs, batch_size=16, verbose=0, callbacks=[health])
            run = time.perf_counter() - started
            flows = sum(checkup.flow is not None for checkup in health.history)
            flow = "no" if targets is None else str(flows)
            first = health.costs[0] if health.costs else 0.0
            print(
                f"{layers:6}  {flow:<5} {first:8.2f} s {len(health.history):6} {health.seconds:6.2f} s "
                f"{run:6.1f} s {health.seconds / run:6.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
