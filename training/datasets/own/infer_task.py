"""What is to be predicted of own data, and which sequences are test."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets.base import Examples, Slices, Task
from training.datasets.own.answers import Answers
from training.datasets.own.doubt import Doubt, answer
from training.datasets.own.doubts import Evidence, doubts as doubts_of
from training.datasets.own.parsed import Found, InvalidData, InvalidRequest, in_order, number
from training.datasets.own.recordings import recordings

TEST_SHARE = 0.2
# Part of the split rule: changing it would change what every earlier figure was measured on.
SPLIT_SEED = 0
# Inputs of a forecast, as so many horizons, where no window is given.
WINDOW_HORIZONS = 4
# At most so many different whole floats are taken for classes.
FEW_CLASSES = 20
NAMED = 3


NOTHING_SAID = Answers()


@dataclass(frozen=True)
class Decided:
    """A task, and the examples of both splits."""

    task: Task
    train: Examples
    test: Examples
    split_rule: str
    classes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    horizon: int = 1
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    channels: tuple[str, ...] = ()


def decide(
    found: Found, task: Task | None, horizon: int | None, window: int | None, answers: Answers = NOTHING_SAID
) -> Decided:
    """Decide what is to be predicted, make the examples, and say what is open.

    Without a `task`: labels that change within a sequence mean labelling. Labels that are all numbers, one of them
    not whole, mean regression. All others mean classification.

    Raises:
        InvalidRequest: The task does not go with the data, or needs a horizon.
        InvalidData: The data is too little, or its labels cannot be used.
    """
    found = selected(found, answers, task)
    if task == "forecasting":
        decided = _forecasting(found, horizon, window)
    else:
        if horizon is not None or window is not None:
            raise InvalidRequest(
                f"received horizon {horizon} and window {window} with task {task}, expected them with "
                "dataset.task=forecasting only"
            )
        found = _labelled(found, task)
        decided = _of_sequences(found, task)
    evidence = Evidence(found, decided.task, answers, task is not None)
    return replace(decided, doubts=found.doubts + doubts_of(evidence), channels=found.channels)


def selected(found: Found, answers: Answers, task: Task | None) -> Found:
    """The data without the channels that are not to be used, where it is no table, whose columns are chosen as read.

    Raises:
        InvalidRequest: A channel is named that is not there, or a role that arrays have an array for.
    """
    if found.columns or not answers.said():
        return found
    if other := [f"--{role}" for role in ("id", "label", "static") if getattr(answers, role)]:
        raise InvalidRequest(f"{', '.join(other)} is for columns of tables; here the arrays y and groups say that")
    answers = answers.resolved(found.channels, "the data, whose channels are these")
    kept = [index for index, name in enumerate(found.channels) if name not in (*answers.ignore, *answers.time)]
    if not kept:
        raise InvalidRequest("no channel is left, expected at least one that is neither ignored nor the time")
    return replace(
        found,
        sequences=[np.ascontiguousarray(sequence[:, kept]) for sequence in found.sequences],
        channels=tuple(found.channels[index] for index in kept),
        forecast=answers.target if task == "forecasting" else (),
    )


def _labelled(found: Found, task: Task | None) -> Found:
    """The data with labels that can be used, and with groups.

    Raises:
        InvalidRequest: It has none.
        InvalidData: It is one sequence.
    """
    if found.labels is None and found.numbers is None:
        raise InvalidRequest(
            "the data has no labels (no column label, no array y), and without them only forecasting can be learnt: "
            f"give dataset.task=forecasting and dataset.horizon=STEPS, or add labels{_label_columns(found)}"
        )
    if len(found.sequences) < 2:
        raise InvalidData(
            "received 1 sequence, expected at least 2, one of them to test on: if the rows are of several sequences, "
            f"name the column that tells them apart ({answer('id', 'COLUMN')}); to forecast the one, give --task "
            "forecasting --horizon STEPS"
        )
    return _with_recordings(_with_classes(found, task))


def _of_sequences(found: Found, task: Task | None) -> Decided:
    used = _used(found)
    values = [number(text) for text in used]
    by_step = isinstance(found.labels, list)
    if task is None:
        if found.numbers is not None:
            task = "regression"
        elif by_step:
            task = "labelling"
        else:
            task = "regression" if _are_measured(values) else "classification"
    if task == "regression":
        return _regression(found, used)
    if found.numbers is not None:
        raise InvalidRequest(f"the targets are floats, expected integers or text for dataset.task={task}")
    if by_step != (task == "labelling"):
        there, wanted = ("step", "sequence") if by_step else ("sequence", "step")
        raise InvalidRequest(
            f"the data has a label a {there}, expected one a {wanted} for dataset.task={task}{_where(found)}"
        )
    if by_step and _are_measured(values):
        raise InvalidData(
            "the labels change within a sequence and are not whole numbers; a number a step cannot be predicted, "
            "except of the channels themselves: give --task forecasting --horizon STEPS, which forecasts a column "
            f"named target, or any other with {answer('target', 'COLUMN')}"
        )
    return _classes(found, task)


def _label_columns(found: Found) -> str:
    """Which columns could be the labels: those that are constant within sequences, or have few values."""
    if not found.columns or len(found.sequences) < 2:
        return f", or name their column: {answer('label', 'COLUMN')}"
    first = np.stack([sequence[0] for sequence in found.sequences])
    constant: list[bool] = np.all([(steps == steps[0]).all(axis=0) for steps in found.sequences], axis=0).tolist()
    few = [
        name
        for index, name in enumerate(found.channels)
        if constant[index] and 1 < len(np.unique(first[:, index])) <= max(len(first) / 2, 2)
    ]
    return f", or name their column: {answer('label', few[0] if few else 'COLUMN')}"


def _with_classes(found: Found, task: Task | None) -> Found:
    """Numbers to be predicted as labels, where they are classes written as numbers: 1.0 and 2.0, or one 1 among 0s."""
    numbers = found.numbers
    if numbers is None or found.by_form or task == "regression" or not (numbers == np.round(numbers)).all():
        return found
    if numbers.shape[1] > 1:
        if not (np.isin(numbers, (0, 1)).all() and (numbers.sum(axis=1) == 1).all()):
            return found
        texts = found.outputs if found.columns else tuple(map(str, range(numbers.shape[1])))
        seen = f"each row of the {numbers.shape[1]} numbers to be predicted holds one 1 among zeros"
        labels = numbers.argmax(axis=1).astype(np.int64)
    else:
        distinct, labels = np.unique(numbers[:, 0], return_inverse=True)
        if task is None and (len(distinct) > FEW_CLASSES or 2 * len(distinct) > len(numbers)):
            return found
        texts = tuple(str(int(value)) for value in distinct)
        seen = f"the labels are written as floats, but are all whole, {len(texts)} different ones"
    doubt = Doubt(seen, "they are classes", "--task classification, or --task regression", stops=task is None)
    return replace(found, numbers=None, labels=labels.astype(np.int64), texts=texts, doubts=(*found.doubts, doubt))


def _with_recordings(found: Found) -> Found:
    """The data with the recordings that its sequences were cut from as groups, where it names no groups."""
    if found.groups is not None:
        if found.in_test is None:
            return found
        sides = [
            {group for group, test in zip(found.groups, found.in_test, strict=True) if test == side}
            for side in (False, True)
        ]
        both = sides[0] & sides[1]
        note = f"{len(both)} of {len(sides[0] | sides[1])} groups are both in train and in test, as the data has it"
        return replace(found, notes=(*found.notes, note)) if both else found
    cut_from = recordings(found.sequences)
    if cut_from is None:
        return found
    note = (
        f"{len(cut_from)} sequences share steps, as windows that overlap and copies do, and so come from "
        f"{len(np.unique(cut_from))} recordings, which are taken for groups: those of one are never parted by a split"
    )
    if found.in_test is not None:
        shared = int((np.isin(cut_from, cut_from[found.in_test]) & ~found.in_test).sum())
        note += f", but for the data's own, where {shared} sequences of train share steps with some of test"
    return replace(found, groups=[f"recording {index:06}" for index in cut_from], notes=(*found.notes, note))


def _where(found: Found) -> str:
    return f" ({found.notes[0]})" if found.notes else ""


def _are_measured(values: list[float | None]) -> bool:
    """Whether all are numbers and at least one is not whole."""
    known = [value for value in values if value is not None]
    return len(known) == len(values) and any(value != int(value) for value in known)


def _used(found: Found) -> list[str]:
    """The texts that stand for a label of some sequence."""
    if found.labels is None:
        return []
    codes = np.concatenate(found.labels) if isinstance(found.labels, list) else found.labels
    return [found.texts[code] for code in np.unique(codes[codes >= 0])]


def _regression(found: Found, used: list[str]) -> Decided:
    numbers = found.numbers
    if numbers is None:
        if isinstance(found.labels, list):
            raise InvalidRequest(
                f"the data has a label a step, expected one a sequence for dataset.task=regression{_where(found)}"
            )
        if unfit := [text for text in used if number(text) is None]:
            raise InvalidRequest(f"the label {unfit[0]!r} is not a number, as dataset.task=regression needs them")
        values = np.array([number(text) or 0.0 for text in found.texts])
        with np.errstate(over="ignore"):  # Examples refuses what becomes infinite
            numbers = values[found.labels].astype(np.float32)[:, None]
    in_test, rule = _split(found, np.zeros(len(found.sequences), np.int64))
    train, test = _examples(found, numbers, in_test)
    return Decided("regression", train, test, rule, outputs=found.outputs, notes=found.notes)


def _classes(found: Found, task: Task) -> Decided:
    classes, position = _class_names(found)
    if isinstance(found.labels, list):
        labels: Any = [np.where(part < 0, -1, position[part]) for part in found.labels]
        strata = np.zeros(len(labels), np.int64)
    else:
        labels = strata = position[found.labels]
    if len(classes) < 2:
        raise InvalidData(
            f"every label is {classes[0]!r}, expected at least 2 different ones" if classes else "no label"
        )
    if task == "classification" and len(classes) > len(labels) / 2:
        raise InvalidData(
            f"{len(classes)} different labels of {len(labels)} sequences are too many for classes: give more sequences "
            "of each, or dataset.task=regression where the label is a number"
        )
    in_test, rule = _split(found, strata)
    train, test = _examples(found, labels, in_test)
    notes = list(found.notes)
    for split, part in (("train", train), ("test", test)):
        seen = np.concatenate(part.targets) if task == "labelling" else part.targets
        if seen.max() < 0:
            raise InvalidData(
                f"no step of the {len(part)} sequences of the {split} split has a label, so there is nothing to "
                f"{'score' if split == 'test' else 'learn'}: label steps of more sequences, or leave out those that "
                f"have none ({rule})"
            )
        missing = sorted(set(range(len(classes))) - set(seen.tolist()))
        if missing:
            names = ", ".join(classes[label] for label in missing[:5]) + (", ..." if len(missing) > 5 else "")
            notes.append(f"{len(missing)} of {len(classes)} classes have no example in {split}: {names}")
    return Decided(task, train, test, rule, classes=classes, notes=tuple(notes))


def _class_names(found: Found) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The classes in their order, and the class of each of `found.texts`."""
    if found.declared:
        return found.texts, np.arange(len(found.texts))
    used = _used(found)
    whole = bool(used) and all(value is not None and value == int(value) for value in map(number, used))
    # Of whole numbers, 1 and 1.0 are one class.
    named = {text: str(int(number(text) or 0)) if whole else text for text in used}
    distinct = list(dict.fromkeys(named.values()))
    classes = tuple(distinct[index] for index in in_order(distinct))
    return classes, np.array([classes.index(named[text]) if text in named else -1 for text in found.texts], np.int64)


