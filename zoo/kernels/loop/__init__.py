"""The loop engine: the LSTM recurrence with a hand-written gradient, on every Keras backend and for any activation.

`passes.py` has the forward and the backward pass over z = x W + b. This module prepares their inputs and checks what
the engine supports. From the gradient of z the backend derives those of W, b and x: one product or sum each.
"""

import functools
import random

import keras
from keras import ops

from zoo.activations import LayerActivation
from zoo.kernels.contract import LayerSpec, Operands, Options, Outputs
from zoo.kernels.gradient import differentiable
from zoo.kernels.loop.passes import Passes
from zoo.kernels.loop.products import product
from zoo.kernels.masking import masked_outputs, without_masked
from zoo.kernels.target import vectorised
from zoo.types import Tensor


def refuses(spec: LayerSpec) -> str | None:
    """The reason why the engine cannot run such a layer, or `None`: weights of an activation layer get no gradient.

    Example:
    >>> from zoo.activations import get
    >>> from zoo.types import Gates
    >>> refuses(LayerSpec(Gates(*[get(keras.layers.LeakyReLU(0.1))] * 5))) is None
    True
    >>> refuses(LayerSpec(Gates(*[get(keras.layers.PReLU())] * 5)))
    "the activation of its input_gate is a PReLU layer, which has weights of its own; ..."
    """
    for gate, activation in spec.by_gate:
        if isinstance(activation, LayerActivation) and _has_weights(activation, spec.units or 1):
            name = type(activation.make()).__name__
            return (
                f"the activation of its {gate} is a {name} layer, which has weights of its own; a name such as 'prelu' "
                "gives the gate slopes that the engine can train"
            )
    return None


@functools.cache
def _has_weights(activation: LayerActivation, units: int) -> bool:
    """Whether the layer has variables once it is built, the state of a seed included."""
    state = random.getstate()  # Keras draws seeds from Python's generator, and this check must not change later draws
    try:
        layer = activation.make()
        layer.build((None, units))
    finally:
        random.setstate(state)
    return bool(layer.variables)


def lstm(operands: Operands, options: Options) -> Outputs:
    """Run the recurrence of `zoo.kernels.reference.lstm_step` over a sequence.

    An activation that is a function gets a gradient only for its argument. See `zoo.kernels.contract.Run`.
    """
    return _run(operands, options, by_hand=True)


def plain_lstm(operands: Operands, options: Options, z_offset: Tensor | None = None) -> Outputs:
    """Run the same recurrence in operations that the backend can differentiate repeatedly and in every mode.

    Used for the derivatives that an engine lacks: see `zoo.kernels.derivatives`.

    Args:
        operands: The tensors of the call.
        options: The options of the call.
        z_offset: Added to the preactivations, (b, t, 4 n), in order to get their gradient; or `None`.
    """
    return _run(operands, options, by_hand=False, z_offset=z_offset, unrolled=vectorised(operands.x))


def _run(
    operands: Operands, options: Options, by_hand: bool, z_offset: Tensor | None = None, unrolled: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    # Before the product, so that a NaN in the padding reaches neither z nor the gradient of W.
    x = _time_major(without_masked(operands.x, operands.mask), options)
    mask = None if operands.mask is None else _time_major(operands.mask, options)
    x_factors = h_factors = None
    if operands.dropout is not None:
        x_factors, h_factors = ops.split(operands.dropout, [x.shape[-1]], axis=-1)
    # z = x W + b for all steps in one product; the loop adds h U.
    z = product(operands.kernel, x_factors, _times)(x)
    z = z if operands.bias is None else z + operands.bias
    z = z if z_offset is None else z + _time_major(z_offset, options)
    valid = None if mask is None else mask[..., None]
    tensors = (z, operands.recurrent_kernel, operands.h, operands.c, valid, h_factors, *operands.slopes)
    dtype = keras.backend.standardize_dtype(operands.x.dtype)
    passes = Passes(options, tuple(tensor is not None for tensor in tensors), dtype, unrolled)
    run = passes.infer
    if by_hand:
        run = differentiable(passes.forward, passes.backward, passes.infer, options.training)
    hidden, cell = run(*(tensor for tensor in tensors if tensor is not None))
    # A masked step repeats the state, so the last step has the last state of every row.
    last = hidden[-1] if options.return_sequences else hidden
    hidden = ops.swapaxes(hidden, 0, 1) if options.return_sequences else hidden
    mask = None if mask is None else ops.swapaxes(mask, 0, 1)
    return masked_outputs(hidden, mask, options.zero_output_for_mask), last, cell


def _time_major(tensor: Tensor, options: Options) -> Tensor:
    tensor = ops.swapaxes(tensor, 0, 1)
    return ops.flip(tensor, axis=0) if options.go_backwards else tensor


def _times(x: Tensor, kernel: Tensor) -> Tensor:
    """(t, b, d) @ (d, k) as one product of two matrices."""
    steps, batch, channels = ops.shape(x)
    return ops.reshape(ops.reshape(x, (-1, channels)) @ kernel, (steps, batch, kernel.shape[-1]))
