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
    "parametric_swish": lambda x: x * expit(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "penalized_tanh": lambda x: np.where(x > 0, 1.0, 0.25) * np.tanh(x),
    "elliott": lambda x: 0.5 * x / (1 + np.abs(x)) + 0.5,
    "cloglogm": lambda x: 1 - 2 * np.exp(-0.7 * np.exp(np.minimum(x, 50))),
    "softmax": lambda x: softmax(x, axis=-1),
}


def exactly(h):
    """The state as it is; tests of engines that multiply in half precision round it there, see `lstm`."""
    return h


def lstm(x, kernel, recurrent_kernel, bias, functions, mask=None, h=None, c=None, cell_clip=None, multiplied=exactly):
    """Every hidden state of an LSTM, (batch, steps, units).

    i, f, g, o are the four blocks of columns in that order; a masked step repeats the output of the one before (zeros
    at first) and leaves both states as they were. `cell_clip` bounds the new cell state; NumPy's clip keeps a NaN.
    `multiplied(h)` is what is multiplied with the recurrent kernel.
    """
    units = recurrent_kernel.shape[0]
    h = np.zeros((len(x), units)) if h is None else h
    c = np.zeros((len(x), units)) if c is None else c
    output, outputs = np.zeros((len(x), units)), []
    input_gate, forget_gate, candidate, output_gate, hidden = functions
    for t in range(x.shape[1]):
        z = x[:, t] @ kernel + multiplied(h) @ recurrent_kernel + bias
        i, f = input_gate(z[:, :units]), forget_gate(z[:, units : 2 * units])
        g, o = candidate(z[:, 2 * units : 3 * units]), output_gate(z[:, 3 * units :])
        new_c = f * c + i * g
        new_c = new_c if cell_clip is None else np.clip(new_c, -cell_clip, cell_clip)
        new_h = o * hidden(new_c)
        keep = np.ones((len(x), 1), bool) if mask is None else mask[:, t : t + 1]
        h, c, output = np.where(keep, new_h, h), np.where(keep, new_c, c), np.where(keep, new_h, output)
        outputs.append(output)
    return np.stack(outputs, 1)


def _logistic_slope(x):
    return expit(x) * expit(-x)


# name -> the derivative as a textbook gives it, at the table's default parameters
SLOPES = {
    "linear": np.ones_like,
    "sigmoid": _logistic_slope,
    "hard_sigmoid": lambda x: np.where(np.abs(x) < 3, 1 / 6, 0.0),
    "tanh": lambda x: 1 / np.cosh(x) ** 2,
    "hard_tanh": lambda x: np.where(np.abs(x) < 1, 1.0, 0.0),
    "softsign": lambda x: (1 + np.abs(x)) ** -2.0,
    "relu": lambda x: np.where(x > 0, 1.0, 0.0),
    "relu6": lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0),
    "leaky_relu": lambda x: np.where(x > 0, 1.0, 0.2),
    "prelu": lambda x: np.where(x > 0, 1.0, 0.25),
    "elu": lambda x: np.exp(np.minimum(x, 0)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, 1.0, 1.6732632423543772 * np.exp(np.minimum(x, 0))),
    "celu": lambda x: np.exp(np.minimum(x, 0)),
    "gelu": lambda x: 0.5 * (1 + erf(x / math.sqrt(2))) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    "silu": lambda x: expit(x) + x * _logistic_slope(x),
    "parametric_swish": lambda x: expit(x) + x * _logistic_slope(x),
    "mish": lambda x: np.tanh(np.logaddexp(0, x)) + x * expit(x) / np.cosh(np.logaddexp(0, x)) ** 2,
    "softplus": expit,
    "penalized_tanh": lambda x: np.where(x > 0, 1.0, 0.25) / np.cosh(x) ** 2,
    "elliott": lambda x: 0.5 * (1 + np.abs(x)) ** -2.0,
    "cloglogm": lambda x: 1.4 * np.exp(x - 0.7 * np.exp(np.minimum(x, 50))),
}


def lstm_gradients(x, weights, names, upstream, mask, h, c, cell_clip=None, multiplied=exactly):
    """Gradients of sum(outputs * upstream) through `lstm`, by the chain rule from the last step to the first.

    Args:
        x: (batch, steps, channels); the sequence is read forwards.
        weights: Kernel, recurrent kernel, bias.
        names: The five activations, at their default parameters.
        upstream: (batch, steps, units).
        mask: Bool (batch, steps).
        h: Initial hidden state.
        c: Initial cell state.
        cell_clip: Bound of the cell state.
        multiplied: As in `lstm`; its own derivative is taken to be 1.

    Returns:
        The gradients of x, kernel, recurrent kernel, bias, h and c.
    """
    kernel, recurrent_kernel, bias = weights
    units, steps = recurrent_kernel.shape[0], x.shape[1]
    tape = []
    for t in range(steps):
        z = np.split(x[:, t] @ kernel + multiplied(h) @ recurrent_kernel + bias, 4, axis=1)
        i, f, g, o = (ORACLE[name](part) for name, part in zip(names, z, strict=False))
        raw = f * c + i * g
        new = raw if cell_clip is None else np.clip(raw, -cell_clip, cell_clip)
        tape.append((z, (i, f, g, o), h, c, raw, new))
        keep = mask[:, t : t + 1]
        h, c = np.where(keep, o * ORACLE[names[4]](new), h), np.where(keep, new, c)
    d_x, d_kernel, d_recurrent, d_bias = (np.zeros_like(a) for a in (x, kernel, recurrent_kernel, bias))
    d_h = d_c = d_output = np.zeros((len(x), units))
    for t in reversed(range(steps)):
        z, (i, f, g, o), h, c, raw, new = tape[t]
        keep = mask[:, t : t + 1]
        d_output = d_output + upstream[:, t]
        d_new_h = d_h + d_output
        d_raw = d_c + d_new_h * o * SLOPES[names[4]](new)
        if cell_clip is not None:
            d_raw = np.where(np.abs(raw) > cell_clip, 0.0, d_raw)
        parts = (d_raw * g, d_raw * c, d_raw * i, d_new_h * ORACLE[names[4]](new))
        d_z = np.concatenate([d * SLOPES[n](part) for d, n, part in zip(parts, names, z, strict=False)], axis=1)
        d_z = np.where(keep, d_z, 0.0)
        d_x[:, t] = d_z @ kernel.T
        d_kernel += x[:, t].T @ d_z
        d_recurrent += h.T @ d_z
        d_bias += d_z.sum(0)
        d_h, d_c = np.where(keep, d_z @ recurrent_kernel.T, d_h), np.where(keep, d_raw * f, d_c)
        d_output = np.where(keep, 0.0, d_output)
    return d_x, d_kernel, d_recurrent, d_bias, d_h, d_c
