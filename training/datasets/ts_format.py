"""The `.ts` format of the UEA and UCR archives, as sktime and aeon write it.

    # comment
    @problemName Gestures
    @univariate false
    @dimensions 2
    @equalLength false
    @classLabel true up down
    @data
    0.1,0.2,?:1.0,1.5,2.0:up
    0.3,0.4:0.9,0.8:down

A line after `@data` is a case: its channels parted by `:`, the values of a channel by `,`, the label last. `?` and
`NaN` stand for a missing value. Tags and labels may be written in any case. A tag that is not known here is passed
over; `%` begins a comment too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

_BOOLEANS = ("timestamps", "missing", "univariate", "equallength", "targetlabel")
_NUMBERS = ("dimensions", "serieslength")
_SYNONYMS = {"dimension": "dimensions"}


class MalformedTs(ValueError):
    """A `.ts` file that is not what the format, or its own header, says."""

    exit_code = 1


@dataclass(frozen=True)
class Header:
    """What stands before `@data`. None where the file does not say.

    Attributes:
        name: `@problemName`, or an empty string.
        missing: Whether values may be missing.
        univariate: Whether every case has one channel.
        channels: `@dimensions`.
        equal_length: Whether all cases have the same number of steps.
        steps: `@seriesLength`.
        kind: What the label is: "class", "target" (a number to predict), or None, of cases without a label.
        classes: The class names in the order of the header; empty unless `kind` is "class".
    """

    name: str = ""
    missing: bool | None = None
    univariate: bool | None = None
    channels: int | None = None
    equal_length: bool | None = None
    steps: int | None = None
    kind: Literal["class", "target"] | None = None
    classes: tuple[str, ...] = ()


class Case(NamedTuple):
    """One line after `@data`.

    Attributes:
        sequence: float32 `[steps, channels]`, NaN where a value is missing.
        label: Index into the header's classes, or None.
        target: The number to predict, or None.
    """

    sequence: NDArray[np.float32]
    label: int | None
    target: float | None


@dataclass(frozen=True, eq=False)
class TimeSeries:
    """A whole `.ts` file.

    Attributes:
        header: See `Header`.
        sequences: A case each, float32 `[steps, channels]`, NaN where a value is missing.
        labels: int64 `[n]`, indices into `header.classes`, or None.
        targets: float32 `[n]`, or None.
    """

    header: Header
    sequences: list[NDArray[np.float32]]
    labels: NDArray[np.int64] | None
    targets: NDArray[np.float32] | None


def read_ts(source: str | Path | Iterable[str], name: str | None = None) -> TimeSeries:
    """Read a `.ts` file whole.

    Args:
        source: A path, or the lines of a file.
        name: What error messages call it; the path unless given.

    Raises:
        MalformedTs: The file breaks the format or contradicts its own header; the message says where. Files with time
            stamps are refused too: a model here takes one step after the other and never sees the time between them.
        OSError: The file cannot be read.

    Example:
    >>> series = read_ts(["@classLabel true low high", "@data", "1,2,?:high", "3,4:low"])
    >>> [sequence[:, 0].tolist() for sequence in series.sequences], series.labels.tolist()
    ([[1.0, 2.0, nan], [3.0, 4.0]], [1, 0])
    """
    header, cases = stream_ts(source, name)
    sequences, labels, targets = [], [], []
    for case in cases:
        sequences.append(case.sequence)
        labels.append(case.label)
        targets.append(case.target)
    return TimeSeries(
        header,
        sequences,
        np.array(labels, np.int64) if header.kind == "class" else None,
        np.array(targets, np.float32) if header.kind == "target" else None,
    )


def stream_ts(source: str | Path | Iterable[str], name: str | None = None) -> tuple[Header, Iterator[Case]]:
    """The header at once, and the cases one by one as they are asked for; otherwise as `read_ts`.

    Example:
    >>> header, cases = stream_ts(["@targetLabel true", "@data", "1,2:0.5"])
    >>> header.kind, next(cases).target
    ('target', 0.5)
    """
    if isinstance(source, str | Path):
        lines = _Lines(_lines_of(Path(source)), name or str(source))
    else:
        lines = _Lines(source, name or "the lines given")
    header = _header(lines)
    return header, _cases(lines, header)


def fill_missing(sequence: NDArray[np.float32], instead: NDArray[Any]) -> NDArray[np.float32]:
    """Give every missing value a value, each channel by itself.

    Between two known values it lies on the straight line between them; steps count as evenly spaced. Before the first
    and after the last known value it is that value. A channel of which nothing is known gets `instead`.

    Args:
        sequence: `[steps, channels]`, NaN where a value is missing; left as it is.
        instead: `[channels]`, such as the `channel_means` of the training sequences: what a model that standardizes its
            inputs sees as zero.

    Returns:
        float32 `[steps, channels]`, all finite: the sequence itself where nothing is missing, else a copy.

    Example:
    >>> nan = float("nan")
    >>> fill_missing(np.array([[nan, nan], [1, nan], [nan, nan], [3, nan]], "float32"), np.array([0, 7])).tolist()
    [[1.0, 7.0], [1.0, 7.0], [2.0, 7.0], [3.0, 7.0]]
    """
    missing = np.isnan(sequence)
    if not missing.any():
        return sequence
    filled = sequence.copy()
    for channel in np.flatnonzero(missing.any(axis=0)):
        unknown = missing[:, channel]
        known = np.flatnonzero(~unknown)
        if known.size:
            filled[unknown, channel] = np.interp(np.flatnonzero(unknown), known, sequence[known, channel])
        else:
            filled[:, channel] = instead[channel]
    return filled


def channel_means(sequences: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
    """The mean of the known values of each channel over all sequences, `[channels]`; 0 where none is known.

    Example:
    >>> channel_means([np.array([[1, np.nan]], "float32"), np.array([[2, np.nan], [6, np.nan]], "float32")]).tolist()
    [3.0, 0.0]
    """
    total: Any = 0.0
    count: Any = 0
    for sequence in sequences:
        total = total + np.nansum(sequence, axis=0, dtype=np.float64)
        count = count + np.isfinite(sequence).sum(axis=0)
    return np.asarray(total / np.maximum(count, 1))


class _Lines:
    """The lines that say something; `number` is that of the last one, as an editor counts."""

    def __init__(self, lines: Iterable[str], name: str) -> None:
        self.numbered = enumerate(lines, 1)
        self._name = name
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        for number, line in self.numbered:
            self.number = number
            text = line.strip().removeprefix("\ufeff")
            if not text or text.startswith(("#", "%")):  # files made from ARFF keep its sign
                continue
            if "\ufffd" in text:
                raise self.error("bytes that are not UTF-8", "them in comments only")
            yield text

    def error(self, received: str, expected: str) -> MalformedTs:
        """About the line given last."""
        where = f"{self._name}, line {self.number}" if self.number else self._name
        return MalformedTs(f"{where}: received {received}, expected {expected}")


def _lines_of(path: Path) -> Iterator[str]:
    # Comments of some archive files are in other encodings; those bytes must not spoil the data.
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        yield from file


def _header(lines: _Lines) -> Header:
    found: dict[str, Any] = {}
    for line in lines:
        tag, *values = line.split()
        key = tag.lower().removeprefix("@")
        key = _SYNONYMS.get(key, key)
        if not line.startswith("@"):
            raise lines.error(_short(line), "a line that begins with @: the header ends with @data")
        if key == "data":
            if values:
                raise lines.error(_short(line), "@data alone on its line")
            return _checked(found, lines)
        if key in found and key != "problemname":  # files cut from others keep both names, and nothing depends on it
            raise lines.error(f"a second {tag}", "it once")
        if key == "problemname":
            found[key] = " ".join(values)
        elif key == "classlabel":
            found[key] = _class_names(tag, values, lines)
        elif key in _BOOLEANS:
            if len(values) != 1:
                raise lines.error(f"{tag} with {len(values)} values", "true or false")
            found[key] = _boolean(tag, values[0], lines)
        elif key in _NUMBERS:
            if len(values) != 1 or not values[0].isdecimal():
                raise lines.error(_short(line), f"{tag} and a whole number")
            found[key] = int(values[0])
        if key == "timestamps" and found[key]:
            raise _time_stamps(line, lines)
    raise lines.error(
        "no line @data" if lines.number else "an empty file", "a header, a line @data and at least one case"
    )


def _class_names(tag: str, values: list[str], lines: _Lines) -> tuple[str, ...]:
    if not values:
        raise lines.error(f"{tag} alone", "true and the class names, or false")
    true, names = _boolean(tag, values[0], lines), tuple(values[1:])
    if true != bool(names):
        raise lines.error(f"{tag} {values[0]} with {len(names)} class names", "true and the class names, or false")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise lines.error(f"class name {twice!r} twice", "different class names")
    return names


def _boolean(tag: str, value: str, lines: _Lines) -> bool:
    if value.lower() not in ("true", "false"):
        raise lines.error(f"{tag} {_short(value)}", "true or false")
    return value.lower() == "true"


def _checked(found: dict[str, Any], lines: _Lines) -> Header:
    classes, target = found.get("classlabel"), found.get("targetlabel")
    if classes is None and target is None:
        raise lines.error("a header without @classLabel and @targetLabel", "one of them")
    if classes and target:
        raise lines.error("@classLabel true and @targetLabel true", "one of them only")
    if found.get("univariate") and found.get("dimensions", 1) != 1:
        raise lines.error(
            f"@univariate true and @dimensions {found['dimensions']}", "@univariate false, or 1 dimension"
        )
    return Header(
        name=found.get("problemname", ""),
        missing=found.get("missing"),
        univariate=found.get("univariate"),
        channels=found.get("dimensions"),
        equal_length=found.get("equallength"),
        steps=found.get("serieslength"),
        kind="class" if classes else "target" if target else None,
        classes=classes or (),
    )


def _cases(lines: _Lines, header: Header) -> Iterator[Case]:
    channels = 1 if header.univariate else header.channels
    steps = header.steps if header.equal_length else None
    # The readers that the format comes from ignore case; here names are told apart by it where nothing else does.
    fold = str.casefold if len({name.casefold() for name in header.classes}) == len(header.classes) else str
    indices = {fold(name): index for index, name in enumerate(header.classes)}
    sequence = None
    for line in lines:
        if line.startswith("@"):
            raise lines.error(f"{_short(line)} after @data", "a case")
        if line.startswith("("):
            raise _time_stamps(line, lines)
        parts = line.split(":")
        label = target = None
        if header.kind is not None:
            text = parts.pop().strip()
            if not text or "," in text or not parts:
                raise lines.error("a case without a label", "it after the last ':'")
            if header.kind == "class":
                label = _label(text, indices.get(fold(text)), header, lines)
            else:
                target = _target(text, lines)
        if channels is None:
            channels = len(parts)
        if len(parts) != channels:
            raise lines.error(f"{len(parts)} channels", f"{channels}, as {_why_channels(header)}")
        sequence = _sequence(parts, header, lines)
        if header.equal_length:
            if steps is None:
                steps = len(sequence)
            if len(sequence) != steps:
                why = "the first case has" if header.steps is None else "@seriesLength says"
                raise lines.error(f"{len(sequence)} steps", f"{steps}, as {why} and @equalLength is true")
        yield Case(sequence, label, target)
    if sequence is None:
        raise lines.error("no case after @data", "at least one")


def _why_channels(header: Header) -> str:
    if header.univariate:
        return "the header says @univariate true"
    return "@dimensions says" if header.channels is not None else "the first case has"


def _sequence(parts: list[str], header: Header, lines: _Lines) -> NDArray[np.float32]:
    columns = [_channel(text, number, lines) for number, text in enumerate(parts, 1)]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        other = next(number for number, length in enumerate(lengths, 1) if length != lengths[0])
        raise lines.error(
            f"{lengths[0]} steps in channel 1 and {lengths[other - 1]} in channel {other}",
            "as many in every channel of a case",
        )
    sequence = np.stack(columns, axis=1)
    if header.missing is False and np.isnan(sequence).any():
        raise lines.error("a missing value", "none, as the header says @missing false")
    return sequence


def _channel(text: str, number: int, lines: _Lines) -> NDArray[np.float32]:
    fields = text.split(",")
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [_value(field.strip(), position, number, lines) for position, field in enumerate(fields, 1)]
    with np.errstate(over="ignore"):  # what overflows is refused below
        column = np.array(values, np.float64).astype(np.float32)
    infinite = np.flatnonzero(np.isinf(column))
    if infinite.size or "_" in text:  # Python reads 1_0 as ten
        position = int(infinite[0]) if infinite.size else next(i for i, field in enumerate(fields) if "_" in field)
        raise lines.error(
            f"{fields[position].strip()!r} as value {position + 1} of channel {number}", "a finite number in float32"
        )
    return column


def _value(field: str, position: int, number: int, lines: _Lines) -> float:
    try:
        return float("nan") if field == "?" else float(field)
    except ValueError:
        received = f"{_short(field)} as value {position} of channel {number}"
        raise lines.error(received, "a number, or ? or NaN where it is missing") from None


def _label(text: str, index: int | None, header: Header, lines: _Lines) -> int:
    if index is None:
        names = ", ".join(header.classes[:20]) + (", ..." if len(header.classes) > 20 else "")
        raise lines.error(f"label {_short(text)}", f"one of the header's: {names}")
    return index


def _target(text: str, lines: _Lines) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) <= float(np.finfo(np.float32).max):  # written so that NaN is refused too
        raise lines.error(f"target {_short(text)}", "a finite number")
    return value


def _time_stamps(line: str, lines: _Lines) -> MalformedTs:
    return lines.error(
        f"time stamps ({_short(line)})",
        "values alone: steps count as evenly spaced here. Resample the series, and write @timeStamps false",
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
