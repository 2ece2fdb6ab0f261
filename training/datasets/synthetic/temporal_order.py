"""Temporal order: which two symbols came, in which order, long ago."""

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Examples, Spec
from training.datasets.synthetic.base import (
    HOCHREITER,
    HOCHREITER_PAGE,
    LICENCE,
    Synthetic,
    distinct_rows,
    one_hot,
)

_SYMBOLS = "EBabcdXY"
_START, _END = _SYMBOLS.index("E"), _SYMBOLS.index("B")
_DISTRACTORS = (_SYMBOLS.index("a"), _SYMBOLS.index("d") + 1)
_X = _SYMBOLS.index("X")


class TemporalOrder(Synthetic):
    """Two symbols X or Y among distractors; the class is what they were, in their order.

    Hochreiter and Schmidhuber's (1997) experiment 6a. A sequence begins with E, ends with B and holds symbols of a, b,
    c, d drawn at random, but for steps t1 and t2, each X or Y. With length L there are L to L + L/10 steps, t1 lies
    from L/10 to 2 L/10, t2 from 5 L/10 to 6 L/10, rounded down, steps counted from 0. Length 100 gives the paper's
    numbers.

    Without memory a quarter of the answers is right, with memory of one of the two symbols a half.
    """

    family = "temporal_order"
    usual_length = 50
    shortest = 20
    counted = "steps of the shortest sequence"

    def _describe(self, name: str) -> Spec:
        return Spec(
            name=name,
            summary="generated: which two symbols came, in which order",
            features="one of the symbols E, B, a, b, c, d, X, Y, one-hot; E is first, B last, and X or Y stand at two "
            "steps, after a tenth to two and after five to six tenths",
            channels=len(_SYMBOLS),
            classes=("XX", "XY", "YX", "YY"),
            lengths=(self.length, self.length + self.length // 10),
            counts=self.counts,
            licence=LICENCE,
            citation=HOCHREITER,
            homepage=HOCHREITER_PAGE,
            split_rule=self.split_rule,
        )

    def _make(self, random: np.random.RandomState, total: int, chosen: slice) -> Examples:
        rows = distinct_rows(lambda count: self._draw(random, count), total)[chosen]
        relevant = rows[rows >= _X].reshape(-1, 2).astype(np.int64) - _X
        return Examples(one_hot(rows, len(_SYMBOLS)), 2 * relevant[:, 0] + relevant[:, 1])

    def _draw(self, random: np.random.RandomState, count: int) -> NDArray[np.int8]:
        """Symbols, `[count, longest]`, -1 behind the end."""

        def between(low: int, high: int) -> NDArray[np.int64]:
            return random.randint(low, high + 1, count, dtype=np.int64)

        longest = self.length + self.length // 10
        tenths = [part * self.length // 10 for part in range(7)]
        lengths = between(self.length, longest)
        positions = [between(tenths[1], tenths[2]), between(tenths[5], tenths[6])]
        rows = random.randint(*_DISTRACTORS, (count, longest), dtype=np.int64).astype(np.int8)
        index = np.arange(count)
        for position in positions:
            rows[index, position] = _X + between(0, 1)
        rows[:, 0] = _START
        rows[index, lengths - 1] = _END
        rows[np.arange(longest) >= lengths[:, None]] = -1
        return rows
