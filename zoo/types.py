"""Types that all parts share: a tensor of any backend, and one value for each gate of an LSTM."""

from typing import Any, Generic, NamedTuple, TypeVar

Tensor = Any  # a tensor of the Keras backend
Tensors = tuple[Any, ...]

Value = TypeVar("Value")


class Gates(NamedTuple, Generic[Value]):
    """A value for each gate, in the order of the columns of the kernels, and for the hidden activation.

    Example:
    >>> Gates("sigmoid", "sigmoid", "tanh", "sigmoid", hidden="relu").candidate
    'tanh'
    """

    input_gate: Value
    forget_gate: Value
    candidate: Value
    output_gate: Value
    hidden: Value
