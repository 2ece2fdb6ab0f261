"""Setting a part of the training examples aside for validation: by class, by group, or in time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.batches.errors import InvalidPipeline
from training.datasets.base import Examples


def train_validation_split(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Set a part of the training examples aside for model choice.

    Without groups the split of a classification is stratified: of every class, `fraction` of its examples (rounded, at
    least one, never all) go to validation; a class of one example stays in training. With groups, whole groups go to
    validation until `fraction` of the examples is reached, first those that bring a class that is missing there;
    a group is never taken when a class would be left without a training example. Windows of series (those with
    `spans`) are split in time, each series alike: see `_in_time`.

    Args:
        examples: What to split.
        fraction: Share for validation, between 0 and 1, both excluded.
        seed: Same seed and examples, same split.

    Returns:
        `(train, validation)`, each in the order of `examples`.

    Raises:
        InvalidPipeline: `fraction` lies outside, nothing can be spared for validation, or a series is too short.

    Example:
    >>> examples = Examples([np.zeros((2, 1), "float32")] * 10, np.repeat([0, 1], 5))
    >>> train, validation = train_validation_split(examples, fraction=0.2, seed=1)
    >>> train.labels.tolist(), validation.labels.tolist()
    ([0, 0, 0, 0, 1, 1, 1, 1], [0, 1])
    """
    if not 0 < fraction < 1:
        raise InvalidPipeline(f"validation fraction is {fraction}, expected more than 0 and less than 1")
    if examples.spans is not None:
        training, in_validation = _in_time(examples, fraction)
        return examples.subset(training), examples.subset(in_validation)
    generator = np.random.default_rng(seed)
    labels = examples.kind.strata(examples.targets, len(examples))
    in_validation = (
        _stratified(labels, fraction, generator)
        if examples.groups is None
        else _grouped(labels, examples.groups, fraction, generator)
    )
    if not in_validation.any():
        raise InvalidPipeline(
            f"no example of {len(examples)} can be spared for validation, expected a class with at least 2 "
            "examples (with groups: in 2 groups): use more training data, or train without validation"
        )
    return examples.subset(~in_validation), examples.subset(in_validation)


def _stratified(labels: NDArray[np.int64], fraction: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        wanted = min(max(round(fraction * len(members)), 1), len(members) - 1)
        chosen[members[:wanted]] = True
    return chosen


def _grouped(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    chosen = np.zeros(len(labels), bool)
    shuffled = generator.permutation(np.unique(groups))

    def take_where(is_wanted: Any) -> None:
        for group in shuffled:
            members = groups == group
            left_over = np.isin(np.unique(labels), labels[~chosen & ~members])
            if not chosen[members].any() and left_over.all() and is_wanted(members):
                chosen[members] = True

    take_where(lambda members: not np.isin(labels[members], labels[chosen]).all())
    take_where(lambda members: chosen.sum() + members.sum() <= fraction * len(labels))
    return chosen


def _in_time(examples: Examples, fraction: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which windows train, and which validate: neither, where a window reaches over the border.

    Of the steps that the windows of a series cover, the last `fraction` is forecast in validation (rounded, at least
    one horizon, and never so many that no window is left to train on). A window trains if it ends before that stretch
    begins, so that no step that validation asks for was an input or a target. A window validates if all that it asks
    for lies within; what it is given may reach back into training.

    Raises:
        InvalidPipeline: A series is too short for one window on each side.
    """
    spans: NDArray[np.int64] = examples.spans if examples.spans is not None else np.zeros((0, 3), np.int64)
    series, first, end = spans.T
    horizon = int(examples.targets.shape[1])
    training, in_validation = np.zeros(len(examples), bool), np.zeros(len(examples), bool)
    for each in np.unique(series):
        members = np.flatnonzero(series == each)
        begin, behind = int(first[members].min()), int(end[members].max())
        steps, needed = behind - begin, int((end - first)[members].max())
        held_out = min(max(round(fraction * steps), horizon), steps - needed)
        if held_out < horizon:
            raise InvalidPipeline(
                f"series {each} has {steps} steps to train and validate on, expected at least {needed + horizon}: a "
                f"window of {needed - horizon} with the {horizon} after it to train on, and {horizon} more to "
                "validate: give a shorter dataset.window or dataset.horizon, or leave the series out"
            )
        border = behind - held_out
        training[members] = end[members] <= border
        in_validation[members] = end[members] - horizon >= border
    return training, in_validation
