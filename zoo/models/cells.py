"""The recurrent layers of the `lstm` model, by their names in `zoo.layers.CELLS`."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from zoo.initializers import ChronoBias, IdentityRecurrent
from zoo.layers import CELLS as CELLS, LSTMCell, ZoneoutCell
from zoo.suggest import unknown

# Arguments that only some cells have, with the values that mean "not set".
_OPTIONAL = {"cell_clip": None, "engine": "auto", "max_steps": None, "projection": None}


def recurrent_layer(
    cell: str,
    units: int,
    *,
    zoneout_h: float = 0.0,
    zoneout_c: float = 0.0,
    chrono_steps: float | None = None,
    identity_recurrent: float | None = None,
    return_sequences: bool = False,
    stateful: bool = False,
    name: str | None = None,
    **arguments: Any,
) -> keras.layers.RNN:
    """A recurrent layer of the cell named `cell`.

    Args:
        cell: A name in `zoo.layers.CELLS`.
        units: Width of the cell state.
        zoneout_h: Probability that a unit of the hidden state keeps its value for a step.
        zoneout_c: Probability that a unit of the cell state keeps its value.
        chrono_steps: Longest dependency in steps, for `ChronoBias`; `None` keeps the cell's default bias.
        identity_recurrent: Gain of `IdentityRecurrent` for the recurrent kernel; `None` keeps the default, orthogonal.
        return_sequences: Whether to return the output of every step, not only of the last.
        stateful: Whether to keep the states from batch to batch.
        name: Name of the layer.
        **arguments: Arguments that every cell has, such as `dropout`; and `cell_clip`, `engine`, `max_steps` and
            `projection` for the cells that have them.

    Raises:
        ValueError: The cell is unknown, lacks an argument, or refuses its value.

    Example:
    >>> recurrent_layer("layer_norm", 4, dropout=0.1).cell.dropout
    0.1
    >>> recurrent_layer("layer_norm", 4, cell_clip=3.0)
    Traceback (most recent call last):
    ValueError: cell 'layer_norm' has no `cell_clip`, received 3.0; ... a cell that has it: 'lstm'.
    """
    if cell not in CELLS:
        raise ValueError(unknown("cell", cell, CELLS))
    zoned = bool(zoneout_h or zoneout_c)
    make: Any = LSTMCell if zoned and cell == "lstm" else CELLS[cell]
    arguments = _checked(f"{cell!r} with zoneout" if zoned else repr(cell), make, units, arguments)
    if chrono_steps is not None:
        arguments |= {"bias_initializer": ChronoBias(chrono_steps), "unit_forget_bias": False}
    if identity_recurrent is not None:
        if _has(make, "projection"):
            raise ValueError(
                f"cell {cell!r} has a recurrent kernel without square blocks, so it cannot start from the identity; "
                f"received identity_recurrent={identity_recurrent!r}: leave it at None or choose another cell."
            )
        arguments["recurrent_initializer"] = IdentityRecurrent(identity_recurrent)
    layer_arguments = {"return_sequences": return_sequences, "stateful": stateful, "name": name}
    if issubclass(getattr(make, "func", make), keras.layers.RNN):
        if zoned:
            raise ValueError(
                f"cell {cell!r} has its own loop, and zoneout wraps a cell of Keras's loop; received "
                f"zoneout_h={zoneout_h!r}, zoneout_c={zoneout_c!r}: set both to 0 or choose another cell."
            )
        return make(units=units, **arguments, **layer_arguments)
    made = make(units=units, **arguments)
    return keras.layers.RNN(ZoneoutCell(made, zoneout_h, zoneout_c) if zoned else made, **layer_arguments)


def _has(make: Callable[..., Any], argument: str) -> bool:
    return argument in inspect.signature(make).parameters


def _checked(cell: str, make: Callable[..., Any], units: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """Drop the arguments that are not set, and refuse those that the cell lacks."""
    kept = {key: value for key, value in arguments.items() if key not in _OPTIONAL or value != _OPTIONAL[key]}
    for key in _OPTIONAL:
        if key in kept and not _has(make, key):
            names = ", ".join(repr(name) for name, other in CELLS.items() if _has(other, key))
            raise ValueError(
                f"cell {cell} has no `{key}`, received {kept[key]!r}; leave it at {_OPTIONAL[key]!r}, or choose a cell "
                f"that has it: {names}."
            )
    if _has(make, "projection"):
        kept.setdefault("projection", -(-units // 2))
    return kept
