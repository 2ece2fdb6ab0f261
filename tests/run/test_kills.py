"""Kill -9 at random moments; `make soak` does it more often."""

from kills import killed_run


def test_a_killed_run_ends_bit_equal(tmp_path):
    outcome = killed_run(tmp_path, kills=2, epochs=40, seed=0)
    assert outcome.kills == 2, outcome
    assert outcome.equal, outcome
