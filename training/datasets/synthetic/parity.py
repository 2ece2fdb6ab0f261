"""Parity: was the number of ones so far even or odd?"""

import numpy as np

from training.datasets.base import Examples, Spec
from training.datasets.synthetic.base import LICENCE, Synthetic, distinct_rows


class Parity(Synthetic):
    """Random bits; at each step, whether the number of ones up to and with that step is even or odd.

    The parity problem of Bengio et al. (1994) asks at the end only. Here each step has a label, of which the last is
    theirs: the parity of all bits says nothing of any part of them, so the last label alone gives gradient descent
    next to nothing to begin with, and models that all stay at chance cannot be compared. The state is one bit that
    every 1 flips, so what is measured is whether a state stays exact for many steps.

    Every bit being drawn by a fair coin, half of the labels are right without memory (but for the first step).
    """

    family = "parity"
    usual_length = 50
    shortest = 16
    counted = "bits"

    def _describe(self, name: str) -> Spec:
        return Spec(
            name=name,
            summary="generated: is the number of ones so far even or odd",
            features="a bit, 0 or 1",
            channels=1,
            classes=("even", "odd"),
            lengths=(self.length, self.length),
            counts=self.counts,
            licence=LICENCE,
            citation="Y. Bengio, P. Simard and P. Frasconi (1994). Learning long-term dependencies with gradient "
            "descent is difficult. IEEE Transactions on Neural Networks 5(2), 157-166",
            homepage="https://doi.org/10.1109/72.279181",
            split_rule=self.split_rule,
            task="labelling",
        )

    def _make(self, random: np.random.RandomState, total: int, chosen: slice) -> Examples:
        bits = distinct_rows(lambda count: random.randint(0, 2, (count, self.length), dtype=np.int64), total)[chosen]
        return Examples(list(bits[:, :, None].astype(np.float32)), list(np.cumsum(bits, axis=1) % 2))