def _examples(found: Found, targets: Any, in_test: NDArray[np.bool_]) -> tuple[Examples, Examples]:
    groups = None
    if found.groups is not None:
        groups = np.unique(found.groups, return_inverse=True)[1].reshape(-1).astype(np.int64)
    every = Examples(found.sequences, targets, groups)
    return every.subset(~in_test), every.subset(in_test)


# === Splitting ===


def _split(found: Found, strata: NDArray[np.int64]) -> tuple[NDArray[np.bool_], str]:
    """Which sequences are test, and the rule in words."""
    if found.in_test is not None:
        return found.in_test, found.split_rule
    permutation = f"of a permutation by numpy.random.RandomState({SPLIT_SEED})"
    if found.groups is None:
        each = "per class " if strata.any() else ""
        rule = f"{each}the first fifth (rounded, at least one, never all) {permutation} is test"
        return _stratified(strata), f"{rule}; the same file gives the same split"
    rule = (
        f"by group: in the order {permutation} of their sorted names, a group is test where test then holds at most a "
        "fifth of the sequences (where none does, the smallest) and train keeps every class"
    )
    try:
        in_test = _grouped(np.array(found.groups), strata)
    except InvalidData as error:
        raise InvalidData(f"{error}{_where(found)}") from error
    return in_test, f"{rule}; the same file gives the same split"


