"""Which of many like cases run in `make test`, where all of them run in `make test-all`."""

import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest

# Cases of each test that `make test` runs on JAX, unless the mark `sample` says otherwise.
ELSEWHERE = 1


def shorten(items: Iterable[pytest.Item], elsewhere: bool) -> None:
    """Mark as slow all cases but a sample of each test that has the mark `sample`, and of each test on JAX and torch.

    Which ones is a matter of their names alone: the same at every run, and no row or column of a product of
    parameters more than another.

    Args:
        items: All tests.
        elsewhere: Whether this is another backend than TensorFlow.
    """
    cases: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if not item.get_closest_marker("slow") and (not elsewhere or item.get_closest_marker("any_backend")):
            cases[item.nodeid.partition("[")[0]].append(item)
    for same in cases.values():
        mark = same[0].get_closest_marker("sample")
        if mark is not None:
            size = mark.kwargs.get("elsewhere", ELSEWHERE) if elsewhere else mark.args[0]
        elif elsewhere:
            size = ELSEWHERE
        else:
            continue
        for item in sorted(same, key=lambda item: zlib.crc32(item.nodeid.encode()))[size:]:
            item.add_marker(pytest.mark.slow)


def few(cases: Mapping[str, Any] | Iterable[Any], quick: Collection[Any], elsewhere: Collection[Any] = ()) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`.

    Args:
        cases: By name, or names that are the cases themselves.
        quick: Names of those that run in `make test`; the others are slow.
        elsewhere: Names of those that run on JAX and torch too.

    Raises:
        ValueError: A name is that of no case.
    """
    named = cases if isinstance(cases, Mapping) else {str(case): case for case in cases}
    quick, elsewhere = set(map(str, quick)), set(map(str, elsewhere))
    if unknown := (quick | elsewhere) - named.keys():
        raise ValueError(f"no cases of these names: {sorted(unknown)}; there are {sorted(named)}")
    return [
        pytest.param(
            case,
            id=name,
            marks=[pytest.mark.slow] * (name not in quick) + [pytest.mark.any_backend] * (name in elsewhere),
        )
        for name, case in named.items()
    ]


def rotating(first: Iterable[Any], second: Iterable[Any]) -> list[Any]:
    """Parameters of every pair, slow but for one pair of each of `first`, in which `second` come in turn."""
    outer, inner = list(first), list(second)
    return [
        pytest.param(one, other, id=f"{one}-{other}", marks=() if row % len(inner) == column else pytest.mark.slow)
        for row, one in enumerate(outer)
        for column, other in enumerate(inner)
    ]
