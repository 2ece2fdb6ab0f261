"""The LSTM step as published, in `keras.ops`. Every faster engine must give the same results."""

from collections.abc import Callable

from keras import ops

from zoo.types import Gates, Tensor

Function = Callable[[Tensor], Tensor]


def clip_cell(cell: Tensor, bound: float) -> Tensor:
    """Clip `cell` to [-bound, bound], with slope 1 inside and 0 outside; a NaN stays a NaN.

    Example:
    >>> [float(c) for c in clip_cell(ops.array([-3.0, 0.5, float("inf"), float("nan")]), 2.0)]
    [-2.0, 0.5, 2.0, nan]
    """
    # Not minimum and maximum: with a NaN some of their kernels return the bound.
    limit = ops.full_like(cell, bound)
    return ops.where(cell > limit, limit, ops.where(cell < -limit, -limit, cell))


def lstm_step(
    preactivations: tuple[Tensor, ...], cell: Tensor, functions: Gates[Function], cell_clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """One step of the LSTM, from the preactivations to the new states.

        i = input_gate(z_i)
        f = forget_gate(z_f)
        g = candidate(z_c)
        o = output_gate(z_o)
        c' = clip(f * c + i * g, -cell_clip, cell_clip)    (not clipped without `cell_clip`)
        h' = o * hidden(c')

    Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000) and the clipping of Sak et al. (2014).

    Args:
        preactivations: z_i, z_f, z_c, z_o in Keras's order, each (batch, units): the sum of input, recurrence and bias.
        cell: The cell state c before the step, (batch, units).
        functions: The five activations.
        cell_clip: Bound for the new cell state, or `None`.

    Returns:
        The hidden state h' and the cell state c' after the step, each (batch, units).

    Example:
    >>> import numpy as np
    >>> zero = np.zeros((1, 1), "float32")
    >>> h, c = lstm_step((zero, zero, zero + 2, zero), zero + 1, Gates(*[ops.relu6] * 5))
    >>> float(h[0, 0]), float(c[0, 0])
    (0.0, 0.0)
    """
    z_i, z_f, z_c, z_o = preactivations
    i = functions.input_gate(z_i)
    f = functions.forget_gate(z_f)
    g = functions.candidate(z_c)
    o = functions.output_gate(z_o)
    cell = f * cell + i * g
    if cell_clip is not None:
        cell = clip_cell(cell, cell_clip)
    return o * functions.hidden(cell), cell


def split_gates(z: Tensor) -> tuple[Tensor, ...]:
    """Cut (batch, 4 * units) into z_i, z_f, z_c, z_o."""
    return tuple(ops.split(z, 4, axis=-1))
