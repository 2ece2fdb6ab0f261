"""Own data as a pair of `.ts` files, `NAME_TRAIN.ts` and `NAME_TEST.ts`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets.own.parsed import Found, InvalidData, joined
from training.datasets.ts_format import TimeSeries, channel_means, fill_missing, read_ts

TRAIN, TEST = "_TRAIN.ts", "_TEST.ts"


def read_pair(path: Path) -> Found:
    """Read both files of a pair; missing values are filled by `ts_format.fill_missing`.

    Args:
        path: Either file, or the folder that holds both.

    Raises:
        InvalidData: There is no pair, or more than one, or its files do not go together.
        MalformedTs: A file is not what the format says.
    """
    train, test = _pair(path)
    read = {file: read_ts(file) for file in (train, test)}
    means = channel_means(read[train].sequences)
    return joined(
        _found(read[train], means),
        _found(read[test], means),
        f"the data's own: {train.name} is train, {test.name} is test",
    )


def _pair(path: Path) -> tuple[Path, Path]:
    if path.is_dir():
        trains = sorted(file for file in path.iterdir() if file.name.endswith(TRAIN))
        if len(trains) != 1:
            raise InvalidData(f"{path} holds {len(trains)} files *{TRAIN}, expected one: give the path of that file")
        path = trains[0]
    for ending in (TRAIN, TEST):
        if path.name.endswith(ending):
            stem = path.name.removesuffix(ending)
            pair = path.with_name(stem + TRAIN), path.with_name(stem + TEST)
            if missing := [file for file in pair if not file.is_file()]:
                raise InvalidData(f"{path.name} has no {missing[0].name} beside it in {path.parent}: expected both")
            return pair
    raise InvalidData(f"{path} is one .ts file, expected a pair named NAME{TRAIN} and NAME{TEST}: rename it")


def _found(series: TimeSeries, means: NDArray[np.float64]) -> Found:
    channels = series.sequences[0].shape[1]
    if channels != len(means):
        raise InvalidData(f"a sequence of test has {channels} channels, those of train have {len(means)}")
    missing = sum(int(np.isnan(sequence).sum()) for sequence in series.sequences)
    note = (
        "missing values are filled: on the straight line between their neighbours, at an end with the nearest, in a "
        "channel without any with its mean over train"
    )
    return Found(
        sequences=[fill_missing(sequence, means) for sequence in series.sequences],
        channels=tuple(f"channel {index}" for index in range(channels)),
        labels=series.labels,
        texts=series.header.classes,
        declared=True,
        numbers=None if series.targets is None else series.targets[:, None],
        notes=(note,) if missing else (),
        by_form=True,
    )
