"""Setting a part of the training examples aside for validation: stratified by class, or whole groups."""

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
    a group is never taken when a class would be left without a training example.

    Args:
        examples: What to split.
        fraction: Share for validation, between 0 and 1, both excluded.
        seed: Same seed and examples, same split.

    Returns:
        `(train, validation)`, each in the order of `examples`.

    Raises:
        InvalidPipeline: `fraction` lies outside, or nothing can be spared for validation.

    Example:
    >>> examples = Examples([np.zeros((2, 1), "float32")] * 10, np.repeat([0, 1], 5))
    >>> train, validation = train_validation_split(examples, fraction=0.2, seed=1)
    >>> train.labels.tolist(), validation.labels.tolist()
    ([0, 0, 0, 0, 1, 1, 1, 1], [0, 1])
    """
    if not 0 < fraction < 1:
        raise InvalidPipeline(f"validation fraction is {fraction}, expected more than 0 and less than 1")
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
