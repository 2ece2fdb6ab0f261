"""cuDNN's LSTM, called through each Keras backend: sigmoid gates, tanh for candidate and hidden state.

Each backend has one function that calls cuDNN; masks, directions and weights are handled here for all of them.

cuDNN reads every row from its first step to its last. For a mask, the valid steps of a row are moved to its front
(`valid_first`), and padding must keep the cell state: an additional input channel p, 1 on padding and 0 elsewhere,
closes the input gate and opens the forget gate,

    i = sigmoid(... - HOLD p) = 0
    f = sigmoid(... + HOLD p) = 1
    c' = f * c + i * g = c                 both exact in every floating type, and so are their slopes, 0

so the last c is that of the last valid step, and the last h is gathered from the outputs. cuDNN also accepts row
lengths, but the backends need them in the memory of the CPU, which would wait for the GPU at every call, and rows
without a valid step are an error then.
"""

import keras
import numpy as np
from keras import ops

from zoo.kernels.contract import LayerSpec, Operands, Options, Outputs, published_activation, unusual_gate
from zoo.kernels.masking import masked_outputs, restore, valid_first
from zoo.types import Tensor

HOLD = 8192.0  # outweighs every trained weight; as a power of two it is exact in TF32 and half precision
ALIGNED = 8  # channels: matrix products in half precision are fast with rows of a multiple of 16 bytes

# === What the engine refuses ===


def missing() -> str | None:
    """The reason why cuDNN cannot be called on this machine, or `None`."""
    return None if has_library() else f"the installed {keras.backend.backend()} was built without cuDNN"


def has_library() -> bool:
    """Whether the Keras backend was built with CUDA's cuDNN; ROCm's counterpart orders the gates differently."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return torch.version.cuda is not None and bool(torch.backends.cudnn.is_available())
    if backend == "jax":
        import jax

        return "rocm" not in jax.devices()[0].client.platform_version.lower()
    import tensorflow as tf

    return bool(tf.sysconfig.get_build_info()["is_cuda_build"])


def refuses(spec: LayerSpec) -> str | None:
    """The reason why the engine cannot run such a layer, or `None`."""
    if not spec.use_cudnn:
        return "it has use_cudnn=False"
    gate = unusual_gate(spec.activations) if spec.activations else None
    if gate is not None:
        received, published = getattr(spec.activations, gate), published_activation(gate)
        return f"the activation of its {gate} is {str(received)!r}, and cuDNN's is {str(published)!r}"
    if spec.cell_clip is not None:
        return f"it has cell_clip={spec.cell_clip}, and no backend passes a bound to cuDNN"
    if spec.recurrent_dropout:
        return f"it has recurrent_dropout={spec.recurrent_dropout}, and cuDNN drops nothing between steps"
    if spec.dtype == "float64" and keras.backend.backend() == "jax":
        return "it computes in float64, and JAX calls cuDNN in float32 only"
    return None


def computes_in(dtype: str) -> str:
    """The type of the operands for a layer that computes in `dtype`: JAX calls cuDNN in float32 only.

    Example:
    >>> computes_in("float32")
    'float32'
    """
    return "float32" if keras.backend.backend() == "jax" else dtype


# === A call ===


def lstm(operands: Operands, options: Options) -> Outputs:
    """Run the recurrence of `zoo.kernels.reference.lstm_step` over a sequence; a `zoo.kernels.contract.Run`."""
    x, kernel, mask = operands.x, operands.kernel, operands.mask
    if operands.dropout is not None:
        x, kernel = _with_input_of_each_gate(x, kernel, operands.dropout)
    if options.go_backwards:
        x, mask = ops.flip(x, axis=1), None if mask is None else ops.flip(mask, axis=1)
    if mask is not None:
        x, valid, count = valid_first(x, mask)
        x, kernel = _with_hold(x, kernel, valid)
    call = {"jax": _on_jax, "torch": _on_torch, "tensorflow": _on_tensorflow}[keras.backend.backend()]
    outputs, h, c = call(x, operands.h, operands.c, packed(kernel, operands.recurrent_kernel, operands.bias))
    if mask is None:
        return outputs if options.return_sequences else h, h, c
    read = slice(None) if options.return_sequences else slice(-1, None)
    outputs = restore(outputs, count[:, read])
    h = ops.where(count[:, -1:] > 0, outputs[:, -1], operands.h)
    outputs = outputs if options.return_sequences else outputs[:, 0]
    return masked_outputs(outputs, mask, options.zero_output_for_mask, count), h, c


def packed(kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor | None) -> Tensor:
    """The weights in cuDNN's layout: [W^T, U^T, b, 0], each flattened, gates in Keras's order i, f, c, o.

    cuDNN adds a bias to each of the two products; the second bias is zero.

    Args:
        kernel: W, (d, 4 n).
        recurrent_kernel: U, (n, 4 n).
        bias: b, (4 n,), or `None` for zeros.

    Returns:
        (4 n (d + n + 2),).

    Example:
    >>> [float(w) for w in packed(ops.array([[1.0, 2, 3, 4]]), ops.array([[5.0, 6, 7, 8]]), None)]
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    zeros = ops.zeros_like(kernel[0])
    parts = (ops.transpose(kernel), ops.transpose(recurrent_kernel), zeros if bias is None else bias, zeros)
    return ops.concatenate([ops.reshape(part, (-1,)) for part in parts])


