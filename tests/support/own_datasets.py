"""Data of your own: files that tests write, and what is read from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.datasets.own import OwnData, dataset


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def loaded(path: Path, **how: Any) -> OwnData:
    """The dataset, once it has kept what every dataset promises."""
    own = dataset(path, **how)
    again = dataset(path, **how)
    parts = {split: own.load(split) for split in ("train", "test")}  # type: ignore[arg-type]
    assert {split: len(part) for split, part in parts.items()} == own.spec.counts
    lengths = np.concatenate([part.lengths for part in parts.values()])
    assert own.spec.lengths == (lengths.min(), lengths.max())
    assert [again.load(split).digest() for split in parts] == [part.digest() for part in parts.values()]  # type: ignore[arg-type]
    assert (len(own.spec.classes) >= 2) == (own.spec.task in ("classification", "labelling"))
    assert own.spec.name == f"own:{path.name}"
    return own


def sequences(own: OwnData, split: Any) -> list[list[list[float]]]:
    return [sequence.tolist() for sequence in own.load(split).sequences]


def named(own: OwnData, split: Any) -> list[str]:
    return [own.spec.classes[label] for label in own.load(split).labels]


def long_file(folder: Path, count: int = 10, labels: Sequence[str] = ("up", "down"), extra: str = "") -> Path:
    """Sequences s0, s1, ... of 2 + index % 3 steps; the values say which sequence and step."""
    lines = ["id,time,x,y,label" + (f",{extra}" if extra else "")]
    for index in range(count):
        for step in range(2 + index % 3):
            more = f",g{index % 5}" if extra == "group" else f",{'test' if index < 3 else 'Train'}" if extra else ""
            lines.append(f"s{index},{step},{index}.5,{step},{labels[index % len(labels)]}{more}")
    return write(folder / "long.csv", *lines)
