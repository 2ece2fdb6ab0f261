"""What a person says about data of their own, so that nothing need be inferred."""

from dataclasses import dataclass, fields
from typing import Literal

from training.datasets.own.parsed import InvalidRequest
from zoo.suggest import unknown

Layout = Literal["steps", "sequences", "channels_first"]
"""How the data lies: "steps", a row a step (arrays: [n, steps, channels]); "sequences", a row a sequence;
"channels_first", arrays [n, channels, steps]."""


@dataclass(frozen=True)
class Answers:
    """Which column is what; whatever is empty is inferred.

    Attributes:
        time: Where a row stands in its sequence; several columns count like the digits of a number.
        id: Which sequence a row belongs to; several columns name it together.
        label: What is to be predicted of a sequence or a step, as text or numbers.
        target: Forecasting: the channels to be forecast; otherwise the numbers to be predicted of a sequence.
        ignore: Not to be used.
        static: True of a whole sequence: given at every step, never forecast.
        channels: Channels, although they look like something else.
        layout: How the data lies.
    """

    time: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    layout: Layout | None = None

    def resolved(self, names: tuple[str, ...], where: str) -> "Answers":
        """The same answers with columns as the data spells them.

        Args:
            names: Every column of the data.
            where: The file, for the message.

        Raises:
            InvalidRequest: A column is not there, or is said to be two things.
        """
        spelt = {name.lower(): name for name in names}
        known: dict[str, str] = {}
        columns: dict[str, tuple[str, ...]] = {}
        for role in ROLES:
            columns[role] = tuple(spelt.get(name.lower(), name) for name in getattr(self, role))
            for name in columns[role]:
                if name not in names:
                    raise InvalidRequest(f"dataset.{role}: {unknown('column', name, names)} (of {where})")
                if known.setdefault(name, role) != role:
                    raise InvalidRequest(
                        f"column {name!r} is named by both dataset.{known[name]} and dataset.{role}: name it once"
                    )
        return Answers(**columns, layout=self.layout)

    def said(self) -> dict[str, str]:
        """The role of every column that is named."""
        return {name: role for role in ROLES for name in getattr(self, role)}

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


ROLES = ("time", "id", "label", "target", "ignore", "static", "channels")
