"""Intervals, tests and ranks on plain numbers, which `training.study.comparison` applies to runs.

Tests over several datasets follow J. Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", Journal
of Machine Learning Research 7 (2006).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

_LEVEL = 0.95
_RESAMPLES = 20_000


def bootstrap_interval(values: Sequence[float]) -> Interval | None:
    """A 95 % interval of the mean by the bootstrap, the same at every call; `None` of fewer than two values.

    The percentiles are those of Hesterberg's "expanded" interval, further out than 2.5 and 97.5, because the plain ones
    are too narrow for a few values: T. Hesterberg, "What Teachers Should Know About the Bootstrap", The American
    Statistician 69 (2015), section 5.3. It never reaches beyond the smallest and the largest value.

    Example:
    >>> low, high = bootstrap_interval([0.95, 0.97, 0.96, 0.99, 0.98])
    >>> 0.95 <= low < 0.97 < high <= 0.99
    True
    """
    from scipy import stats

    count = len(values)
    if count < 2:
        return None
    # As many standard errors as Student's t asks for; the root, since resamples vary by the variance over n, not n - 1
    reach = math.sqrt(count / (count - 1)) * stats.t.ppf(0.5 + _LEVEL / 2, count - 1)
    found = stats.bootstrap(
        (np.asarray(values, float),),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=1 - 2 * stats.norm.sf(reach),
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def wilson_interval(successes: int, count: int) -> Interval:
    """A 95 % interval of a share, by Wilson's score; `count` is at least 1.

    Example:
    >>> [round(bound, 3) for bound in wilson_interval(0, 5)]
    [0.0, 0.434]
    """
    from scipy import stats

    found = stats.binomtest(successes, count).proportion_ci(_LEVEL, method="wilson")
    return float(found.low), float(found.high)


def signed_rank(differences: Sequence[float]) -> float | None:
    """The two-sided p-value of Wilcoxon's signed-rank test, `None` of no difference at all.

    It is exact, ties and all: under the null hypothesis every rank falls on either side with probability 1/2. (SciPy's
    exact test takes no ties.) Differences of zero are split evenly between the sides, as Demšar does (section 3.1.3).
    """
    from scipy import stats

    values = np.round(np.asarray(differences, float), 12)  # equal differences must tie, whatever their last bits
    if not values.size:
        return None
    # Twice the ranks are whole numbers, also of ties.
    ranks = np.rint(2 * stats.rankdata(np.abs(values))).astype(int)[values != 0]
    chances = np.ones(1)  # of each sum of the ranks on the positive side
    for each in ranks:
        chances = (np.pad(chances, (0, each)) + np.pad(chances, (each, 0))) / 2
    positive = ranks[values[values != 0] > 0].sum()
    smaller = min(positive, ranks.sum() - positive)
    return float(min(1.0, 2 * chances[: smaller + 1].sum()))


def smallest_p(pairs: int) -> float:
    """The smallest p-value that `signed_rank` can give for so many pairs: all differences have one sign.

    Example:
    >>> smallest_p(5)
    0.0625
    """
    return float(min(1.0, 2.0 ** (1 - pairs)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values such that any below 0.05 is a wrong alarm in at most 5 % of studies.

    S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6 (1979).

    Example:
    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in corrected]


def critical_difference(conditions: int, blocks: int) -> float:
    """How far apart two mean ranks must be to differ at the 5 % level, by Nemenyi's test (Demšar, section 3.2.2).

    Example:
    >>> round(critical_difference(conditions=4, blocks=14), 2)
    1.25
    """
    from scipy import stats

    q = stats.studentized_range.ppf(_LEVEL, conditions, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(conditions * (conditions + 1) / (6 * blocks)))


@dataclass(frozen=True)
class Ranking:
    """Mean ranks over blocks, 1 the best.

    Attributes:
        conditions: Their labels, best first.
        mean_ranks: One each.
        blocks: Over how many.
        p: Of Friedman's test that all conditions are alike; `None` of fewer than three conditions.
        critical_difference: See `critical_difference`.
    """

    conditions: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    blocks: int
    p: float | None
    critical_difference: float

    def alike(self) -> list[tuple[int, int]]:
        """First and last index of each longest group whose ranks are all within the critical difference."""
        groups: list[tuple[int, int]] = []
        for first, rank in enumerate(self.mean_ranks):
            within = [i for i, other in enumerate(self.mean_ranks) if i >= first and other - rank <= self._reach]
            if len(within) > 1 and (not groups or within[-1] > groups[-1][1]):
                groups.append((first, within[-1]))
        return groups

    @property
    def _reach(self) -> float:
        return self.critical_difference + 1e-12


def rank(conditions: Sequence[str], goodness: NDArray[np.float64]) -> Ranking:
    """Rank conditions within each block and average.

    Args:
        conditions: Labels, two or more.
        goodness: (blocks, conditions), higher is better; -inf where a run died, which ranks below all that did not.
    """
    from scipy import stats

    ranks = stats.rankdata(-goodness, axis=1)
    means = ranks.mean(axis=0)
    p = None
    if len(conditions) > 2:
        # Where every block is one tie, Friedman's statistic is 0 / 0.
        p = float(stats.friedmanchisquare(*ranks.T).pvalue) if np.ptp(ranks, axis=1).any() else 1.0
    order = sorted(range(len(conditions)), key=lambda index: (means[index], conditions[index]))
    return Ranking(
        conditions=tuple(conditions[index] for index in order),
        mean_ranks=tuple(float(means[index]) for index in order),
        blocks=len(ranks),
        p=p,
        critical_difference=critical_difference(len(conditions), len(ranks)),
    )