def _stratified(strata: NDArray[np.int64]) -> NDArray[np.bool_]:
    # RandomState's stream is frozen by NumPy's policy; default_rng's may change between releases.
    generator = np.random.RandomState(SPLIT_SEED)
    chosen = np.zeros(len(strata), bool)
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero(strata == stratum))
        chosen[members[: min(max(round(TEST_SHARE * len(members)), 1), len(members) - 1)]] = True
    return chosen


def _grouped(groups: NDArray[np.str_], strata: NDArray[np.int64]) -> NDArray[np.bool_]:
    names, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.RandomState(SPLIT_SEED).permutation(len(names))
    chosen = np.zeros(len(names), bool)

    def can_be_spared(group: int) -> bool:
        left = strata[~chosen[members] & (members != group)]
        return len(np.unique(left)) == len(np.unique(strata))

    for group in order:
        if sizes[chosen].sum() + sizes[group] <= TEST_SHARE * len(groups) and can_be_spared(group):
            chosen[group] = True
    if not chosen.any():
        spare = [group for group in order if can_be_spared(group)]
        if not spare:
            raise InvalidData(
                f"no group of {len(names)} can be set aside to test on, because every one holds all sequences of some "
                "class: give more groups, or none"
            )
        chosen[min(spare, key=lambda group: int(sizes[group]))] = True
    return chosen[members]


