"""The sentence that answers a name nobody knows."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: object, choices: Iterable[str], likely: Iterable[str] = ()) -> str:
    """Say that `name` is no `kind`, and which valid names are nearest.

    Args:
        kind: What was asked for, in the singular: "dataset", "activation".
        name: What was received.
        choices: Every valid name.
        likely: Names that are offered instead of those that are spelt alike, where the caller knows better.

    Returns:
        One sentence for an error message.

    Example:
    >>> unknown("activation", "reul", ["relu", "elu", "tanh"])
    "unknown activation 'reul'; did you mean 'relu' or 'elu'? Valid: elu, relu, tanh"
    >>> unknown("dataset", "x", ["digits_rows"])
    "unknown dataset 'x'. Valid: digits_rows"
    """
    valid = sorted(choices)
    near = list(likely)[:3] or difflib.get_close_matches(str(name), valid, n=3, cutoff=0.55)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    return f"unknown {kind} {name!r}{hint} Valid: {', '.join(valid)}"