def _with_hold(x: Tensor, kernel: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Add the channel p, and channels of zeros up to a multiple of `ALIGNED`, to the inputs and to the kernel."""
    channels, units = kernel.shape[0], kernel.shape[1] // 4
    added = ALIGNED - channels % ALIGNED
    padding = ops.cast(ops.logical_not(valid), x.dtype)[:, :, None]
    rows = np.zeros((added, 4 * units))
    rows[0, :units], rows[0, units : 2 * units] = -HOLD, HOLD
    x = ops.concatenate([x, ops.pad(padding, ((0, 0), (0, 0), (0, added - 1)))], axis=2)
    return x, ops.concatenate([kernel, ops.convert_to_tensor(rows, dtype=kernel.dtype)], axis=0)


def _with_input_of_each_gate(x: Tensor, kernel: Tensor, dropout: Tensor) -> tuple[Tensor, Tensor]:
    """Join the four inputs that gates with separate dropout receive, each with the columns of its gate."""
    channels, units = kernel.shape[0], kernel.shape[1] // 4
    copies = [x * dropout[gate][:, None, :channels] for gate in range(4)]
    diagonal = np.kron(np.eye(4), np.ones((channels, units)))  # ones where a copy meets the columns of its gate
    kernel = ops.tile(kernel, (4, 1)) * ops.convert_to_tensor(diagonal, dtype=kernel.dtype)
    return ops.concatenate(copies, axis=2), kernel


# === cuDNN, as each backend calls it: x (b, t, d), h and c (b, n), the packed weights ===


def _on_jax(x: Tensor, h: Tensor, c: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    import jax.numpy as jnp
    from jax.experimental import rnn

    batch, steps, channels = x.shape
    lengths = jnp.full((batch,), steps, "int32")
    sizes = (channels, h.shape[1], 1, 0.0, False)  # one layer, no dropout, one direction
    if isinstance(batch, int) and isinstance(steps, int):
        outputs, h, c = rnn.lstm(x, h[None], c[None], weights, lengths, *sizes)
    else:  # traced with unknown sizes, to infer shapes or for export; cuDNN needs to know them
        parts = rnn.unpack_lstm_weights(weights, channels, h.shape[1], 1, False)
        outputs, h, c = rnn.lstm_ref(x, h[None], c[None], *parts, lengths, *sizes)
    return outputs, h[0], c[0]


def _on_tensorflow(x: Tensor, h: Tensor, c: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    import tensorflow as tf

    outputs, h, c, *_ = tf.raw_ops.CudnnRNNV3(
        input=x,
        input_h=h[:, tf.newaxis],
        input_c=c[:, tf.newaxis],
        params=weights,
        sequence_lengths=tf.fill([tf.shape(x)[0]], tf.shape(x)[1]),
        rnn_mode="lstm",
        is_training=True,  # at inference too, since otherwise the operation has no gradient
        time_major=False,
    )
    return outputs, h[:, 0], c[:, 0]


def _on_torch(x: Tensor, h: Tensor, c: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    channels, units = x.shape[2], h.shape[1]
    # Views of contiguous memory: separate weights torch would copy into such memory at every call, with a warning.
    w, u, *biases = weights.split([4 * units * channels, 4 * units * units, 4 * units, 4 * units])
    outputs, h, c = torch._VF.lstm(
        x,
        (h[None].contiguous(), c[None].contiguous()),
        [w.view(-1, channels), u.view(-1, units), *biases],
        True,  # biases
        1,  # layers
        0.0,  # dropout between layers
        torch.is_grad_enabled(),  # as training: it keeps what the backward pass needs
        False,  # both directions
        True,  # batch first
    )
    return outputs, h[0], c[0]
