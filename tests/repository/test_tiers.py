"""Which cases `make test` runs."""

from types import SimpleNamespace

import pytest
import tiers


class Item(SimpleNamespace):
    """What `tiers.shorten` asks of a test."""

    def get_closest_marker(self, name):
        return next((mark for mark in self.marks if mark.name == name), None)

    def add_marker(self, mark):
        self.marks.append(mark.mark)


def items(name, count, *marks):
    return [Item(nodeid=f"{name}[{case}]", marks=[mark.mark for mark in marks]) for case in range(count)]


def quick(tests, elsewhere):
    tiers.shorten(tests, elsewhere)
    return [test.nodeid for test in tests if not test.get_closest_marker("slow")]


@pytest.mark.parametrize(("elsewhere", "counts"), [(False, (9, 4, 4)), (True, (9, 1, 2))])
def test_a_sample_runs_and_all_is_left_to_make_test_all(elsewhere, counts):
    other = pytest.mark.any_backend

    def tests():
        return [
            *items("of_tensorflow", 9),
            *items("with_default", 4, other),
            *items("sampled", 9, other, pytest.mark.sample(4, elsewhere=2)),
        ]

    chosen = quick(tests(), elsewhere)
    found = tuple(sum(name.startswith(test) for name in chosen) for test in ("of", "with", "sampled"))
    assert found == counts  # those of TensorFlow alone are kept from other backends by `-m any_backend`
    assert quick(tests()[::-1], elsewhere) == chosen[::-1]


def test_what_is_slow_already_takes_no_place_in_the_sample():
    slow = items("test", 5, pytest.mark.slow, pytest.mark.sample(2))
    fast = items("test", 3, pytest.mark.sample(2))
    assert len(quick([*slow, *fast], False)) == 2
