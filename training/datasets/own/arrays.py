"""Own data as NumPy arrays in one `.npz` file.

    x        [n, steps, channels], or [n, steps] of one channel
    y        what is to be predicted, by its kind: integers or text [n], a label a sequence; integers or text
             [n, steps], a label a step (-1 or an empty text: none); floats [n] or [n, outputs], numbers
    lengths  [n], where sequences are shorter than `x`: steps behind them are not read; without it, steps at the end
             that are NaN in all channels are not
    groups   [n] of integers or text: sequences of one group are never parted by a split
    classes  [classes] of text: the name of label 0, 1, ..., where `y` holds integers; else all the texts there are

Arrays `x_train`, `y_train`, ..., `x_test`, `y_test`, ... (or `train_x`, ...) give the split.
"""

import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.own.answers import Answers
from training.datasets.own.doubt import lost_in_float32
from training.datasets.own.parsed import Found, InvalidData, joined

_NAME = re.compile(r"(?:(train|test)_)?(x|y|lengths|groups|classes)(?:_(train|test))?", re.IGNORECASE)


def read_arrays(path: Path, answers: Answers) -> Found:
    """Read an `.npz` file.

    Args:
        path: The file.
        answers: What a person said: the layout says in which order the axes of `x` stand.

    Raises:
        InvalidData: An array is missing, unknown, or not as described above; the message names it.
    """
    parts: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in _load(path).items():
        match = _NAME.fullmatch(name)
        classes_of_a_split = match is not None and match[2].lower() == "classes" and (match[1] or match[3])
        if match is None or (match[1] and match[3]) or classes_of_a_split:
            raise InvalidData(f"{path} holds an array {name!r}, expected x, y, lengths, groups, classes: leave it out")
        split = (match[1] or match[3] or "").lower()
        if parts.setdefault(split, {}).setdefault(match[2].lower(), array) is not array:
            raise InvalidData(f"{path} holds {match[2].lower()!r} twice, in different writing: leave one out")
    classes = parts.get("", {}).pop("classes", None)
    parts = {split: arrays for split, arrays in parts.items() if arrays}
    if set(parts) not in ({""}, {"train", "test"}):
        raise InvalidData(
            f"{path} holds {_listed(parts)}, expected x and y, or x_train, y_train, x_test and y_test: "
            "all arrays of one split, or of both"
        )
    found = {split: _part(path, split, _steps_first(arrays, answers), classes) for split, arrays in parts.items()}
    if "" in found:
        return found[""]
    return joined(found["train"], found["test"], "the data's own: the arrays named train and test")


def _steps_first(arrays: dict[str, NDArray[Any]], answers: Answers) -> dict[str, NDArray[Any]]:
    """The arrays with `x` as [n, steps, channels]."""
    x = arrays.get("x")
    if answers.layout != "channels_first" or x is None or x.ndim != 3:
        return arrays
    return {**arrays, "x": x.transpose(0, 2, 1)}


def _load(path: Path) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise InvalidData(f"{path} is no .npz archive, or a damaged one: write it with numpy.savez")
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: _read(archive, name, path) for name in archive.files}
        except InvalidData:
            raise
        except Exception as error:  # NumPy and zipfile raise whatever damaged bytes lead them to
            raise InvalidData(f"{path} is damaged ({type(error).__name__}: {error}): write it again") from error


