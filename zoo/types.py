"""What all parts share: a tensor of any backend, and one value for each gate of an LSTM."""

from typing import Any, Generic, NamedTuple, TypeVar

Tensor = Any  # whatever the Keras backend calls a tensor

Value = TypeVar("Value")


class Gates(NamedTuple, Generic[Value]):
    """One value for each gate of an LSTM and for its cell state, in the order in which a step computes them.

    The first four have columns in the kernels, in this order. `Gates._fields` are the names.

    Attributes:
        input_gate: Of the input gate i.
        forget_gate: Of the forget gate f.
        candidate: Of the candidate g.
        output_gate: Of the output gate o.
        hidden: Of the new cell state, before the output gate scales it.

    Example:
    >>> Gates("sigmoid", "sigmoid", "tanh", "sigmoid", hidden="relu").candidate
    'tanh'
    """

    input_gate: Value
    forget_gate: Value
    candidate: Value
    output_gate: Value
    hidden: Value
