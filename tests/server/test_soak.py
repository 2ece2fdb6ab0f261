"""A server process under load and under attack, for seconds; `make soak` does it for minutes."""

from pathlib import Path

from serving_soak import half_written, killed, swapped


def test_versions_are_swapped_under_load(saved_models: Path, tmp_path: Path) -> None:
    found = swapped((saved_models / "one", saved_models / "two"), tmp_path, seconds=5, every=1, clients=4, at_least=2)
    assert not found.wrong
    assert found.requests > 100
    assert len(found.taken_over) > 2, found


def test_a_killed_server_comes_back_and_half_a_version_is_never_served(saved_models: Path, tmp_path: Path) -> None:
    for name in ("killed", "half"):
        (tmp_path / name).mkdir()
    assert killed(saved_models / "one", tmp_path / "killed", kills=1) == [True]
    states = half_written(saved_models / "one", tmp_path / "half")
    assert states == {"1": "AVAILABLE", "4": "END"}
