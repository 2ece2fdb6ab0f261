"""Compares the rows of a study: scores, differences, ranks, speed and causes of failure.

A run that diverged or failed is *dead*. It has no model, so its score is not missing at random and must not be left
out: in a mean or a difference it counts as guessing, or as the worst score that any run of that dataset converged to,
whichever is worse; in ranks it is below every run that converged. So dying never helps.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.run.metrics import METRICS, main_metric
from training.study.results import Row
from training.study.statistics import Interval, Ranking, bootstrap_interval, holm, rank, signed_rank

Part = Literal["validation", "test"]

# The level that "time to level" asks for, as a share of the baseline's mean validation score
LEVEL = 0.95

# Decimals by which scores are compared: equal scores must tie, whatever their last bits.
_DIGITS = 12

_PREFIX = {"validation": "best_validation", "test": "test"}


@dataclass(frozen=True)
class Board:
    """The scores of one dataset on one split.

    Attributes:
        dataset: Its label.
        metric: The name of the metric by which its runs are judged.
        scores: By (condition, seed); `None` of a dead run.
        worst: What a dead run counts as; NaN where that is not known, because no run converged.
        unit: What differences are divided by before they are compared across datasets: 1 of an accuracy, the standard
            deviation of the targets of an error.
    """

    dataset: str
    metric: str
    scores: Mapping[tuple[str, int], float | None]
    worst: float
    unit: float

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if METRICS[self.metric].is_share else -1

    @property
    def conditions(self) -> list[str]:
        """With a row on this dataset, sorted."""
        return sorted({condition for condition, _ in self.scores})

    def of(self, condition: str) -> dict[int, float | None]:
        """Its scores by seed; `None` of a dead run."""
        return {seed: self.scores[name, seed] for name, seed in sorted(self.scores) if name == condition}

    def converged(self, condition: str) -> list[float]:
        """The scores of the runs that did not die."""
        return [score for score in self.of(condition).values() if score is not None]

    def counted(self, condition: str) -> list[float]:
        """The scores of all runs, dead ones as `worst`."""
        return [self._count(score) for score in self.of(condition).values()]

    def differences(self, condition: str, baseline: str) -> list[float]:
        """Condition minus baseline for every seed that both have; 0 where both runs are dead."""
        return [
            0.0 if ours is theirs is None else self._count(ours) - self._count(theirs)
            for ours, theirs in self._pairs(condition, baseline)
        ]

    def dead_pairs(self, condition: str, baseline: str) -> int:
        """Seeds that both have, of which at least one run is dead."""
        return sum(None in pair for pair in self._pairs(condition, baseline))

    def places(self) -> dict[str, float]:
        """The place of each condition by its mean score, 1 the best; equal scores share the mean of their places.

        Where no run converged, all are equal.
        """
        from scipy import stats

        names = self.conditions
        if not math.isfinite(self.worst):
            return dict.fromkeys(names, (len(names) + 1) / 2)
        means = np.round([float(np.mean(self.counted(name))) for name in names], _DIGITS)
        return dict(zip(names, stats.rankdata(-self.sign * means).tolist(), strict=True))

    def by_score(self) -> list[str]:
        """The conditions, best mean score first; equal ones in order of their names."""
        places = self.places()
        return sorted(places, key=lambda name: (places[name], name))

    def _count(self, score: float | None) -> float:
        return self.worst if score is None else score

    def _pairs(self, condition: str, baseline: str) -> list[tuple[float | None, float | None]]:
        ours, theirs = self.of(condition), self.of(baseline)
        return [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]


def board(rows: Sequence[Row], dataset: str, part: Part) -> Board:
    """Collect the scores of `dataset` on the split `part`."""
    rows = [row for row in rows if row.dataset == dataset]
    metric = main_metric(name for row in rows for each in (row.metrics, *row.history[:1]) for name in each).name
    prefix = _PREFIX[part]
    scores: dict[tuple[str, int], float | None] = {}
    for row in rows:
        value = row.metrics.get(f"{prefix}/{metric}", math.nan)
        scores[row.condition, row.seed] = value if row.outcome == "converged" and math.isfinite(value) else None
    alive = [score for score in scores.values() if score is not None]
    if METRICS[metric].is_share:
        chances = [math.exp(-row.guessing) for row in rows if math.isfinite(row.guessing)]
        return Board(dataset, metric, scores, min([*chances, *alive], default=0.0), 1.0)
    spread = _spread(rows, prefix)
    return Board(dataset, metric, scores, max([spread, *alive]) if alive else math.nan, spread or 1.0)


def _spread(rows: Sequence[Row], prefix: str) -> float:
    """The standard deviation of the targets, above which the mean absolute error of guessing the mean cannot be.

    A loss is the squared error over the variance (`training.run.tasks.Scores`), so it gives the variance back; of
    several outputs, about.
    """
    found = [
        row.metrics[f"{prefix}/root_mean_squared_error"] / math.sqrt(row.metrics[f"{prefix}/loss"])
        for row in rows
        if row.metrics.get(f"{prefix}/loss", 0) > 0 and f"{prefix}/root_mean_squared_error" in row.metrics
    ]
    return float(np.median(found)) if found else 0.0


@dataclass(frozen=True)
class Difference:
    """A condition against the baseline on one dataset.

    Attributes:
        mean: Condition minus baseline, paired by seed.
        interval: Confidence interval of the mean; `None` for a single pair.
        pairs: How many.
        dead: Pairs of which at least one run is dead.
    """

    mean: float
    interval: Interval | None
    pairs: int
    dead: int


def difference(scores: Board, condition: str, baseline: str) -> Difference | None:
    """Compare `condition` with `baseline`; `None` where they have no seed in common."""
    values = scores.differences(condition, baseline)
    if not values:
        return None
    dead = scores.dead_pairs(condition, baseline)
    return Difference(float(np.mean(values)), bootstrap_interval(values), len(values), dead)


@dataclass(frozen=True)
class Overall:
    """A condition against the baseline over all datasets.

    Attributes:
        better: Pairs of runs, of one dataset and seed each, in which it is better.
        same: In which both are equal.
        worse: In which it is worse.
        gain: The mean difference, errors in units of the spread of the targets; above 0 it is better.
        p: The p-value of the signed-rank test.
        corrected: By Holm, over all conditions.
    """

    better: int
    same: int
    worse: int
    gain: float
    p: float
    corrected: float


def overall(boards: Sequence[Board], baseline: str) -> dict[str, Overall]:
    """Compare every condition with `baseline` over the pairs of all datasets; those without a pair are left out."""
    tested: list[tuple[str, list[float], float]] = []
    for condition in sorted({name for each in boards for name in each.conditions} - {baseline}):
        gains = [each.sign * value / each.unit for each in boards for value in each.differences(condition, baseline)]
        p = signed_rank(gains)
        if p is not None:
            tested.append((condition, gains, p))
    corrected = holm([p for *_, p in tested])
    return {
        condition: Overall(
            better=sum(gain > 0 for gain in gains),
            same=sum(gain == 0 for gain in gains),
            worse=sum(gain < 0 for gain in gains),
            gain=float(np.mean(gains)),
            p=p,
            corrected=after,
        )
        for (condition, gains, p), after in zip(tested, corrected, strict=True)
    }


def ranking(boards: Sequence[Board]) -> Ranking | None:
    """Rank the conditions within every dataset and seed that all of them have run; `None` where there is none yet."""
    conditions = sorted({name for each in boards for name in each.conditions})
    blocks = []
    for each in boards:
        for seed in sorted({seed for _, seed in each.scores}):
            if all((condition, seed) in each.scores for condition in conditions):
                scores = [each.scores[condition, seed] for condition in conditions]
                blocks.append([-math.inf if score is None else each.sign * score for score in scores])
    return rank(conditions, np.array(blocks)) if blocks and len(conditions) > 1 else None


def mean_places(boards: Sequence[Board]) -> dict[str, float]:
    """The mean of the places of each condition among the datasets, by which `in_order` and `best` judge."""
    places: dict[str, list[float]] = {}
    for each in boards:
        for condition, place in each.places().items():
            places.setdefault(condition, []).append(place)
    return {condition: round(float(np.mean(values)), _DIGITS) for condition, values in places.items()}


def in_order(boards: Sequence[Board]) -> list[str]:
    """All conditions, by the mean of their places among the datasets, best first; equal ones in order of their names.

    The first is not the only best one where others have the same mean: see `best`.
    """
    means = mean_places(boards)
    return sorted(means, key=lambda name: (means[name], name))


def best(boards: Sequence[Board]) -> list[str]:
    """Every condition whose mean of places is the best there is: more than one where they tie."""
    means = mean_places(boards)
    return [name for name in in_order(boards) if means[name] == min(means.values())]


@dataclass(frozen=True)
class Speed:
    """How soon the runs of a condition reach a level of the validation metric; a dead run never does.

    Attributes:
        epochs: The median over runs, infinite where half of them or more never reach it.
        seconds: The same, by the run's mean seconds an epoch.
        reached: Runs that reach it.
        runs: All of them.
    """

    epochs: float
    seconds: float
    reached: int
    runs: int


def level(validation: Board, baseline: str) -> float | None:
    """95 % of the mean validation score of the baseline's runs that converged (of an error, the mean over 95 %)."""
    scores = validation.converged(baseline)
    return float(np.mean(scores)) * LEVEL**validation.sign if scores else None


