"""What stands in for cuDNN where there is no GPU to call it on: a function of the same packed arguments.

JAX brings one, PyTorch's own call knows the CPU too, and TensorFlow's is written here.
"""

import keras

from zoo import devices
from zoo.kernels import cudnn

BACKEND = keras.backend.backend()


def called(arguments):
    """What every stand-in is strict about: one floating type, which on JAX is float32."""
    types_of = {keras.backend.standardize_dtype(a.dtype) for a in arguments}
    assert len(types_of) == 1, types_of
    assert BACKEND != "jax" or types_of == {"float32"}


def of_jax(x, h, c, weights, lengths, input_size, hidden_size, num_layers, dropout, bidirectional):
    from jax.experimental import rnn

    called([x, h, c, weights])
    parts = rnn.unpack_lstm_weights(weights, input_size, hidden_size, num_layers, bidirectional)
    return rnn.lstm_ref(x, h, c, *parts, lengths, input_size, hidden_size, num_layers, dropout, bidirectional)


def of_tensorflow(input, input_h, input_c, params, sequence_lengths, rnn_mode, is_training, time_major):
    """CudnnRNNV3: a matrix (units, channels) for each of i, f, c, o, four (units, units), twice four biases."""
    import tensorflow as tf

    called([input, input_h, input_c, params])
    assert (rnn_mode, is_training, time_major) == ("lstm", True, False)
    d, n = input.shape[-1], input_h.shape[-1]
    tf.debugging.assert_equal(sequence_lengths, tf.fill([tf.shape(input)[0]], tf.shape(input)[1]))
    pieces = tf.split(params, [n * d] * 4 + [n * n] * 4 + [n] * 8)
    inward = [tf.reshape(piece, (n, d)) for piece in pieces[:4]]
    back = [tf.reshape(piece, (n, n)) for piece in pieces[4:8]]

    def step(state, x):
        h, c = state
        i, f, g, o = (
            tf.matmul(x, w, transpose_b=True) + b + tf.matmul(h, u, transpose_b=True) + r
            for w, u, b, r in zip(inward, back, pieces[8:12], pieces[12:], strict=True)
        )
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    hidden, cell = tf.scan(step, tf.transpose(input, [1, 0, 2]), (input_h[:, 0], input_c[:, 0]))
    nothing = tf.zeros((0,))
    return tf.transpose(hidden, [1, 0, 2]), hidden[-1][:, None], cell[-1][:, None], nothing, nothing


class Counted:
    """A function that knows how often it was called, and with what the last time."""

    def __init__(self, function):
        self.function, self.calls, self.arguments = function, 0, None

    def __call__(self, *arguments, **named):
        self.calls, self.arguments = self.calls + 1, (arguments, named)
        return self.function(*arguments, **named)


def stand_in(patch):
    """Put the stand-in where cuDNN would be called."""
    patch.setattr(devices, "has_gpu", lambda: True)
    patch.setattr(cudnn, "has_library", lambda: True)
    if BACKEND == "torch":
        import torch

        counted = Counted(torch._VF.lstm)
        patch.setattr(torch._VF, "lstm", counted)
    elif BACKEND == "jax":
        from jax.experimental import rnn

        counted = Counted(of_jax)
        patch.setattr(rnn, "lstm", counted)
    else:
        import tensorflow as tf

        counted = Counted(of_tensorflow)
        patch.setattr(tf.raw_ops, "CudnnRNNV3", counted)
    return counted
