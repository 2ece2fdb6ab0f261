"""Runs that die by SIGKILL and are resumed end bit-equal; `make soak` does it more often, at random moments."""

import pytest
from kills import killed_run


def test_a_killed_run_ends_bit_equal(tmp_path):
    outcome = killed_run(tmp_path, [("training", 3)], epochs=4)
    assert outcome.epochs_at_kill == [2]
    assert outcome.equal, outcome


@pytest.mark.slow
def test_a_run_that_dies_at_every_kind_of_point_ends_bit_equal(tmp_path):
    points = [("started", 1), ("training", 1), ("writing", 1), ("written", 2), ("writing", 4), ("training", 6)]
    outcome = killed_run(tmp_path, points, epochs=7)
    assert outcome.epochs_at_kill == [-1, -1, -1, 2, 3, 5]
    assert outcome.equal, outcome
