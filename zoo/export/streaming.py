"""Models that read a sequence in pieces.

The model is traced unchanged, except for the calls of layers that need earlier steps. What such a layer needs is a
state, a tensor that the client sends along and gets back. At the beginning all states are zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from zoo.export.rules import OPERATIONS, RULES, Chunk, ChunkCall, Layer, NotStreamable, Rule, Shapes, where
from zoo.interception import intercepted
from zoo.types import Tensor


@dataclass(frozen=True)
class Plan:
    """How a model reads a sequence in pieces.

    Attributes:
        model: The model.
        calls: Replacements for the calls of some layers.
        states: Shape of each state without the batch axis, by full name.
    """

    model: keras.Model
    calls: Mapping[Layer, ChunkCall]
    states: Shapes

    def run(self, features: Tensor, chunk: Chunk) -> Tensor:
        """The model's output after this piece, or for each of its steps; fills `chunk.after`."""

        def on_chunk(layer: Layer, original: Any, arguments: dict[str, Any]) -> Tensor:
            return self.calls[layer](layer, chunk, arguments)

        with intercepted(self.calls, on_chunk):
            return self.model({"features": features, "lengths": chunk.lengths}, training=False)


def plan(model: keras.Model) -> Plan:
    """Plan how `model` reads a sequence in pieces.

    Raises:
        NotStreamable: The model needs later steps, or has a layer without a rule.

    Example:
    >>> from zoo.models import SequenceTask, build
    >>> plan(build("lstm", SequenceTask(channels=3, classes=2), units=4)).states
    {'lstm_1_hidden': (4,), 'lstm_1_cell': (4,)}
    >>> plan(build("lstm", SequenceTask(channels=3, classes=2), bidirectional=True))
    Traceback (most recent call last):
    NotStreamable: layer 'bidirectional_1' (Bidirectional) reads the sequence backwards too
    """
    calls: dict[Layer, ChunkCall] = {}
    states: Shapes = {}
    [lengths] = [tensor for tensor in model.inputs if tensor.name == "lengths"]
    for operation in model.operations:
        if isinstance(operation, keras.layers.InputLayer) or not _reads_steps(operation, lengths):
            continue
        rule = _rule(operation)
        needed = {f"{operation.name}_{name}": shape for name, shape in rule.states(operation).items()}
        if rule.call is not None:
            calls[operation] = rule.call
        states |= needed
    return Plan(model, calls, states)


def _reads_steps(operation: Any, lengths: Any) -> bool:
    """Whether an operation works on sequences; after these there is one answer, on which any layer may work."""
    if len(operation._inbound_nodes) > 1:
        raise NotStreamable(f"{where(operation)} is used more than once")
    inputs = [tensor for tensor in keras.tree.flatten(operation.input) if tensor is not lengths]
    steps = [len(tensor.shape) > 1 and tensor.shape[1] is None for tensor in inputs]
    if any(steps) and not all(steps):
        raise NotStreamable(f"{where(operation)} combines single steps with a result of the whole sequence")
    return any(steps)


def _rule(operation: Any) -> Rule:
    # The exact class, because a subclass may do anything with the steps.
    rule = RULES.get(type(operation)) or OPERATIONS.get(f"{type(operation).__module__}.{type(operation).__name__}")
    if rule is None:
        raise NotStreamable(f"{where(operation)} has no rule for pieces of a sequence")
    return rule