# === Forecasting ===


def _forecasting(found: Found, horizon: int | None, window: int | None) -> Decided:
    """Cut windows: the steps of one are the input, the `horizon` steps after it are to be predicted."""
    if horizon is None or horizon < 1:
        raise InvalidRequest(
            f"received horizon {horizon}, expected how many steps ahead to forecast: dataset.horizon=1 or more"
        )
    window = WINDOW_HORIZONS * horizon if window is None else window
    if window < 1:
        raise InvalidRequest(
            f"received window {window}, expected how many steps to forecast from: dataset.window=1 or more"
        )
    slices = Slices.of(found.sequences)
    spans: dict[str, list[NDArray[np.int64]]] = {"train": [], "test": []}
    reach = window + horizon
    for index, length in enumerate(slices.lengths.tolist()):
        held_out = 0 if found.in_test is not None else max(int(TEST_SHARE * length), horizon)
        # One window to train on, and one horizon behind it to validate.
        in_test = found.in_test is not None and bool(found.in_test[index])
        needed = reach if in_test else reach + horizon
        if length - held_out < needed:
            kept = f", of which {held_out} are test" if held_out else ""
            what = "to test on" if in_test else f"to train on and {horizon} more to validate"
            raise InvalidData(
                f"series {index} of {len(slices)} has {length} steps{kept}: too few for a window of {window} and the "
                f"{horizon} after it {what}, which need {needed}; give a shorter dataset.window or dataset.horizon, or "
                "leave the series out"
            )
        if not in_test:
            spans["train"].append(_spans(index, 0, length - held_out, reach))
        if in_test or held_out:
            spans["test"].append(_spans(index, 0 if in_test else length - held_out - window, length, reach))
    outputs = [index for index, name in enumerate(found.channels) if name in _forecast(found)]
    train, test = (_windows(slices, np.concatenate(spans[split]), window, outputs) for split in ("train", "test"))
    share = "by time: the last fifth of every series is forecast in test and unknown to train"
    rule = (
        f"{share if found.in_test is None else found.split_rule}; an example is a window of {window} steps and the "
        f"{horizon} after it; one begins at every step"
    )
    notes = list(found.notes)
    if found.labels is not None or found.numbers is not None:
        notes.append("labels are not used: the channels themselves are forecast")
    names = _forecast(found)
    if found.forecast and len(names) < len(found.channels):
        given = [name for name in found.channels if name not in names]
        more = ", ..." if len(given) > NAMED else ""
        notes.append(
            f"{', '.join(names)} is forecast, from itself and {', '.join(given[:NAMED])}{more}, which are given up "
            "to the last step before the forecast"
        )
    return Decided("forecasting", train, test, rule, outputs=names, horizon=horizon, notes=tuple(notes))


def _spans(series: int, begin: int, end: int, reach: int) -> NDArray[np.int64]:
    """A window of `reach` steps from every step on that leaves room for it: series, first step, end."""
    first = np.arange(begin, end - reach + 1)
    return np.stack([np.full(len(first), series), first, first + reach], axis=1)


def _forecast(found: Found) -> tuple[str, ...]:
    """The channels that are forecast: those that are named, else all that change within a sequence by their nature."""
    return found.forecast or tuple(name for name in found.channels if name not in found.static)


def _windows(slices: Slices, spans: NDArray[np.int64], window: int, outputs: list[int]) -> Examples:
    values, horizon = slices.values, int(spans[0, 2] - spans[0, 1]) - window
    first = slices.starts[spans[:, 0]] + spans[:, 1]
    # The windows overlap in the one array of values; only the targets are copies.
    sequences = Slices(values, first, np.full(len(first), window, np.int64))
    after = np.lib.stride_tricks.sliding_window_view(values[:, outputs], horizon, axis=0)[first + window]
    return Examples(sequences, np.ascontiguousarray(after.transpose(0, 2, 1)), spans=spans)
