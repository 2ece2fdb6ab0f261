"""The error message for an unknown name."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: object, choices: Iterable[str], likely: Iterable[str] = ()) -> str:
    """Say that `name` is not a `kind`, and suggest the nearest valid names.

    Args:
        kind: The kind of thing, in the singular: "dataset", "activation".
        name: The received name.
        choices: All valid names.
        likely: Names to suggest instead of those with similar spelling.

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
