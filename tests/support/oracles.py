"""The published equations, written a second time in NumPy and float64: what the library is judged by."""

import math

import numpy as np
from scipy.special import erf, expit, softmax

# name -> the published definition, at the table's default parameters
ORACLE = {
    "linear": lambda x: x,
    "sigmoid": expit,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "tanh": np.tanh,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "leaky_relu": lambda x: np.where(x < 0, 0.2 * x, x),
    "prelu": lambda x: np.where(x < 0, 0.25 * x, x),
    "rrelu": lambda x: np.where(x < 0, (1 / 8 + 1 / 3) / 2 * x, x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.maximum(x, 0) + np.minimum(0, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "silu": lambda x: x * expit(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "penalized_tanh": lambda x: np.where(x > 0, 1.0, 0.25) * np.tanh(x),
    "elliott": lambda x: 0.5 * x / (1 + np.abs(x)) + 0.5,
    "cloglogm": lambda x: 1 - 2 * np.exp(-0.7 * np.exp(np.minimum(x, 50))),
    "softmax": lambda x: softmax(x, axis=-1),
}


def lstm(x, kernel, recurrent_kernel, bias, functions, mask=None, h=None, c=None, cell_clip=None):
    """Every hidden state of an LSTM, (batch, steps, units).

    i, f, g, o are the four blocks of columns in that order; a masked step repeats the output of the one before (zeros
    at first) and leaves both states as they were. `cell_clip` bounds the new cell state; NumPy's clip keeps a NaN.
    """
    units = recurrent_kernel.shape[0]
    h = np.zeros((len(x), units)) if h is None else h
    c = np.zeros((len(x), units)) if c is None else c
    output, outputs = np.zeros((len(x), units)), []
    input_gate, forget_gate, candidate, output_gate, hidden = functions
    for t in range(x.shape[1]):
        z = x[:, t] @ kernel + h @ recurrent_kernel + bias
        i, f = input_gate(z[:, :units]), forget_gate(z[:, units : 2 * units])
        g, o = candidate(z[:, 2 * units : 3 * units]), output_gate(z[:, 3 * units :])
        new_c = f * c + i * g
        new_c = new_c if cell_clip is None else np.clip(new_c, -cell_clip, cell_clip)
        new_h = o * hidden(new_c)
        keep = np.ones((len(x), 1), bool) if mask is None else mask[:, t : t + 1]
        h, c, output = np.where(keep, new_h, h), np.where(keep, new_c, c), np.where(keep, new_h, output)
        outputs.append(output)
    return np.stack(outputs, 1)
