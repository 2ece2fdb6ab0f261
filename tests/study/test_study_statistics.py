"""The numbers of a study's report, against published and hand-worked ones."""

import math

import numpy as np
import pytest
from study_rows import DIVERGED, dead, row

from training.study import comparison, report_tables, statistics

# Demšar (2006), table 6: ranks of four ways to build a tree by the area under the curve, on 14 datasets
TREES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
RANKS = [
    (4, 3, 2, 1),
    (1, 2, 3, 4),
    (4, 1, 2, 3),
    (4, 1, 3, 2),
    (4, 2, 3, 1),
    (1, 2.5, 4, 2.5),
    (3, 2, 4, 1),
    (2.5, 2.5, 4, 1),
    (4, 3, 2, 1),
    (2.5, 2.5, 2.5, 2.5),
    (4, 2.5, 1, 2.5),
    (3, 2, 4, 1),
    (4, 1, 2, 3),
    (3, 1, 4, 2),
]
# Table 2: what the second gains over the first, on the same datasets
GAINS = [0.005, -0.008, 0.017, 0.033, 0.006, -0.005, 0.007, 0, 0.063, 0, 0.022, 0.047, 0.009, 0.021]


def test_ranks_and_critical_difference_are_those_published():
    ranking = statistics.rank(TREES, -np.array(RANKS))
    means = dict(zip(ranking.conditions, ranking.mean_ranks, strict=True))
    assert [round(means[name], 3) for name in TREES] == [3.143, 2.0, 2.893, 1.964]
    assert ranking.conditions[0] == "C4.5+m+cf"
    assert ranking.critical_difference == pytest.approx(1.25, abs=0.005)
    assert ranking.alike() == [(0, 3)]  # "the data is not sufficient": 3.143 - 1.964 < 1.25
    # Published: chi-square 9.28 with 3 degrees of freedom, without the correction for ties, which is 1 - 78 / 840 here.
    from scipy import stats

    assert stats.chi2.isf(ranking.p, 3) * (1 - 78 / 840) == pytest.approx(9.28, abs=0.01)


