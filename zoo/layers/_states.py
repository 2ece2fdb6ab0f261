"""What a caller hands in as the states of a layer before its first step."""

from typing import Any

from keras import ops

from zoo.types import Tensor


def broadcast_states(states: Any, sequences: Tensor) -> Any:
    """The initial states, of which one row, (1, width), stands for a row of the batch each, as in Keras's loop.

    Args:
        states: A tensor or several, each (batch, width) or (1, width), or `None`.
        sequences: (batch, steps, channels).

    Example:
    >>> [tuple(state.shape) for state in broadcast_states([ops.ones((1, 4)), ops.ones((2, 4))], ops.ones((2, 5, 3)))]
    [(2, 4), (2, 4)]
    """
    if states is None:
        return None
    several = list(states) if isinstance(states, list | tuple) else [states]
    if sequences.shape[0] == 1:
        return several
    return [_repeated(state, sequences) if _is_one_row(state) else state for state in several]


def _is_one_row(state: Any) -> bool:
    shape: Any = getattr(state, "shape", ())
    return len(shape) == 2 and shape[0] == 1


def _repeated(state: Tensor, sequences: Tensor) -> Tensor:
    return ops.broadcast_to(state, (ops.shape(sequences)[0], state.shape[1]))
