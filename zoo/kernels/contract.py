"""The contract of all engines: what a layer says of itself, what a call takes and gives, what an engine is."""

import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import keras

from zoo import devices
from zoo.activations import Activation
from zoo.kernels.target import Place
from zoo.types import Gates, Tensor


@dataclass(frozen=True)
class LayerSpec:
    """What is known of a layer before it is called: what an engine may refuse.

    Attributes:
        activations: The activation of each gate, as `zoo.activations.get` gives it; `None` where not known.
        units: Width of the states, or `None` where not known.
        dtype: What the layer computes in, such as "float32".
        cell_clip: Bound of the cell state, or `None`.
        recurrent_dropout: Share of the hidden state dropped.
        use_cudnn: Whether cuDNN may run it.
    """

    activations: Gates[Any] | None = None
    units: int | None = None
    dtype: str = "float32"
    cell_clip: float | None = None
    recurrent_dropout: float = 0.0
    use_cudnn: bool = True

    @property
    def by_gate(self) -> Iterable[tuple[str, Any]]:
        """The name of each gate with its activation; nothing where they are not known."""
        return self.activations._asdict().items() if self.activations else ()


def unsupported_activation(spec: LayerSpec, names: Collection[str]) -> str | None:
    """Say which activation is not one of the rows `names` of the table, and why; `None` where all are.

    Example:
    >>> from zoo.activations import get
    >>> unsupported_activation(LayerSpec(Gates(*[get("softmax")] * 5)), ["tanh"])
    "the activation of its input_gate is 'softmax', which is not elementwise"
    """
    for gate, activation in spec.by_gate:
        if not isinstance(activation, Activation):
            return f"the activation of its {gate} is {activation!r}, which is not one of zoo.activations"
        if activation.name not in names:
            how = "random in training" if activation.definition.random else "not in its table"
            how = how if activation.definition.elementwise else "not elementwise"
            return f"the activation of its {gate} is {str(activation)!r}, which is {how}"
    return None


def unusual_gate(activations: Gates[Any]) -> str | None:
    """The first gate whose activation differs from the published LSTM's; `None` where none does.

    Sigmoid for the three gates, tanh for candidate and cell state: what libraries have one operation for.

    Example:
    >>> from zoo.activations import get
    >>> unusual_gate(Gates(*map(get, ("sigmoid", "sigmoid", "relu", "sigmoid", "tanh"))))
    'candidate'
    """
    for gate, activation in zip(Gates._fields, activations, strict=True):
        if activation != published_activation(gate):
            return gate
    return None


def published_activation(gate: str) -> Activation:
    """The activation of `gate` in the published LSTM."""
    return Activation("sigmoid" if gate.endswith("_gate") else "tanh")


@dataclass(frozen=True)
class Options:
    """What a call of the recurrence is told beside its tensors.

    Attributes:
        activations: The activation of each gate: a row of the table or, for the engines that take them, a function of
            one tensor.
        cell_clip: Bound of the cell state, or `None`.
        go_backwards: Read from the last step to the first.
        return_sequences: Put out every step, not only the last.
        zero_output_for_mask: Put out 0 at a masked step, not what the step before did.
        training: Keep what the backward pass needs. Gradients are right without it too, at the price of a second
            forward pass.
        compiled: Whether XLA compiles the graph that the call is traced into.
    """

    activations: Gates[Any]
    cell_clip: float | None = None
    go_backwards: bool = False
    return_sequences: bool = False
    zero_output_for_mask: bool = False
    training: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Operands:
    """The tensors of a call, all of one floating type; b batch, t steps, d channels, n units.

    Attributes:
        x: (b, t, d).
        kernel: (d, 4 n).
        recurrent_kernel: (n, 4 n).
        bias: (4 n,) or `None`.
        h: (b, n), the hidden state before the first step.
        c: (b, n), the cell state before the first step.
        mask: Bool (b, t), or `None` for all true.
        dropout: (4, b, d + n), factors of [x, h] for each gate, or `None`.
        slopes: What the activation of each gate learns, (n,), or drew, (b, n); `None` where its own parameter stands.
    """

    x: Tensor
    kernel: Tensor
    recurrent_kernel: Tensor
    bias: Tensor | None
    h: Tensor
    c: Tensor
    mask: Tensor | None
    dropout: Tensor | None
    slopes: Gates[Tensor | None]


