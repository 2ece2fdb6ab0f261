"""The embedded Reber grammar: the last symbol but one is the second again."""

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

_SYMBOLS = "BTPESXV"  # those that are ever a label come first
_B, _T, _P, _E = (_SYMBOLS.index(symbol) for symbol in "BTPE")

# The Reber grammar between its B and its E: from each state two symbols, and the states they lead to.
_MOVES = (
    (("T", 1), ("P", 2)),
    (("S", 1), ("X", 3)),
    (("T", 2), ("V", 4)),
    (("X", 2), ("S", 5)),
    (("P", 3), ("V", 5)),
)
_FINAL = 5
_SYMBOL_OF = np.array([[_SYMBOLS.index(symbol) for symbol, _ in moves] for moves in _MOVES], np.int8)
_NEXT = np.array([[state for _, state in moves] for moves in _MOVES])

_AROUND = len("BTB" + "ETE")
"""Steps of an embedded string that are not moves."""

_FEWEST_MOVES = 3


class EmbeddedReber(Synthetic):
    """Strings of the embedded Reber grammar; the next symbol is wanted wherever the grammar leaves no choice.

    An embedded string is `B T inner T E` or `B P inner P E`, where `inner` is a string of the Reber grammar (Smith and
    Zipser 1989; Hochreiter and Schmidhuber 1997, experiment 1).

    The papers predict the next symbol at every step. At most steps two are equally likely, so even perfect answers are
    right in little more than half of all steps, and the one step that needs the long memory is lost among them. Here
    only those steps have a label after which one symbol alone can follow, four in every string: after the outer T or P
    (then B), before the inner E, after it (then the outer T or P), and before the last E. The third needs the outer
    symbol, and the inner string holds the same T and P to confuse it with; the others need to know where in the grammar
    the string is. So 7/8 of the answers can be right without the long memory, and all with it.

    With length L, strings have 9 to L steps, each length equally likely before doubles are dropped, of which there are
    many among the short ones. Given its length, every string is equally likely, as when the grammar's two ways on are
    chosen by a fair coin.
    """

    family = "embedded_reber"
    usual_length = 40
    shortest = 30
    counted = "steps of the longest string"

    def _describe(self, name: str) -> Spec:
        return Spec(
            name=name,
            summary="generated: what must follow in a string of a grammar",
            features=f"one of the symbols {', '.join(_SYMBOLS)}, one-hot; the label is the next symbol, at the four "
            "steps where the grammar allows only one",
            channels=len(_SYMBOLS),
            classes=("B", "T", "P", "E"),
            lengths=(_AROUND + _FEWEST_MOVES, self.length),
            counts=self.counts,
            licence=LICENCE,
            citation="A. W. Smith and D. Zipser (1989). Learning sequential structure with the real-time recurrent "
            f"learning algorithm. International Journal of Neural Systems 1(2), 125-131; {HOCHREITER}",
            homepage=HOCHREITER_PAGE,
            split_rule=self.split_rule,
            task="labelling",
        )

    def _make(self, random: np.random.RandomState, total: int, chosen: slice) -> Examples:
        rows = distinct_rows(lambda count: self._draw(random, count), total)[chosen]
        labels = []
        for row in rows:
            following = row[row >= 0][1:].astype(np.int64)
            forced = np.isin(np.arange(len(following)), (1, len(following) - 3, len(following) - 2, len(following) - 1))
            labels.append(np.append(np.where(forced, following, -1), -1))
        return Examples(one_hot(rows, len(_SYMBOLS)), labels)

    def _draw(self, random: np.random.RandomState, count: int) -> NDArray[np.int8]:
        """Strings, `[count, longest]`, -1 behind the end."""
        longest = self.length - _AROUND
        moves = random.randint(_FEWEST_MOVES, longest + 1, count, dtype=np.int64)
        outer = random.randint(_T, _P + 1, count, dtype=np.int64)
        shares = _second_shares(longest)
        rows = np.full((count, self.length), -1, np.int8)
        rows[:, 0], rows[:, 1], rows[:, 2] = _B, outer, _B
        left, state = moves.copy(), np.zeros(count, np.int64)
        for step in range(longest):
            going = np.flatnonzero(left)
            second = random.random_sample(count)[going] < shares[left[going], state[going]]
            rows[going, 3 + step] = _SYMBOL_OF[state[going], second.astype(np.int64)]
            state[going] = _NEXT[state[going], second.astype(np.int64)]
            left[going] -= 1
        index = np.arange(count)
        rows[index, moves + 3], rows[index, moves + 4], rows[index, moves + 5] = _E, outer, _E
        return rows


def _second_shares(longest: int) -> NDArray[np.float64]:
    """How many of the ways to the final state take the state's second symbol now, as a share.

    Returns:
        `[longest + 1, states]`, by the moves that are left; 0 where no move leads there.
    """
    shares = np.zeros((longest + 1, len(_MOVES)))
    ways = np.zeros(len(_MOVES) + 1)
    ways[_FINAL] = 1
    for left in range(1, longest + 1):
        second = ways[_NEXT[:, 1]]
        both = ways[_NEXT[:, 0]] + second
        np.divide(second, both, out=shares[left], where=both > 0)
        ways = np.append(both, 0.0) / both.max()  # only ratios matter; the numbers themselves would overflow
    return shares
