"""Central differences in float64 against the gradient that the framework computes."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from zoo.diagnostics.autograd import gradients
from zoo.diagnostics.double_precision import DoublePrecisionRefused, in_double
from zoo.diagnostics.recording import to_numpy
from zoo.interception import tensors

STEP = 1e-5  # balances truncation (step ** 2) against rounding (1e-16 / step) of a central difference
FINER = 30.0  # the second step is this much smaller
THRESHOLD = 1e-5


@dataclass(frozen=True)
class WeightVerdict:
    """The comparison for one weight or input.

    Attributes:
        name: Path of the weight, or "input" with the name of the input.
        outcome: "pass", "fail", or "kinks only" if no sampled entry could be judged.
        error: Largest relative error among the entries judged.
        index: Index of that entry.
        analytic: The framework's gradient there.
        numeric: The central difference there.
        checked: Number of sampled entries.
        kinks: Number of these at a kink (such as ReLU at 0), where no gradient is right or wrong.
    """

    name: str
    outcome: str
    error: float
    index: tuple[int, ...]
    analytic: float
    numeric: float
    checked: int
    kinks: int

    def __str__(self) -> str:
        kinks = f", {self.kinks} at a kink" if self.kinks else ""
        worst = f"worst {self.error:.1e} at {list(self.index)}: {self.analytic:.6g} against {self.numeric:.6g}"
        detail = worst if self.index else "nothing judged"
        return f"{self.outcome:<10} {self.name:<40} {detail} ({self.checked} entries{kinks})"


@dataclass(frozen=True)
class GradientCheck:
    """The verdict on every weight and input.

    Attributes:
        verdicts: Weights first, then inputs.
        threshold: Largest relative error that passes.
    """

    verdicts: tuple[WeightVerdict, ...]
    threshold: float

    @property
    def passed(self) -> bool:
        """Whether no weight and no input failed."""
        return all(verdict.outcome != "fail" for verdict in self.verdicts)

    @property
    def advice(self) -> tuple[str, ...]:
        """A sentence for every weight that failed."""
        return tuple(
            f"the gradient of {v.name} is wrong at {list(v.index)}: the framework says {v.analytic:.6g}, central "
            f"differences {v.numeric:.6g}; look at the custom gradient of the code that uses it"
            for v in self.verdicts
            if v.outcome == "fail"
        )

    def __str__(self) -> str:
        head = f"gradient check {'passed' if self.passed else 'FAILED'} (relative error up to {self.threshold:g})"
        return "\n".join([head, *map(str, self.verdicts), *self.advice])


def gradient_check(
    layer: keras.layers.Layer,
    inputs: Any,
    *,
    call_arguments: Mapping[str, Any] | None = None,
    samples: int = 20,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> GradientCheck:
    """Compare the gradient of any Keras layer or model with central differences, in float64 on a copy.

    The differentiated function is a sum of all outputs with fixed random weights. The relative error is |a - n| divided
    by the larger of both, or by at least a thousandth of the weight's typical gradient, so that entries near zero are
    measured on the scale of their neighbours. If the difference quotient does not converge as the step shrinks, the
    entry is at a kink; it is counted, not judged.

    Args:
        layer: A built layer or model; it is not changed. Dropout is off, as at inference.
        inputs: A batch in the form that the layer takes; a small one is enough, as each entry costs two passes.
        call_arguments: Further arguments of the call, such as `{"mask": mask}`.
        samples: Number of entries to check of each weight and input, including the one with the largest gradient.
        threshold: Largest relative error that passes.
        seed: Seed for the choice of entries and for the weights of the sum.

    Raises:
        DoublePrecisionRefused: The layer cannot run in float64; the message gives the reason.
        NotImplementedError: Keras's backend has no gradients, or JAX runs without 64-bit numbers.
        ValueError: `samples` or `threshold` is not positive, or the layer is not built.

    Example:
    >>> layer = keras.layers.Dense(2, activation="tanh", name="dense")
    >>> layer.build((None, 3))
    >>> check = gradient_check(layer, np.ones((2, 3), "float32"))
    >>> check.passed, [verdict.name for verdict in check.verdicts]
    (True, ['dense/kernel', 'dense/bias', 'input'])
    """
    if samples < 1 or threshold <= 0:
        raise ValueError(
            f"gradient_check needs at least 1 sample and a positive threshold; received {samples} and {threshold!r}"
        )
    rng = np.random.default_rng(seed)
    arguments = {name: ops.convert_to_tensor(value) for name, value in (call_arguments or {}).items()}
    problem = _problem(layer, keras.tree.map_structure(_double, inputs), arguments, rng)
    pairs = zip(problem.names, gradients(problem.scalar, problem.values), strict=True)
    return GradientCheck(
        tuple(
            _judge(problem, name, place, gradient, samples, threshold, rng)
            for place, (name, gradient) in enumerate(pairs)
        ),
        threshold,
    )


@dataclass(frozen=True)
class _Problem:
    """A scalar function of weights and inputs, and the values at which it is differentiated."""

    layer: Any
    inputs: Any
    arguments: dict[str, Any]
    mixture: list[Any]
    names: tuple[str, ...]
    values: tuple[NDArray[Any], ...]

    def scalar(self, values: Sequence[Any]) -> Any:
        variables = self.layer.trainable_variables
        floats = iter(values[len(variables) :])
        inputs = keras.tree.map_structure(lambda leaf: next(floats) if _is_float(leaf) else leaf, self.inputs)
        with keras.StatelessScope(state_mapping=list(zip(variables, values[: len(variables)], strict=True))):
            outputs = self.layer(tensors(inputs), **self.arguments)
        pairs = zip(self.mixture, keras.tree.flatten(outputs), strict=True)
        return sum(ops.sum(weights * output) for weights, output in pairs)

    def at(self, place: int, changed: NDArray[Any]) -> float:
        """The scalar with one of the values replaced."""
        values = [*self.values[:place], changed, *self.values[place + 1 :]]
        return float(to_numpy(self.scalar([ops.convert_to_tensor(value) for value in values])))

    @functools.cached_property
    def middle(self) -> float:
        """The scalar at the unchanged values."""
        return self.at(0, self.values[0])

    def two_sided(self, place: int, index: tuple[int, ...], step: float) -> tuple[float, float]:
        """The central difference at one entry, and the distance between its two one-sided differences."""
        change = np.zeros_like(self.values[place])
        change[index] = step
        after, before = (self.at(place, self.values[place] + sign * change) for sign in (1, -1))
        return (after - before) / (2 * step), abs(after - 2 * self.middle + before) / step


def _is_float(leaf: Any) -> bool:
    return bool(np.issubdtype(np.asarray(leaf).dtype, np.floating))


def _double(leaf: Any) -> NDArray[Any]:
    array = np.asarray(leaf)
    return array.astype("float64") if _is_float(array) else array


def _problem(layer: Any, inputs: Any, arguments: dict[str, Any], rng: np.random.Generator) -> _Problem:
    copy = in_double(layer, inputs, arguments)
    outputs = keras.tree.flatten(copy(tensors(inputs), **arguments))
    mixture = [ops.convert_to_tensor(rng.normal(size=tuple(output.shape))) for output in outputs]
    # The names in the original, because Keras numbers those in a copy anew.
    originals = zip(layer.trainable_variables, copy.trainable_variables, strict=True)
    named = [(original.path, to_numpy(variable)) for original, variable in originals]
    named += [
        ("/".join(["input", *map(str, path)]), leaf)
        for path, leaf in keras.tree.flatten_with_path(inputs)
        if _is_float(leaf)
    ]
    if not named:
        raise ValueError(f"{layer.name} has neither trainable weights nor float inputs: there is no gradient to check")
    names, values = zip(*named, strict=True)
    problem = _Problem(copy, inputs, arguments, mixture, names, values)
    for place, name in enumerate(names):
        _refuse_rounding(problem, layer, place, name)
    return problem


def _refuse_rounding(problem: _Problem, layer: Any, place: int, name: str) -> None:
    """Refuse a layer that computes in float32 inside: its result changes with a step of 1e-4, but not of 1e-11."""
    value = problem.values[place]
    scale = np.maximum(np.abs(value), 1.0)
    large, small = (abs(problem.at(place, value + change * scale) - problem.middle) for change in (1e-4, 1e-11))
    if small == 0 and large > 1e-6 * abs(problem.middle):
        raise DoublePrecisionRefused(
            f"the result of {type(layer).__name__} {layer.name!r} changes with a step of 1e-4 in {name} but not of "
            "1e-11, so it rounds to a lower precision inside; expected float64 throughout: cast to self.compute_dtype "
            "in its call"
        )


def _judge(
    problem: _Problem,
    name: str,
    place: int,
    gradient: NDArray[Any],
    samples: int,
    threshold: float,
    rng: np.random.Generator,
) -> WeightVerdict:
    largest = int(np.abs(gradient).argmax())
    others = [entry for entry in rng.permutation(gradient.size).tolist() if entry != largest]
    # Errors below the rounding of a difference quotient, or a thousandth of the neighbours' size, say nothing.
    rounding = 64 * float(np.finfo("float64").eps) * max(abs(problem.middle), 1.0) / STEP
    floor = max(1e-3 * float(np.sqrt(np.mean(gradient**2))), rounding / threshold)
    worst: tuple[float, tuple[int, ...], float, float] = (-1.0, (), float("nan"), float("nan"))
    kinks, places = 0, sorted([largest, *others[: samples - 1]])
    for entry in places:
        index = tuple(int(i) for i in np.unravel_index(entry, gradient.shape))
        analytic = float(gradient[index])
        numeric, kink = _difference(problem, place, index, analytic, threshold, floor)
        kinks += kink
        error = _error(analytic, numeric, floor)
        if not kink and not error <= worst[0]:  # not `error > worst[0]`: NaN has to count as the worst
            worst = (error, index, analytic, numeric)
    outcome = "kinks only" if kinks == len(places) else "pass" if worst[0] <= threshold else "fail"
    return WeightVerdict(name, outcome, *worst, checked=len(places), kinks=kinks)


def _error(analytic: float, numeric: float, floor: float) -> float:
    return abs(analytic - numeric) / max(abs(analytic), abs(numeric), floor)


def _difference(
    problem: _Problem, place: int, index: tuple[int, ...], analytic: float, threshold: float, floor: float
) -> tuple[float, bool]:
    """The central difference, and whether the entry is at a kink."""
    step = STEP * max(1.0, abs(float(problem.values[place][index])))
    numeric, jump = problem.two_sided(place, index, step)
    if _error(analytic, numeric, floor) <= threshold:
        return numeric, False
    finer, finer_jump = problem.two_sided(place, index, step / FINER)
    if _error(analytic, finer, floor) <= threshold:
        return finer, True  # the larger step crossed a kink
    # The one-sided differences of a smooth function converge as the step shrinks; at a kink they stay apart. The gap
    # must also be large beside the disagreement, because rounding keeps those of a linear function slightly apart.
    return finer, bool(finer_jump > 0.5 * jump and finer_jump > 0.01 * abs(analytic - finer))
