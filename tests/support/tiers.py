"""Which of many like cases run in `make test`, where all of them run in `make test-all`."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest


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