def bound(activations: Gates[Any], slopes: Gates[Tensor | None]) -> Gates[Callable[[Tensor], Tensor]]:
    """The activations as functions of one tensor, with what they learn or drew filled in."""

    def filled(activation: Any, slope: Tensor | None) -> Callable[[Tensor], Tensor]:
        if slope is None:
            return activation  # type: ignore[no-any-return]
        definition = activation.definition
        return functools.partial(activation, **{definition.learnable or definition.random: slope})

    return Gates(*map(filled, activations, slopes))


# outputs, (b, t, n) or (b, n), in the order in which the steps were read; the last h; the last c
Outputs = tuple[Tensor, Tensor, Tensor]
Run = Callable[[Operands, Options], Outputs]

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}


class EngineUnavailable(ValueError):
    """The engine that was asked for cannot run this layer here."""


@dataclass(frozen=True)
class Engine:
    """One way to run the recurrence. "auto" asks the rows of `zoo.kernels.ENGINES` from first to last.

    Attributes:
        summary: What it is, in one line.
        run: What runs a call; `None` where Keras's own RNN loop over our cell does.
        refuses: Called with a layer's spec: why it cannot run such a layer, or `None`.
        missing: What it lacks on this machine, such as a library that was not built, or `None`.
        detail: What `zoo doctor` says of it where it can run, or `None`.
        backends: Keras's backends that it runs on; empty for all.
        needs_gpu: Whether it computes on a GPU only.
        auto_on_cpu: Backends on which "auto" takes it where there is no GPU.
        auto_on_gpu: Backends on which "auto" takes it where there is one.
        not_for_xla_on: Backends whose XLA cannot compile its operations.
        places: Where a graph that holds its operations may run. Whoever asks for it by name may trace it into a graph
            of `Place.UNKNOWN` too.
        computes_in: From the type in which a layer computes, such as "float16", to the one that the call is given.
        first_order_on: Backends on which it has a first gradient in reverse mode only, so that the rest has to come
            from elsewhere.
    """

    summary: str
    run: Run | None
    refuses: Callable[[LayerSpec], str | None] = lambda spec: None
    missing: Callable[[], str | None] = lambda: None
    detail: Callable[[], str | None] = lambda: None
    backends: tuple[str, ...] = ()
    needs_gpu: bool = False
    auto_on_cpu: tuple[str, ...] = ()
    auto_on_gpu: tuple[str, ...] = ()
    not_for_xla_on: tuple[str, ...] = ()
    places: tuple[Place, ...] = (Place.HERE,)
    computes_in: Callable[[str], str] = str
    first_order_on: tuple[str, ...] = ()

    def unavailable(self) -> str | None:
        """Why it cannot run here at all, or `None` where it can."""
        backend = keras.backend.backend()
        if self.backends and backend not in self.backends:
            *most, last = (BACKENDS[name] for name in self.backends)
            names = f"{', '.join(most)} and {last} backends" if most else f"{last} backend"
            return f"it runs on Keras's {names}, and this is {backend}"
        if self.needs_gpu and not devices.has_gpu():
            return f"it needs a GPU, and Keras's {backend} backend has none here"
        return self.missing()

    def refusal(self, spec: LayerSpec) -> str | None:
        """Why it cannot run such a layer here, or `None` where it can."""
        return self.unavailable() or self.refuses(spec)

    @property
    def for_xla(self) -> bool:
        """Whether XLA can compile its operations on this backend."""
        return keras.backend.backend() not in self.not_for_xla_on
