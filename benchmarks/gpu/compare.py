"""From rows to ratios: who is held against whom, what was hoped for, and the floors that nothing goes below."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.cells import Cell

from gpu.plan import KERAS, NARROW, TORCH, TRAINING, Side, numbers_moved, operations

Row = dict[str, Any]
OURS = ("cuda", "loop", "reference")  # the first that was measured stands for us; "cudnn" is the peers' own kernel
FLOORS = ("operations", "bytes")
CUSTOM_COST = 0.15  # share of tanh's time that a custom activation may add


def cell_of(row: Row) -> Cell:
    return Cell(row["batch"], row["steps"], row["features"], row["units"])


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def group_of(row: Row) -> tuple[str, str, str, Cell]:
    return row["framework"], row["mode"], row["call"], cell_of(row)


@dataclass(frozen=True)
class Comparison:
    """One of ours against a peer, in the same process, in turn.

    Attributes:
        ours: A row.
        peer: A row.
        target: How many times as fast ours should be at the least, or `None` where nothing was set.
    """

    ours: Row
    peer: Row
    target: float | None

    @property
    def ratio(self) -> float:
        """The peer's median over ours: above 1 ours is the faster one."""
        return float(self.peer["median_ms"] / self.ours["median_ms"])

    @property
    def met(self) -> bool:
        return self.target is None or self.ratio >= self.target


@dataclass(frozen=True)
class Cost:
    """One engine with tanh and with the custom activation, in the same process, in turn.

    Attributes:
        tanh: A row.
        custom: A row.
    """

    tanh: Row
    custom: Row

    @property
    def share(self) -> float:
        """What the custom activation adds, as a share of the time with tanh."""
        return float(self.custom["median_ms"] / self.tanh["median_ms"]) - 1

    @property
    def met(self) -> bool:
        return self.share <= CUSTOM_COST


def target(framework: str, cell: Cell, activation: str) -> float | None:
    """How many times as fast as its peer a training step should be."""
    narrow = cell.units <= NARROW
    if framework == "torch":
        return 1.5 if narrow else None
    if activation == "relu":
        return 15.0 if narrow else 2.0
    return 4.0 if narrow else None


def comparisons(rows: Iterable[Row]) -> list[Comparison]:
    """Every comparison that the rows allow, in their order.

    On JAX the peer is Keras's layer with the same activation; on torch its own layer at its best precision, against
    ours at each of its own.
    """
    found = []
    for (framework, mode, call, cell), mine in grouped(rows, group_of).items():
        peers = KERAS if framework == "jax" else TORCH
        by_activation = grouped((row for row in mine if row["side"] == peers), lambda row: row["activation"])
        for activation, candidates in by_activation.items():
            peer = min(candidates, key=lambda row: row["median_ms"])
            hoped = target(framework, cell, activation) if (mode, call) == (TRAINING, "call") else None
            for precision in dict.fromkeys(row["precision"] for row in mine):
                ours = _ours(mine, activation, precision)
                if ours:
                    found.append(Comparison(ours, peer, hoped))
    return found


def _ours(rows: Sequence[Row], activation: str, precision: str) -> Row | None:
    fitting = {row["side"]: row for row in rows if (row["activation"], row["precision"]) == (activation, precision)}
    return next((fitting[name] for name in OURS if name in fitting), None)


def activation_costs(rows: Iterable[Row]) -> list[Cost]:
    """Of every one of our engines that was timed with both activations."""
    found = []
    ours = [row for row in rows if row["side"] in OURS]
    for mine in grouped(ours, lambda row: (group_of(row), row["side"], row["precision"])).values():
        named = {row["activation"]: row for row in mine}
        if {"tanh", "custom"} <= named.keys():
            found.append(Cost(named["tanh"], named["custom"]))
    return found


def floors_ms(cell: Cell, mode: str, side: Side, ceilings: Mapping[str, float]) -> dict[str, float]:
    """The milliseconds that the operations and the bytes of a step take at the rates measured on the same card.

    Empty where the rates are not known.
    """
    if "copy" not in ceilings or side.precision not in ceilings:
        return {}
    moved = numbers_moved(cell, mode) * side.bytes
    return {
        "operations": 1e3 * operations(cell, mode) / ceilings[side.precision],
        "bytes": 1e3 * moved / ceilings["copy"],
    }


def with_floors(rows: Sequence[Row], ceilings: Mapping[str, float]) -> list[Row]:
    """The rows, each with its two floors and the share of its time that the larger one is."""
    found = []
    for row in rows:
        side = Side(row["side"], row["activation"], row["precision"])
        floors = floors_ms(cell_of(row), row["mode"], side, ceilings)
        added: Row = {f"{name}_floor_ms": float(f"{floors[name]:.4g}") if floors else "" for name in FLOORS}
        share = f"{max(floors.values()) / row['median_ms']:.4g}" if floors else ""
        found.append(row | added | {"floor_share": float(share) if share else ""})
    return found
