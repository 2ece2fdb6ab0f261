"""The contract of all engines: the description of a layer, the inputs and outputs of a call, and an engine itself."""

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
    """Description of a layer before it is called, by which an engine may refuse it.

    Attributes:
        activations: The activation of each gate, as returned by `zoo.activations.get`; `None` where not known.
        units: Width of the states, or `None` where not known.
        dtype: The type in which the layer computes, such as "float32".
        cell_clip: Bound for the cell state, or `None`.
        recurrent_dropout: Share of the hidden state dropped.
        use_cudnn: Whether cuDNN may run the layer.
    """

    activations: Gates[Any] | None = None
    units: int | None = None
    dtype: str = "float32"
    cell_clip: float | None = None
    recurrent_dropout: float = 0.0
    use_cudnn: bool = True

    @property
    def by_gate(self) -> Iterable[tuple[str, Any]]:
        """The name of each gate with its activation; empty where they are not known."""
        return self.activations._asdict().items() if self.activations else ()


def unsupported_activation(spec: LayerSpec, names: Collection[str]) -> str | None:
    """Say which activation an engine lacks that has the rows `names` of the table, and why; `None` if it has all.

    Example:
    >>> from zoo.activations import get
    >>> unsupported_activation(LayerSpec(Gates(*[get("softmax")] * 5)), ["tanh"])
    "the activation of its input_gate is 'softmax', which is not elementwise"
    """
    for gate, activation in spec.by_gate:
        if not isinstance(activation, Activation):
            return f"the activation of its {gate} is {activation!r}, which is not in the table of zoo.activations"
        if activation.name not in names:
            how = "random in training" if activation.definition.random else "not in its table"
            how = how if activation.definition.elementwise else "not elementwise"
            return f"the activation of its {gate} is {str(activation)!r}, which is {how}"
    return None


def unusual_gate(activations: Gates[Any]) -> str | None:
    """The first gate whose activation differs from the published LSTM's; `None` where none does.

    For the published activations, sigmoid for the gates and tanh for candidate and hidden state, libraries have one
    operation.

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
    """The options of a call.

    Attributes:
        activations: The activation of each gate: a row of the table or, where the engine supports it, a function of one
            tensor.
        cell_clip: Bound for the cell state, or `None`.
        go_backwards: Whether to read from the last step to the first.
        return_sequences: Whether to return the output of every step, not only of the last.
        zero_output_for_mask: Whether the output of a masked step is 0, not that of the step before.
        training: Whether to keep what the backward pass needs. Without it gradients are correct too, but cost a second
            forward pass.
        compiled: Whether XLA compiles the graph of the call.
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
        slopes: The learned slope (n,) or the random slope (b, n) of each activation; `None` for its own parameter.
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
    """The activations as functions of one tensor, with the slopes filled in."""

    def filled(activation: Any, slope: Tensor | None) -> Callable[[Tensor], Tensor]:
        if slope is None:
            return activation  # type: ignore[no-any-return]
        definition = activation.definition
        return functools.partial(activation, **{definition.learnable or definition.random: slope})

    return Gates(*map(filled, activations, slopes))


# The outputs, (b, t, n) or (b, n), in the order in which the steps were read; the last h; the last c.
Outputs = tuple[Tensor, Tensor, Tensor]
Run = Callable[[Operands, Options], Outputs]

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}


class EngineUnavailable(ValueError):
    """The requested engine cannot run this layer here."""


@dataclass(frozen=True)
class Engine:
    """One way to run the recurrence, a row of `zoo.kernels.ENGINES`.

    Attributes:
        summary: Description in one line.
        run: Function that runs a call; `None` for Keras's RNN loop over our cell.
        refuses: From a layer's spec to the reason why the engine cannot run such a layer, or `None`.
        missing: What the engine lacks on this machine, such as a library that was not built, or `None`.
        detail: A further line for `zoo doctor` where the engine can run, or `None`.
        backends: The Keras backends on which it runs; empty for all.
        needs_gpu: Whether it computes on a GPU only.
        auto_on_cpu: Backends on which "auto" considers it without a GPU.
        auto_on_gpu: Backends on which "auto" considers it with a GPU.
        not_for_xla_on: Backends whose XLA cannot compile its operations.
        places: The places where a graph with its operations may run. If the engine is named, a graph of
            `Place.UNKNOWN` may have them too.
        computes_in: From the type in which a layer computes, such as "float16", to the type of the operands.
        first_order_on: Backends on which it has a first gradient in reverse mode only; `zoo.kernels.derivatives` adds
            all other derivatives.
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
        """The reason why it cannot run any layer here, or `None`."""
        backend = keras.backend.backend()
        if self.backends and backend not in self.backends:
            *most, last = (BACKENDS[name] for name in self.backends)
            names = f"{', '.join(most)} and {last} backends" if most else f"{last} backend"
            return f"it runs on Keras's {names}, and this is {backend}"
        if self.needs_gpu and not devices.has_gpu():
            return f"it needs a GPU, and Keras's {backend} backend has none here"
        return self.missing()

    def refusal(self, spec: LayerSpec) -> str | None:
        """The reason why it cannot run such a layer here, or `None`."""
        # In this order, because `refuses` may read a table in a library that `missing` has to find first.
        return self.unavailable() or self.refuses(spec)

    @property
    def for_xla(self) -> bool:
        """Whether XLA can compile its operations on this backend."""
        return keras.backend.backend() not in self.not_for_xla_on
