"""The adding problem: remember two marked numbers among many, and add them."""

import numpy as np

from training.datasets.base import Examples, Reference, Spec
from training.datasets.synthetic.base import (
    ARJOVSKY,
    ARJOVSKY_PAGE,
    HOCHREITER,
    LICENCE,
    Synthetic,
)


class AddingProblem(Synthetic):
    """Two numbers of a long sequence are marked; their sum is wanted at its end.

    The problem is Hochreiter and Schmidhuber's (1997, experiment 4), in the variant of Arjovsky et al. (2016): fixed
    length, numbers uniform from 0 to 1, one marker in each half, the plain sum. In the original, lengths vary by a
    tenth, numbers lie in -1 to 1, the first marker is among the first ten steps, and the sum is scaled.

    Always answering 1 has a mean squared error of 1/6 = 0.1667, the variance of a sum of two independent uniform
    numbers. Le, Jaitly and Hinton (2015, arXiv:1504.00941) and papers after them print 0.1767 instead.
    """

    family = "adding_problem"
    usual_length = 100
    shortest = 2
    counted = "steps"

    def _describe(self, name: str) -> Spec:
        return Spec(
            name=name,
            summary="generated: add two marked numbers",
            features="a number from 0 to 1, and a marker: 1 at one step in each half of the sequence, else 0",
            channels=2,
            classes=(),
            lengths=(self.length, self.length),
            counts=self.counts,
            licence=LICENCE,
            citation=f"{HOCHREITER}; this variant: {ARJOVSKY}",
            homepage=ARJOVSKY_PAGE,
            split_rule=self.split_rule,
            references=(
                Reference(
                    "expected mean squared error of always answering 1",
                    1 / 6,
                    "variance of a sum of two uniform numbers; Arjovsky et al. (2016) print 0.167",
                ),
            ),
            task="regression",
            outputs=("sum of the two marked numbers",),
        )

    def _make(self, random: np.random.RandomState, total: int, chosen: slice) -> Examples:
        half = self.length // 2
        numbers = random.random_sample((total, self.length)).astype(np.float32)[chosen]
        first = random.randint(0, half, total, dtype=np.int64)[chosen]
        second = random.randint(half, self.length, total, dtype=np.int64)[chosen]
        rows = np.arange(len(numbers))
        markers = np.zeros_like(numbers)
        markers[rows, first] = markers[rows, second] = 1
        sums = numbers[rows, first] + numbers[rows, second]
        return Examples(list(np.stack([numbers, markers], axis=-1)), sums[:, None])