@pytest.mark.parametrize(("conditions", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_values_are_those_of_the_published_table(conditions, q):
    unit = math.sqrt(conditions * (conditions + 1) / 6)
    assert statistics.critical_difference(conditions, 1) / unit == pytest.approx(q, abs=0.001)


def test_groups_that_are_not_told_apart():
    ranking = statistics.Ranking(("a", "b", "c", "d", "e"), (1.0, 1.9, 2.8, 4.5, 4.8), 20, 0.01, 1.0)
    assert ranking.alike() == [(0, 1), (1, 2), (3, 4)]


def test_signed_rank_is_that_published():
    # Demšar's table 2 (C4.5 against C4.5+m): T = 12 of N = 14, so z = (12 - 52.5) / 15.93 = -2.54
    assert statistics.signed_rank(GAINS) == pytest.approx(0.011, abs=0.004)  # normal, and by all signs
    # "for N = 14 the critical value is 21": the sum of the ranks on the smaller side, here of one sign each
    ranks = np.arange(1.0, 15)
    assert statistics.signed_rank(np.where(np.isin(ranks, [1, 7, 13]), -ranks, ranks)) < 0.05
    assert statistics.signed_rank(np.where(np.isin(ranks, [1, 7, 14]), -ranks, ranks)) > 0.05
    from scipy import stats

    values = np.random.default_rng(0).normal(0.3, 1, 17)
    assert statistics.signed_rank(values) == pytest.approx(stats.wilcoxon(values, method="exact").pvalue, rel=1e-9)
    tied = [1, -1, 2, 2, -3, 3, 3, 0]  # all 2 ** 8 signs, by SciPy
    assert statistics.signed_rank(tied) == pytest.approx(stats.wilcoxon(tied, zero_method="zsplit").pvalue, rel=1e-9)
    assert statistics.signed_rank([0.0, 0.0]) == 1
    assert statistics.signed_rank([]) is None
    assert statistics.signed_rank([0.1, 0.2, 0.3, 0.4, 0.5]) == statistics.smallest_p(5)


def test_wilson_is_the_formula():
    n, p, z = 10, 0.1, 1.959964
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert statistics.wilson_interval(1, 10) == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_intervals_of_few_values():
    assert statistics.bootstrap_interval([]) is None
    assert statistics.bootstrap_interval([0.5]) is None
    assert statistics.bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert statistics.bootstrap_interval([0.2, 0.4]) == (0.2, 0.4)


def test_intervals_hold_the_mean_nearly_as_often_as_they_say():
    samples = np.random.default_rng(1).normal(size=(300, 5))
    bounds = [statistics.bootstrap_interval(list(sample)) for sample in samples]
    held = np.mean([low <= 0 <= high for low, high in bounds])
    assert 0.9 <= held <= 0.96  # the plain percentiles of 2.5 and 97.5 hold it in 83 %


def test_a_dead_run_counts_as_the_worst():
    rows = [row(seed=0, score=0.9), row("relu", seed=0, score=0.05), dead(seed=1), dead(seed=2, outcome="failed")]
    board = comparison.board(rows, "vowels", "test")
    assert board.worst == 0.05  # below guessing one of ten
    assert board.counted("relu") == [0.05] * 3
    assert comparison.board(rows[:1] + rows[2:], "vowels", "test").worst == pytest.approx(0.1)
    errors = [row(dataset="sums", score=0.3), dead(dataset="sums")]
    assert comparison.board(errors, "sums", "test").worst == pytest.approx(2)  # sqrt(1 / 0.25): the spread
    assert comparison.board([*errors, row("selu", "sums", score=7.0)], "sums", "test").worst == 7
    unmeasured = row("relu", metrics={"test/accuracy": math.nan})
    assert comparison.board([row(), unmeasured], "vowels", "test").of("relu") == {0: None}


@pytest.mark.parametrize("dataset", ["vowels", "sums"])
def test_dying_never_helps(dataset):
    scores = {"tanh": [0.5, 0.6, 0.7], "relu": [0.4, 0.65, 0.9], "selu": [0.3, 0.3, 0.3]}
    rows = [row(name, dataset, seed, score) for name, each in scores.items() for seed, score in enumerate(each)]
    for index in (3, 4, 5):
        died = [*rows[:index], dead("relu", dataset, index - 3), *rows[index + 1 :]]
        before, after = (comparison.board(each, dataset, "test") for each in (rows, died))
        sign = before.sign
        assert sign * np.mean(after.counted("relu")) < sign * np.mean(before.counted("relu"))
        ours, theirs = (np.mean(each.differences("relu", "tanh")) for each in (after, before))
        assert sign * ours < sign * theirs
        place = [
            dict(zip(ranks.conditions, ranks.mean_ranks, strict=True))["relu"]
            for ranks in (comparison.ranking([before]), comparison.ranking([after]))
        ]
        assert place[1] >= place[0]


def test_differences_are_paired_by_seed():
    rows = [row(seed=seed, score=score) for seed, score in ((0, 0.5), (1, 0.8), (2, 0.9))]
    rows += [row("relu", seed=2, score=0.8), row("relu", seed=0, score=0.7), dead(seed=1), row("relu", seed=3)]
    board = comparison.board(rows, "vowels", "test")
    found = comparison.difference(board, "relu", "tanh")
    assert found.mean == pytest.approx((0.2 - 0.7 - 0.1) / 3)
    assert (found.pairs, found.dead) == (3, 1)
    assert found.interval == pytest.approx((-0.7, 0.2))
    assert comparison.difference(board, "selu", "tanh") is None
    both = comparison.board([dead(), dead("tanh")], "vowels", "test")
    assert both.differences("relu", "tanh") == [0.0]


def test_units_do_not_matter_over_datasets():
    def boards(scale):
        rows = []
        for seed in range(6):
            rows += [row(seed=seed, score=0.8), row("relu", seed=seed, score=0.81 + 0.001 * seed)]
            for name, error in (("tanh", 0.3), ("relu", 0.32 - 0.01 * seed)):
                metrics = {"test/loss": 0.25, "test/root_mean_squared_error": scale}
                metrics["test/mean_absolute_error"] = error * scale
                rows.append(row(name, "sums", seed, metrics=metrics))
        return [comparison.board(rows, dataset, "test") for dataset in ("vowels", "sums")]

    small, large = (comparison.overall(boards(scale), "tanh")["relu"] for scale in (1.0, 1000.0))
    assert (small.better, small.same, small.worse) == (9, 1, 2)
    assert small.p == large.p == small.corrected
    assert small.gain == pytest.approx(large.gain)


def test_ranks_are_over_complete_blocks_with_the_dead_last():
    rows = [row(seed=0), dead(seed=0), row("selu", seed=0, score=0.01), row(seed=1), row("selu", seed=1)]
    ranking = comparison.ranking([comparison.board(rows, "vowels", "test")])
    assert (ranking.conditions, ranking.mean_ranks, ranking.blocks) == (("tanh", "selu", "relu"), (1, 2, 3), 1)
    assert comparison.ranking([comparison.board(rows[:1], "vowels", "test")]) is None
    tied = [row(name, seed=seed) for name in ("a", "b", "c") for seed in (0, 1)]
    assert comparison.ranking([comparison.board(tied, "vowels", "test")]).p == 1


def test_when_a_level_is_reached():
    def run(condition, seed, *curve, **changes):
        history = [{"validation/accuracy": value} for value in curve]
        return row(condition, seed=seed, score=0.8, history=history, seconds=10.0 * len(curve), **changes)

    rows = [run("tanh", 0, 0.5, 0.7, 0.8), run("tanh", 1, 0.77, 0.8), run("tanh", 2, 0.1, 0.2)]
    rows += [run("relu", 0, 0.8, outcome="diverged"), run("relu", 1, 0.8)]
    board = comparison.board(rows, "vowels", "validation")
    level = comparison.level(board, "tanh")
    assert level == pytest.approx(0.95 * 0.8)
    assert comparison.speed(rows, "tanh", board, level) == comparison.Speed(3, 30, 2, 3)
    assert comparison.speed(rows, "relu", board, level) == comparison.Speed(math.inf, math.inf, 1, 2)
    assert comparison.level(board, "selu") is None
    errors = comparison.board([row(dataset="sums", score=0.19)], "sums", "validation")
    assert comparison.level(errors, "tanh") == pytest.approx(0.2)


def test_causes_are_grouped_without_their_numbers():
    reasons = [DIVERGED.format(loss=loss, epoch=epoch, layer=epoch) for loss, epoch in ((math.nan, 3), (-1.5e30, 12))]
    rows = [dead(seed=seed, reason=reason) for seed, reason in enumerate(reasons)]
    rows += [row(seed=5), dead(seed=3, outcome="failed")]
    found = comparison.causes(rows)
    assert [(cause.outcome, len(cause.rows)) for cause in found] == [("diverged", 2), ("failed", 1)]
    assert found[0].example == reasons[0]


def boards(scores):
    """Validation boards of {dataset: {condition: score of every seed}}."""
    rows = [
        row(condition, dataset, seed, score)
        for dataset, conditions in scores.items()
        for condition, values in conditions.items()
        for seed, score in enumerate(values)
    ]
    return rows, [comparison.board(rows, dataset, "validation") for dataset in scores]


def test_equal_scores_share_their_place_and_the_alphabet_decides_nothing():
    # 0.1 + 0.2 is not 0.3 to the last bit, and the mean of both is equal all the same.
    tie = {"tanh": [0.1 + 0.2, 0.5], "relu": [0.3, 0.5]}
    _, made = boards({"vowels": tie, "digits": {"tanh": [0.9, 0.9], "relu": [0.8, 0.8]}})
    assert made[0].places() == {"relu": 1.5, "tanh": 1.5}
    assert comparison.mean_places(made) == {"relu": 1.75, "tanh": 1.25}
    assert comparison.in_order(made) == ["tanh", "relu"]
    assert comparison.best(made) == ["tanh"]


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"a": [0.5], "b": [0.9], "c": [0.9]}, "Best by validation over all datasets: **b** and **c**, which tie."),
        ({"a": [0.9], "b": [0.9]}, "By validation over all datasets, all 2 conditions tie."),
        ({"a": [0.9], "b": [0.5]}, "Best by validation over all datasets: **a**."),
    ],
)
def test_the_summary_names_every_condition_that_is_best(scores, said):
    rows, made = boards({"vowels": scores})
    assert said in report_tables.summary(rows, made, made, "a", None)


def test_where_no_run_converged_all_conditions_tie():
    dead_board = comparison.board([dead("a", "sums"), dead("b", "sums")], "sums", "validation")
    assert dead_board.places() == {"a": 1.5, "b": 1.5}
