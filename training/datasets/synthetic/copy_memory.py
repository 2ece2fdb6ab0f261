"""Copying memory: repeat ten symbols after a long silence."""

import math

import numpy as np

from training.datasets.base import Examples, Reference, Spec
from training.datasets.synthetic.base import (
    ARJOVSKY,
    ARJOVSKY_PAGE,
    HOCHREITER,
    LICENCE,
    Synthetic,
    distinct_rows,
    one_hot,
)

_SYMBOLS, _REMEMBERED = 8, 10
_BLANK, _GO = _SYMBOLS, _SYMBOLS + 1


class CopyMemory(Synthetic):
    """Ten symbols, a silence, a go signal: then the ten symbols are wanted again, in their order.

    The form is that of Arjovsky et al. (2016), of a kind of problem from Hochreiter and Schmidhuber (1997). With a
    delay of T, a sequence has T + 20 steps: 10 symbols of 8, T - 1 blanks, the go signal, 10 blanks. The label is
    "blank" at the first T + 10 steps and the remembered symbol at the last 10.

    Saying "blank" for T + 10 steps and guessing for 10 has a cross entropy of 10 ln 8 / (T + 20) nats a step, and is
    right in (T + 10 + 10 / 8) / (T + 20) of all steps.
    """

    family = "copy_memory"
    usual_length = 20
    shortest = 1
    counted = "steps of delay"

    def _describe(self, name: str) -> Spec:
        steps = self.length + 2 * _REMEMBERED
        return Spec(
            name=name,
            summary="generated: repeat ten symbols after a silence",
            features=f"one of {_SYMBOLS} symbols, blank, or the go signal, one-hot; {_REMEMBERED} symbols come first, "
            f"the go signal {_REMEMBERED} steps before the end",
            channels=_SYMBOLS + 2,
            classes=(*map(str, range(_SYMBOLS)), "blank"),
            lengths=(steps, steps),
            counts=self.counts,
            licence=LICENCE,
            citation=f"{HOCHREITER}; this form: {ARJOVSKY}",
            homepage=ARJOVSKY_PAGE,
            split_rule=self.split_rule,
            references=(
                Reference(
                    "expected cross entropy, nats a step, of saying blank until the go signal and guessing after it",
                    _REMEMBERED * math.log(_SYMBOLS) / steps,
                    "Arjovsky et al. (2016)",
                ),
            ),
            task="labelling",
        )

    def _make(self, random: np.random.RandomState, total: int, chosen: slice) -> Examples:
        memory = distinct_rows(lambda count: random.randint(0, _SYMBOLS, (count, _REMEMBERED), dtype=np.int64), total)[
            chosen
        ]
        symbols = np.full((len(memory), self.length + 2 * _REMEMBERED), _BLANK, np.int8)
        symbols[:, :_REMEMBERED] = memory
        symbols[:, -_REMEMBERED - 1] = _GO
        labels = np.full(symbols.shape, _BLANK, np.int64)
        labels[:, -_REMEMBERED:] = memory
        return Examples(one_hot(symbols, _SYMBOLS + 2), list(labels))
