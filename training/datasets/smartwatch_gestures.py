"""Arm gestures felt by a smartwatch: the official TFDS builder `smartwatch_gestures`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from training.datasets.base import Spec, Split
from training.datasets.store import raw_files, rows as row_store, tfds as tfds_store

# Part of the split rule: changing either would change what every earlier figure was measured on.
PARTICIPANTS: dict[Split, tuple[int, ...]] = {"train": (1, 2, 3, 4, 5, 6), "test": (7, 8)}
REPETITIONS = 20

_VERSION = "1.0.0"
_AXES = ("accel_x", "accel_y", "accel_z")
_CLASSES = (
    "right",
    "left",
    "up",
    "down",
    "circle-clockwise",
    "circle-counter-clockwise",
    "square-clockwise",
    "square-counter-clockwise",
    "up-left",
    "up-right",
    "right-down",
    "left-down",
    "right-v",
    "left-v",
    "right-^",
    "left-^",
    "left-down-squiggle",
    "right-down-squiggle",
    "right-up-squiggle",
    "left-up-squiggle",
)


class SmartwatchGestures(row_store.RowsDataset):
    """Eight participants make 20 gestures 20 times each, a watch with an accelerometer on the right wrist.

    The archive holds 3251 recordings; those beyond the 3200 that its authors describe are left out, so that every
    participant and gesture counts the same.
    """

    spec = Spec(
        name="smartwatch_gestures",
        summary="arm gestures, acceleration of a watch",
        needs="a download of 2.06 MiB",
        features="acceleration along the watch's x, y and z axes, gravity included, in m/s^2 as Android gives it; "
        "about 9 steps a second",
        channels=len(_AXES),
        classes=_CLASSES,
        lengths=None,
        counts={split: len(members) * len(_CLASSES) * REPETITIONS for split, members in PARTICIPANTS.items()},
        licence="research or academic use",
        citation="G. Costante, L. Porzi, O. Lanz, P. Valigi and E. Ricci (2014). Personalizing a smartwatch-based "
        "gesture interface with transfer learning. EUSIPCO 2014, 2530-2534",
        homepage="https://tev.fbk.eu/resources/smartwatch",
        split_rule="by participant, repetitions 1 to 20 of every gesture: participants 1 to 6 are train, 7 and 8 are "
        "test; further repetitions are left out",
    )

    parts: ClassVar[Mapping[str, Any]] = {"train": PARTICIPANTS["train"], "test": PARTICIPANTS["test"]}

    def _made_of(self) -> str:
        return _VERSION

    def _folder(self, part: str) -> Path:
        # The rule of each part is in the name of its folder.
        members = "".join(map(str, PARTICIPANTS[cast(Split, part)]))
        return self._root() / f"{_VERSION}-participants{members}-repetitions{REPETITIONS}" / part

    def _rows(self, part: str) -> Iterator[row_store.Row]:
        rows = _rows(raw_files.read_official(self.spec.name, "train"), cast(Split, part))
        return row_store.tracked(rows, self.spec.counts[part], f"{self.spec.name}, {part} recordings")


def _rows(recordings: Iterable[dict[str, Any]], split: Split) -> Iterator[row_store.Row]:
    for recording in recordings:
        participant, repetition = int(recording["participant"]), int(recording["attempt"])
        if participant not in PARTICIPANTS[split] or not 1 <= repetition <= REPETITIONS:
            continue
        axes = [recording["features"][name] for name in _AXES]
        gesture = int(recording["gesture"])
        if len({len(axis) for axis in axes}) > 1:
            lengths = ", ".join(f"{len(axis)} of {name}" for name, axis in zip(_AXES, axes, strict=True))
            raise tfds_store.PreparationFailed(
                f"smartwatch_gestures, participant {participant}, gesture {_CLASSES[gesture]}, repetition "
                f"{repetition} has {lengths}, expected as many of each: delete "
                f"{tfds_store.directory_of(SmartwatchGestures.spec.name, _VERSION)} and run again"
            )
        yield row_store.Row(np.stack(axes, axis=1).astype(np.float32), gesture, participant)
