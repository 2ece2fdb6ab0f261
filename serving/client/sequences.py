"""The sequences that a client sends: read from files, checked, batched, padded to one length."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Training data, which people pass by mistake; it gets an error of its own.
_TRAINING_FILES = (".csv", ".ts")
_TRAINING_ARRAY = re.compile(r"(x|y|lengths|groups)(_(train|test))?|(train|test)_(x|y|lengths|groups)")

Features = npt.NDArray[np.float32]


class InputError(ValueError):
    """The input is not a sequence that a model could take."""

    exit_code = 2


def check_sequences(sequences: Sequence[Any], *, allow_non_finite: bool = False) -> list[Features]:
    """The sequences as float32 arrays.

    Args:
        sequences: One array (steps, channels) for each sequence.
        allow_non_finite: Whether NaN and infinities may be sent.

    Raises:
        InputError: A sequence is not numeric, not of rank 2, empty, not finite, or has other channels than the first.

    Example:
    >>> check_sequences([[[1, 2], [3, 4]]])[0].shape
    (2, 2)
    """
    if len(sequences) == 0:
        raise InputError("got no sequence; give at least one array of shape (steps, channels)")
    checked: list[Features] = []
    for index, sequence in enumerate(sequences):
        array = _numeric(index, sequence)
        if array.ndim != 2 or 0 in array.shape:
            several = " (several sequences in one array of a .npz go under the name features)" * (array.ndim == 3)
            raise InputError(
                f"sequence {index} has shape {array.shape}; give (steps, channels) with at least one of each{several}"
            )
        if checked and array.shape[1] != checked[0].shape[1]:
            raise InputError(
                f"sequence {index} has {array.shape[1]} channels and sequence 0 has {checked[0].shape[1]}; "
                "all must have the channels that the model was trained on"
            )
        with np.errstate(over="ignore"):
            features = array.astype(np.float32)
        if not allow_non_finite and not np.isfinite(features).all():
            step, channel = np.argwhere(~np.isfinite(features))[0]
            raise InputError(
                f"sequence {index} has {array[step, channel]} at step {step}, channel {channel}; "
                "give finite numbers that fit in float32"
            )
        checked.append(features)
    return checked


def _numeric(index: int, sequence: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(sequence)
    except ValueError as error:
        raise InputError(f"sequence {index} is ragged: every step needs the same number of channels") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"sequence {index} holds {array.dtype}, not real numbers; give integers or floats")
    return array


def check_texts(texts: Sequence[Any]) -> list[str]:
    """The texts as they are.

    Raises:
        InputError: An element is not a text, or is empty.
    """
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            shown = f"is {text!r}" if isinstance(text, str | int | float | None) else "is numbers"
            raise InputError(f"sequence {index} {shown}; among texts give only texts, of at least one character")
    return list(texts)


def plan(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Which sequences go into one request: neighbours in length, so that little is padded.

    Returns:
        The indexes of each request's sequences, at most `batch_size`.

    Example:
    >>> plan([3, 30, 4, 29], 2)
    [[0, 2], [3, 1]]
    """
    # A request is padded to its longest sequence, and a recurrent model pays for every step of padding.
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def pad(sequences: Sequence[Features]) -> tuple[Features, npt.NDArray[np.int32]]:
    """Put sequences into one array, zeros after the end of each.

    Returns:
        Features (batch, longest, channels) and lengths (batch,).

    Example:
    >>> features, lengths = pad([np.ones((1, 2), "float32"), np.ones((3, 2), "float32")])
    >>> features.shape, lengths.tolist(), float(features.sum())
    ((2, 3, 2), [1, 3], 8.0)
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)
    features = np.zeros((len(sequences), int(lengths.max()), sequences[0].shape[1]), np.float32)
    for row, sequence in zip(features, sequences, strict=True):
        row[: len(sequence)] = sequence
    return features, lengths


def read_sequences(source: str) -> list[Any]:
    """Read the sequences in a file.

    Args:
        source: A `.npy` (one sequence of rank 2, or several of rank 3), a `.npz` (the array `features`, with
            `lengths` if it is padded; or every array a sequence), a `.json` (one sequence or a list of them, or of
            texts), a `.txt` (a text a line; empty lines are left out), or `-` for JSON from standard input.

    Returns:
        The sequences, not yet checked.

    Raises:
        InputError: The file is missing, of another kind, or cannot be read.
    """
    if source == "-":
        return _from_json(sys.stdin.read(), "standard input")
    path = Path(source)
    readers: dict[str, Callable[[bytes], list[Any]]] = {
        ".npy": _from_npy,
        ".npz": _from_npz,
        ".json": lambda data: _from_json(data, path.name),
        ".txt": lambda data: [line for line in data.decode().splitlines() if line],
    }
    if path.suffix.lower() not in readers:
        training = f"{path.suffix} files are for zoo train --data; " * (path.suffix.lower() in _TRAINING_FILES)
        raise InputError(f"cannot read {source!r}; {training}give a .npy, .npz, .json or .txt file, or - for JSON")
    try:
        return readers[path.suffix.lower()](path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {source!r}: {error.strerror or error}; give a file that exists") from error
    except InputError:
        raise
    except (ValueError, EOFError, KeyError) as error:
        kind = "text in UTF-8" if path.suffix.lower() == ".txt" else "numbers"
        raise InputError(f"{source!r} is not a valid {path.suffix} file of {kind}: {error}") from error


def _from_npy(data: bytes) -> list[Any]:
    return _rows(np.load(io.BytesIO(data), allow_pickle=False))


def _from_npz(data: bytes) -> list[Any]:
    # zipfile's own error is no ValueError.
    import zipfile

    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            if "features" not in arrays:
                _refuse_training_data(arrays)
                return [arrays[name] for name in arrays.files]
            sequences = _rows(arrays["features"])
            if "lengths" not in arrays:
                return sequences
            lengths = np.atleast_1d(arrays["lengths"])
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    if lengths.shape != (len(sequences),) or lengths.dtype.kind not in "iu":
        raise InputError(f"'lengths' has shape {lengths.shape} and {lengths.dtype}; give {len(sequences)} integers")
    for index, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
        if not 1 <= length <= len(sequence):
            raise InputError(f"sequence {index} has length {length}, expected 1 to {len(sequence)}")
    return [sequence[:length] for sequence, length in zip(sequences, lengths, strict=True)]


def _refuse_training_data(arrays: Mapping[str, Any]) -> None:
    """Refuse what `zoo train --data` takes, where it cannot be meant as sequences."""
    names = [name for name in arrays if _TRAINING_ARRAY.fullmatch(name)]
    if len(names) == len(arrays) and any(arrays[name].ndim != 2 for name in names):
        raise InputError(
            f"the file holds {', '.join(sorted(names))}, which is data for training, as zoo train --data takes it; to "
            "ask a model, write the sequences alone: np.savez(path, features=x), with lengths=... where they are "
            "padded, or np.savez(path, *sequences)"
        )


def _from_json(data: str | bytes, name: str) -> list[Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {error}; give [[...], ...] or a list of such sequences") from error
    if not isinstance(value, list) or not value:
        raise InputError(f"{name} holds no list; give [[...], ...] or a list of such sequences")
    first = value[0]
    is_one = isinstance(first, list) and bool(first) and not isinstance(first[0], list)
    return [value] if is_one else value


def _rows(array: npt.NDArray[Any]) -> list[Any]:
    return list(array) if array.ndim == 3 else [array]


def read_chunks(source: str, steps: int, *, text: bool) -> Iterator[Any]:
    """One sequence, piece by piece.

    Args:
        source: As for `read_sequences`, with one sequence in it; or `-`, where every line is a step (a JSON list of
            numbers), several steps (a list of such lists), or text. Pieces come as soon as the lines for them do.
        steps: How many steps, or characters of a text, a piece has; the last one may have fewer.
        text: Whether it is a text.

    Raises:
        InputError: The source cannot be read, holds several sequences, or a line is not a step.
    """
    if source == "-":
        yield from _pieces(_lines(text), steps)
        return
    sequences = read_sequences(source)
    if text:
        whole = "\n".join(check_texts(sequences))
        yield from (whole[start : start + steps] for start in range(0, len(whole), steps))
        return
    if len(sequences) != 1:
        raise InputError(f"{source!r} holds {len(sequences)} sequences; a stream is one")
    (sequence,) = check_sequences(sequences)
    yield from (sequence[start : start + steps] for start in range(0, len(sequence), steps))


def _lines(text: bool) -> Iterator[Any]:
    for number, line in enumerate(sys.stdin):
        if text:
            yield line
            continue
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number + 1} is not JSON: {error}; give a step, such as [0.5, 1.0]") from error
        if not isinstance(value, list) or not value:
            raise InputError(f"line {number + 1} is not a list; give a step, such as [0.5, 1.0]")
        yield value if isinstance(value[0], list) else [value]


def _pieces(parts: Iterable[Any], steps: int) -> Iterator[Any]:
    waiting: Any = None
    for part in parts:
        waiting = part if waiting is None else waiting + part
        while len(waiting) >= steps:
            yield waiting[:steps]
            waiting = waiting[steps:]
    if waiting:
        yield waiting