def speed(rows: Sequence[Row], condition: str, validation: Board, wanted: float) -> Speed:
    """When the runs of `condition` reach the level `wanted`."""
    rows = [row for row in rows if (row.condition, row.dataset) == (condition, validation.dataset)]
    name = f"validation/{validation.metric}"
    epochs, seconds = [], []
    for row in rows:
        hits = (
            epoch
            for epoch, values in enumerate(row.history, 1)
            if validation.sign * (values.get(name, math.nan) - wanted) >= 0
        )
        epoch = next(hits, math.inf) if row.outcome == "converged" else math.inf
        epochs.append(epoch)
        seconds.append(row.seconds * epoch / len(row.history) if math.isfinite(epoch) else math.inf)
    reached = sum(map(math.isfinite, epochs))
    return Speed(float(np.median(epochs)), float(np.median(seconds)), reached, len(rows))


@dataclass(frozen=True)
class Cause:
    """Runs that died alike: their reasons are equal but for numbers.

    Attributes:
        outcome: "diverged" or "failed".
        example: The first of them, whole.
        rows: All of them.
    """

    outcome: str
    example: str
    rows: tuple[Row, ...]


_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?([eE][-+]?\d+)?|\b(nan|inf)\b)")


def causes(rows: Sequence[Row]) -> list[Cause]:
    """Group the dead runs by why they died, the most frequent cause first."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.outcome != "converged":
            groups.setdefault((row.outcome, _NUMBER.sub("#", row.reason)), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Cause(outcome, group[0].reason, tuple(group)) for (outcome, _), group in ordered]
