"""The Mackey-Glass equation: forecast a chaotic series."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Examples, Spec
from training.datasets.synthetic.base import LICENCE, Synthetic

_DELAY = 17
_PRODUCTION, _DECAY = 0.2, 0.1
_BEGINS = (1000, 1100)
_SUBSTEPS = 10


class MackeyGlass(Synthetic):
    """A window of a chaotic series, and the 84 steps that follow it.

    dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x(t), the equation of Mackey and Glass (1977) with the numbers that
    forecasting has settled on; a step is one unit of time, and 84 steps ahead is the customary distance. The series is
    free of noise, so the only floor is the accuracy of float32.

    Every example has a trajectory of its own, so no window overlaps another, of whatever split. It comes from
    `integrate` with a constant history and begins at a unit drawn from 1000 to 1099. The histories are evenly spaced
    between 0.5 and 1.5, in a random order, because trajectories of histories that are much closer than that would not
    have parted by then. A window of fewer than 18 steps would not cover the delay.
    """

    family = "mackey_glass"
    usual_length = 100
    shortest = _DELAY + 1
    counted = "steps of the window"
    counts: ClassVar[dict[str, int]] = {"train": 2000, "test": 1000}
    horizon = 84

    def _describe(self, name: str) -> Spec:
        return Spec(
            name=name,
            summary="generated: forecast a chaotic series",
            features=f"x of the Mackey-Glass equation with delay {_DELAY}, dimensionless; a step is one unit of time",
            channels=1,
            classes=(),
            lengths=(self.length, self.length),
            counts=self.counts,
            licence=LICENCE,
            citation="M. C. Mackey and L. Glass (1977). Oscillation and chaos in physiological control systems. "
            "Science 197(4300), 287-289",
            homepage="https://doi.org/10.1126/science.267326",
            split_rule=self.split_rule,
            task="forecasting",
            outputs=("x (dimensionless)",),
            horizon=self.horizon,
        )

    def _make(self, random: np.random.RandomState, total: int, chosen: slice) -> Examples:
        histories = 0.5 + (random.permutation(total)[chosen] + 0.5) / total
        begins = random.randint(*_BEGINS, total, dtype=np.int64)[chosen]
        steps = begins[:, None] + np.arange(self.length + self.horizon)
        series = integrate(histories, int(steps.max()))[steps, np.arange(len(steps))[:, None]]
        rows = series.astype(np.float32)[:, :, None]
        return Examples(list(rows[:, : self.length]), rows[:, self.length :])


def integrate(histories: NDArray[np.float64], units: int, substeps: int = _SUBSTEPS) -> NDArray[np.float64]:
    """Trajectories of the Mackey-Glass equation, each from a constant history.

    Classical Runge-Kutta of order 4 in float64. The delay is a whole number of its steps; the delayed value in the
    middle of a step is that of the cubic Hermite polynomial through its ends, so the error falls with the fourth power
    of the step. Powers are multiplied out: the last bit of `**` differs between machines, and chaos amplifies that.

    Args:
        histories: x up to time 0, `[n]`.
        units: Up to which time, in units.
        substeps: Runge-Kutta steps a unit.

    Returns:
        x at times 0, 1, ... `units`, float64 `[units + 1, n]`.

    Example:
    >>> integrate(np.array([1.0, 1.2]), units=2).round(4).tolist()
    [[1.0, 1.2], [1.0, 1.1176], [1.0, 1.043]]
    """
    step, delay = 1 / substeps, _DELAY * substeps
    # Rings: production at the last delay + 1 ends of a step, and in the middle of the last `delay` steps.
    ends = np.tile(_produced(histories), (delay + 1, 1))
    middles = ends[1:].copy()
    x, trajectories = histories, [histories]
    for now in range(units * substeps):
        start, middle, end = ends[(now + 1) % (delay + 1)], middles[now % delay], ends[(now + 2) % (delay + 1)]
        slope = start - _DECAY * x
        slope_2 = middle - _DECAY * (x + step / 2 * slope)
        slope_3 = middle - _DECAY * (x + step / 2 * slope_2)
        slope_4 = end - _DECAY * (x + step * slope_3)
        after = x + step / 6 * (slope + 2 * slope_2 + 2 * slope_3 + slope_4)
        between = (x + after) / 2 + step / 8 * (slope - (end - _DECAY * after))
        ends[(now + 1) % (delay + 1)], middles[now % delay] = _produced(after), _produced(between)
        x = after
        if (now + 1) % substeps == 0:
            trajectories.append(x)
    return np.stack(trajectories)


def _produced(x: NDArray[np.float64]) -> NDArray[np.float64]:
    square = x * x
    eighth = square * square
    eighth = eighth * eighth
    return _PRODUCTION * x / (1 + eighth * square)
