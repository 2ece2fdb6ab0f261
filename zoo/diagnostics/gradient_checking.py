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
    """How the gradient of one weight or input compares.

    Attributes:
        name: Path of the weight, or "input" with the name of the input.
        outcome: "pass", "fail", or "kinks only" where no sampled entry could be judged.
        error: Largest relative error among the entries judged.
        index: Where it is.
        analytic: The framework's gradient there.
        numeric: The central difference there.
        checked: How many entries were sampled.
        kinks: How many of them sit on a kink (as of ReLU at 0), where no gradient is right or wrong.
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
        kinks = f", {self.kinks} on a kink" if self.kinks else ""
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
        """No weight failed."""
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

    The function that is differentiated is a sum of all outputs with fixed random weights. The relative error is |a - n|
    over the larger of both, or over at least a thousandth of the weight's typical gradient, so that entries near zero
    are held to the scale of their neighbours. Where the difference quotient does not settle as the step shrinks, the
    entry sits on a kink; it is counted, not judged.

    Args:
        layer: A built layer or model; it is not changed. Dropout is off, as at inference.
        inputs: A batch as the layer takes it; small is enough, each entry costs two passes.
        call_arguments: Further arguments of the call, such as `{"mask": mask}`.
        samples: Entries of each weight and input that are checked, the one with the largest gradient among them.
        threshold: Largest relative error that passes.
        seed: Seed for the choice of entries and for the weights of the sum.

    Raises:
        DoublePrecisionRefused: The layer cannot run in float64; the message says why.
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
    found = gradients(problem.scalar, problem.values)
    return GradientCheck(
        tuple(
            _judge(problem, name, place, gradient, samples, threshold, rng)
            for place, (name, gradient) in enumerate(zip(problem.names, found, strict=True))
        ),
        threshold,
    )


@dataclass(frozen=True)
class _Problem:
    """A scalar function of weights and inputs, and where it is looked at."""

    layer: Any
    inputs: Any
    arguments: dict[str, Any]
    mixture: list[Any]
    names: tuple[str, ...]
    values: tuple[NDArray[Any], ...]

    def scalar(self, values: Sequence[Any]) -> Any:
        variables = self.layer.trainable_variables
        given = iter(values[len(variables) :])
        inputs = keras.tree.map_structure(lambda leaf: next(given) if _is_float(leaf) else leaf, self.inputs)
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
        """The scalar with nothing changed."""
        return self.at(0, self.values[0])

    def two_sided(self, place: int, index: tuple[int, ...], step: float) -> tuple[float, float]:
        """The central difference at one entry, and how far apart its two halves are."""
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
    # The original's names: Keras numbers those of a copy anew.
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
    """Refuse a layer that computes in float32 inside: it notices a change of 1e-4, but none of 1e-11."""
    value = problem.values[place]
    scale = np.maximum(np.abs(value), 1.0)
    large, small = (abs(problem.at(place, value + change * scale) - problem.middle) for change in (1e-4, 1e-11))
    if small == 0 and large > 1e-6 * abs(problem.middle):
        raise DoublePrecisionRefused(
            f"{type(layer).__name__} {layer.name!r} notices a change of 1e-4 in {name} but none of 1e-11, so it rounds "
            "to a lower precision inside; expected float64 throughout: cast to self.compute_dtype in its call"
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
    # Below what rounding does to a difference quotient, or a thousandth of the neighbours, nothing can be told.
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
        if not kink and not error <= worst[0]:  # written so that NaN counts as the worst
            worst = (error, index, analytic, numeric)
    outcome = "kinks only" if kinks == len(places) else "pass" if worst[0] <= threshold else "fail"
    return WeightVerdict(name, outcome, *worst, checked=len(places), kinks=kinks)


def _error(analytic: float, numeric: float, floor: float) -> float:
    return abs(analytic - numeric) / max(abs(analytic), abs(numeric), floor)


def _difference(
    problem: _Problem, place: int, index: tuple[int, ...], analytic: float, threshold: float, floor: float
) -> tuple[float, bool]:
    """The central difference, and whether the entry sits on a kink."""
    step = STEP * max(1.0, abs(float(problem.values[place][index])))
    numeric, jump = problem.two_sided(place, index, step)
    if _error(analytic, numeric, floor) <= threshold:
        return numeric, False
    finer, finer_jump = problem.two_sided(place, index, step / FINER)
    if _error(analytic, finer, floor) <= threshold:
        return finer, True  # the larger step crossed a kink
    # The two sides of a smooth function approach each other with the step; on a kink they stay apart. The gap must
    # also matter beside the disagreement: rounding keeps the sides of a linear function apart as well, a little.
    return finer, bool(finer_jump > 0.5 * jump and finer_jump > 0.01 * abs(analytic - finer))