def _read(archive: Any, name: str, path: Path) -> NDArray[Any]:
    try:
        array = archive[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise InvalidData(
            f"array {name!r} of {path} holds Python objects, which are not read, because unpickling runs code: pad "
            "sequences of different lengths to one array and give their lengths, and write labels as integers or text"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InvalidData(f"{path} holds {name!r}, which is no array: leave it out")
    return array


def _listed(parts: dict[str, dict[str, Any]]) -> str:
    names = [f"{name}_{split}" if split else name for split, arrays in parts.items() for name in arrays]
    return ", ".join(names) or "no array"


def _part(path: Path, split: str, arrays: dict[str, NDArray[Any]], classes: NDArray[Any] | None) -> Found:
    def called(name: str) -> str:
        return f"{name}_{split} of {path}" if split else f"{name} of {path}"

    if "x" not in arrays:
        raise InvalidData(f"{path} holds {_listed({split: arrays})}, expected an array x beside")
    x = arrays["x"]
    if x.ndim not in (2, 3) or 0 in x.shape or x.dtype.kind not in "fiub":
        raise InvalidData(f"{called('x')} is {_kind(x)}, expected numbers [n, steps, channels] or [n, steps]")
    x = x[:, :, None] if x.ndim == 2 else x
    count, steps, channels = x.shape
    lengths = _lengths(called("lengths"), arrays.get("lengths"), count, steps)
    if "lengths" not in arrays and x.dtype.kind == "f":
        lengths = _before_padding(x)
    sequences = [_sequence(called("x"), index, x[index, :length]) for index, length in enumerate(lengths.tolist())]
    groups = None
    if "groups" in arrays:
        given = _as_text(called("groups"), arrays["groups"])
        if given.dtype.kind not in "iuU" or given.shape != (count,):
            raise InvalidData(f"{called('groups')} are {_kind(given)}, expected integers or text [{count}]")
        groups = [str(group) for group in given.tolist()]
    names = tuple(f"channel {index}" for index in range(channels))
    lost = (
        [lost_in_float32(name, x[:, :, index].ravel()) for index, name in enumerate(names)]
        if x.dtype.itemsize > 4
        else []
    )
    found = Found(sequences, names, groups=groups, doubts=tuple(doubt for doubt in lost if doubt is not None))
    if "y" not in arrays:
        return found
    return _with_targets(
        found, called("y"), _as_text(called("y"), arrays["y"]), lengths, steps, _class_names(path, classes)
    )


def _lengths(name: str, lengths: NDArray[Any] | None, count: int, steps: int) -> NDArray[np.int64]:
    if lengths is None:
        return np.full(count, steps, np.int64)
    if lengths.dtype.kind not in "iu" or lengths.shape != (count,):
        raise InvalidData(f"{name} are {_kind(lengths)}, expected integers [{count}]")
    unfit = np.flatnonzero((lengths < 1) | (lengths > steps))
    if unfit.size:
        raise InvalidData(
            f"{name}: {unfit.size} are not within 1 to {steps}, the steps of x; "
            f"the first is {lengths[unfit[0]]} of sequence {unfit[0]}"
        )
    return lengths.astype(np.int64)


def _before_padding(x: NDArray[Any]) -> NDArray[np.int64]:
    """The steps of each sequence before those at its end that are NaN in all channels, as tslearn pads."""
    padding = np.isnan(x).all(axis=2)
    steps = x.shape[1] - np.argmin(padding[:, ::-1], axis=1)
    # A sequence of nothing but NaN is not shorter: it is refused.
    return np.asarray(np.where(padding.all(axis=1), x.shape[1], steps), np.int64)


def _sequence(name: str, index: int, values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        sequence = values.astype(np.float32)
    unfit = np.argwhere(~np.isfinite(sequence))
    if len(unfit):
        step, channel = unfit[0]
        raise InvalidData(
            f"{name}: sequence {index} holds {len(unfit)} values that are no finite float32, the first is "
            f"{values[step, channel]} at step {step}, channel {channel}: fill them, or leave the sequence out"
        )
    return sequence


def _class_names(path: Path, classes: NDArray[Any] | None) -> tuple[str, ...] | None:
    if classes is None:
        return None
    classes = _as_text(f"classes of {path}", classes)
    names = tuple(str(name) for name in classes.ravel().tolist())
    if classes.dtype.kind != "U" or classes.ndim != 1 or len(set(names)) < len(names) or "" in names:
        raise InvalidData(f"classes of {path} are {_kind(classes)}, expected different texts [classes], none empty")
    return names


def _with_targets(
    found: Found, name: str, y: NDArray[Any], lengths: NDArray[np.int64], steps: int, classes: tuple[str, ...] | None
) -> Found:
    count = len(lengths)
    if y.dtype.kind == "f":
        return replace(found, **_numbers(name, y, count))
    if y.dtype.kind not in "iubU" or y.shape not in ((count,), (count, steps)):
        raise InvalidData(
            f"{name} is {_kind(y)}, expected integers or text [{count}] or [{count}, {steps}] for labels, "
            f"or floats [{count}] or [{count}, outputs] for numbers to predict"
        )
    if y.ndim == 1:
        flat, parts = y, None
    else:
        # Steps behind the end of a sequence are not read, so whatever is there is not a label.
        inside = np.arange(steps) < lengths[:, None]
        flat, parts = y[inside], np.cumsum(lengths)[:-1]
    codes, texts, declared = _codes(name, flat, classes, may_be_none=parts is not None)
    labels: Any = codes if parts is None else np.split(codes, parts)
    return replace(found, labels=labels, texts=texts, declared=declared)


def _numbers(name: str, y: NDArray[Any], count: int) -> dict[str, Any]:
    if y.ndim not in (1, 2) or len(y) != count or 0 in y.shape:
        raise InvalidData(f"{name} is {_kind(y)}, expected floats [{count}] or [{count}, outputs]")
    with np.errstate(over="ignore"):
        numbers = y.reshape(count, -1).astype(np.float32)
    unfit = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if unfit.size:
        raise InvalidData(f"{name}: {unfit.size} rows are not finite, the first is {unfit[0]}: leave those out")
    width = numbers.shape[1]
    return {"numbers": numbers, "outputs": ("y",) if width == 1 else tuple(f"y {index}" for index in range(width))}


def _codes(
    name: str, y: NDArray[Any], classes: tuple[str, ...] | None, may_be_none: bool
) -> tuple[NDArray[np.int64], tuple[str, ...], bool]:
    """Indices into texts, the texts, and whether they are all that there are."""
    distinct, codes = np.unique(y, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    values = distinct.tolist()
    none = [may_be_none and value in (-1, "") for value in values]
    if not may_be_none and "" in values:
        where = int(np.flatnonzero(codes == values.index(""))[0])
        raise InvalidData(f"{name}: sequence {where} has an empty label: leave the sequence out, or label it")
    if classes is None:
        texts = tuple(str(value) for value in values)
        return np.where(np.isin(codes, np.flatnonzero(none)), -1, codes), texts, False
    known = {text: index for index, text in enumerate(classes)}
    new = np.full(len(values), -1, np.int64)
    for index, value in enumerate(values):
        if none[index]:
            continue
        position = known.get(value, -1) if isinstance(value, str) else int(value)
        if not 0 <= position < len(classes):
            raise InvalidData(f"{name} holds {value!r}, expected one of {len(classes)} classes: {', '.join(classes)}")
        new[index] = position
    return new[codes], classes, True


def _as_text(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array, decoded where it holds bytes."""
    try:
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        raise InvalidData(f"{name} holds bytes that are no UTF-8 text: write text or integers") from error


def _kind(array: NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"
