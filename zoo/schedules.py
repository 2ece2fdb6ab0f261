"""Schedules for the learning rate."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from zoo.types import Tensor

# The share of the peak after the share `done` of the fall, which ends at the share `final`.
SHAPES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "constant": lambda done, final: ops.ones_like(done),
    "cosine": lambda done, final: final + (1 - final) * (1 + ops.cos(math.pi * done)) / 2,
    "linear": lambda done, final: 1 - (1 - final) * done,
    "exponential": lambda done, final: ops.exp(math.log(final) * done),
}


@keras.saving.register_keras_serializable("sequence_zoo")
class WarmUpThenFall(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly for some steps, then falls to a share of its peak.

        step < warmup_steps:  peak * (step + 1) / warmup_steps
        later:                peak * shape(done),  done = (step - warmup_steps) / (steps - warmup_steps), at most 1

        cosine:       final_share + (1 - final_share) * (1 + cos(pi * done)) / 2
        linear:       1 - (1 - final_share) * done
        exponential:  final_share ^ done
        constant:     1

    Args:
        peak: The largest learning rate.
        steps: Training steps until the end of the fall; after that the rate is constant.
        shape: "cosine", "linear", "exponential" or "constant".
        warmup_steps: Number of steps of the rise, less than `steps`; 0 for none.
        final_share: Share of the peak at the end, at least 0 and less than 1; more than 0 for "exponential".

    Raises:
        ValueError: The shape is unknown, or a number is outside its range.

    Example:
    >>> schedule = WarmUpThenFall(1.0, steps=6, shape="linear", warmup_steps=2, final_share=0.0)
    >>> [round(float(schedule(step)), 2) for step in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]

    References:
        Goyal et al. (2017), "Accurate, Large Minibatch SGD", https://arxiv.org/abs/1706.02677 (warm-up);
        Loshchilov and Hutter (2017), "SGDR", https://arxiv.org/abs/1608.03983 (cosine).
    """

    def __init__(
        self, peak: float, steps: int, shape: str = "cosine", warmup_steps: int = 0, final_share: float = 0.01
    ) -> None:
        if shape not in SHAPES:
            raise ValueError(f"`shape` must be one of {', '.join(SHAPES)}; received {shape!r}")
        if not 0 <= warmup_steps < steps:
            raise ValueError(
                f"`warmup_steps` must be at least 0 and less than `steps`, received {warmup_steps!r} of {steps!r}"
            )
        if not 0 <= final_share < 1 or (shape == "exponential" and not final_share):
            raise ValueError(
                "`final_share` must be at least 0 (more than 0 for an exponential fall) and less than 1, received "
                f"{final_share!r}"
            )
        self.peak, self.steps, self.shape = peak, steps, shape
        self.warmup_steps, self.final_share = warmup_steps, final_share

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        risen = ops.minimum((step + 1) / max(self.warmup_steps, 1), 1.0)
        done = ops.clip((step - self.warmup_steps) / (self.steps - self.warmup_steps), 0.0, 1.0)
        return self.peak * risen * SHAPES[self.shape](done, self.final_share)

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "steps": self.steps,
            "shape": self.shape,
            "warmup_steps": self.warmup_steps,
            "final_share": self.final_share,
        }
